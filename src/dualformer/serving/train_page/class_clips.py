"""Clips of visitors in a folder per class, as every verb takes it, with bounds on what they take."""

import secrets
import shutil
import threading
import time
import unicodedata
from pathlib import Path
from typing import Any

from dualformer.datasets.samples import DatasetError, check_class_names, first_few
from dualformer.serving.limits import ClipLimits
from dualformer.serving.request_error import RequestError, quoted
from dualformer.video.file_formats import VIDEO_EXTENSIONS

FEWEST_CLASSES = FEWEST_CLIPS = 2
"""Of a training: classes to tell apart, and clips of each, one of which is validated on."""
_MOST_LETTERS, _MOST_BYTES = 60, 200
"""Of a class's name; file systems take 255 bytes."""
_FORBIDDEN = '/\\:*?"<>|;'
"""Characters that some file system, or a table of labels, takes for something else."""
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
"""Names that Windows keeps for devices, whatever follows a dot."""


def checked_class_name(name: str) -> str:
    """Returns a visitor's name for a class as the name of its folder on any file system.

    Raises ``RequestError`` for a name that is none, is too long, or that some file system would not keep.
    """
    name = unicodedata.normalize("NFC", name.strip())

    def refused(why: str) -> RequestError:
        return RequestError("bad_request", f"the class {quoted(name)} {why}: choose another name")

    if not name:
        raise RequestError("bad_request", "the class has no name: give it one")
    if len(name) > _MOST_LETTERS or len(name.encode(errors="replace")) > _MOST_BYTES:
        raise refused(f"has a name of more than {_MOST_LETTERS} letters or {_MOST_BYTES} bytes")
    if bad := [letter for letter in name if letter in _FORBIDDEN]:
        raise refused(f"holds {bad[0]!r}, which not every file system takes")
    if name[0] in "._" or name[-1] == ".":
        raise refused("begins with a dot or an underscore, or ends with a dot")
    if name.partition(".")[0].rstrip().lower() in _DEVICES:
        raise refused("has the name of a device of Windows")
    try:
        check_class_names([name], "this page")
    except DatasetError as error:
        raise refused("is not one line of text") from error
    return name


class ClassClips:
    """The clips in ``folder``, one folder a class. All methods may be called from any thread.

    ``folder`` is made if needed, and files of earlier servers, or put there by hand, count as well.
    """

    def __init__(self, folder: Path, limits: ClipLimits | None = None) -> None:
        self.folder, self.limits = folder, limits or ClipLimits()
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def classes(self) -> dict[str, list[Path]]:
        """Returns the clips of every class, oldest first, classes by name."""
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        return {folder.name: sorted(path for path in folder.iterdir() if _is_clip(path)) for folder in folders}

    def to_dict(self) -> list[dict[str, Any]]:
        """Returns the classes with the names of their clips, ready for JSON."""
        return [{"name": name, "clips": [path.name for path in clips]} for name, clips in self.classes().items()]

    def check_trainable(self) -> None:
        """Raises ``RequestError`` for too few classes, or too few clips of one."""
        classes = self.classes()
        if len(classes) < FEWEST_CLASSES:
            raise RequestError("conflict", f"training tells at least {FEWEST_CLASSES} classes apart: add one")
        if few := [name for name, clips in classes.items() if len(clips) < FEWEST_CLIPS]:
            raise RequestError(
                "conflict",
                f"training takes at least {FEWEST_CLIPS} clips of each class, and more are better: add some to "
                f"{first_few(few)}, or delete the class",
            )

    def add_class(self, name: str, *, exist_ok: bool = False) -> str:
        """Makes the folder of a class and returns its name; with ``exist_ok`` it may be there already.

        Raises ``RequestError`` for a name that cannot be one, that is there already or differs from another one by
        capitals alone, and for more classes than there may be.
        """
        name = checked_class_name(name)
        with self._lock:
            known = {each.casefold(): each for each in self.classes()}
            same = known.get(name.casefold(), name)
            if same != name:
                raise RequestError(
                    "bad_request",
                    f"the class {quoted(name)} differs from {quoted(same)} by capitals alone: choose another name",
                )
            is_new = name not in known.values()
            if not (is_new or exist_ok):
                raise RequestError("conflict", f"there is a class {quoted(name)} already: add clips to it")
            if is_new and len(known) >= self.limits.classes:
                raise RequestError("conflict", f"there are {len(known)} classes, the most there may be: delete one")
            (self.folder / name).mkdir(exist_ok=True)
        return name

    def check_room(self) -> None:
        """Raises ``RequestError`` where no further clip has room."""
        clips = [path for paths in self.classes().values() for path in paths]
        if len(clips) >= self.limits.clips:
            raise RequestError("conflict", f"there are {len(clips)} clips, the most there may be: delete some")
        if sum(path.stat().st_size for path in clips) >= self.limits.bytes:
            mib = self.limits.bytes / 2**20
            raise RequestError("conflict", f"the clips take {mib:.4g} MiB, the most they may: delete some")

    def add(self, name: str, file: Path, source: str) -> str:
        """Moves ``file``, a video on the same disk that a visitor called ``source``, to a class; returns its new name.

        Errors: those of `add_class` and `check_room`, and of `clip_suffix`.
        """
        suffix = clip_suffix(source)
        folder = self.folder / self.add_class(name, exist_ok=True)
        with self._lock:
            self.check_room()
            clip = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}{suffix}"
            file.replace(folder / clip)
        return clip

    def clip(self, name: str, clip: str) -> Path:
        """Returns the path of a clip. Raises ``RequestError`` where there is none."""
        found = next((path for path in self.classes().get(name, ()) if path.name == clip), None)
        if found is None:
            raise RequestError("not_found", "there is no such clip: it may have been deleted")
        return found

    def remove(self, name: str, clip: str | None = None) -> None:
        """Deletes a clip, or a class with all of its clips. Raises ``RequestError`` where there is none."""
        with self._lock:
            if clip is not None:
                self.clip(name, clip).unlink(missing_ok=True)
            elif name in self.classes():
                shutil.rmtree(self.folder / name)
            else:
                raise RequestError("not_found", "there is no such class: it may have been deleted")


def clip_suffix(source: str) -> str:
    """Returns the extension of a visitor's name for a video, in small letters.

    Raises ``RequestError`` for one by which the file would not count as a video.
    """
    suffix = Path(source).suffix.lower()
    if suffix not in VIDEO_EXTENSIONS:
        raise RequestError(
            "unsupported_file", f"{quoted(source)} has no name of a video: send one that ends in .mp4, .webm, .mov, …"
        )
    return suffix


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_EXTENSIONS and not path.name.startswith(".") and path.is_file()
