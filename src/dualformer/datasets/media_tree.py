"""Walks a folder and tells what in it is data: the one rule of all verbs, with a count of what is left out and why."""

import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dualformer.datasets.samples import DatasetError, first_few
from dualformer.files import is_lock
from dualformer.plurals import counted
from dualformer.remote_files import list_below
from dualformer.remote_paths import RemotePath
from dualformer.video.file_formats import is_media, is_of_another_program, sidecar_images

_log = logging.getLogger("dualformer")

_OTHER_KINDS = "files that are neither videos nor images"
_SIDECARS = "images of videos beside them"
_WRITTEN = "files and folders that dualformer wrote"
_FOREIGN = "files and folders of other programs"
_HIDDEN = "hidden files and folders"
_UNREADABLE = "files and folders that cannot be read"
_DEAD_LINKS = "links that lead nowhere"
_LOOPS = "links to folders that are searched already"
_REASONS = {
    _OTHER_KINDS: "file that is neither a video nor an image",
    _SIDECARS: "image of a video beside it",
    _WRITTEN: "file or folder that dualformer wrote",
    _FOREIGN: "file or folder of another program",
    _HIDDEN: "hidden file or folder",
    _UNREADABLE: "file or folder that cannot be read",
    _DEAD_LINKS: "link that leads nowhere",
    _LOOPS: "link to a folder that is searched already",
}
"""Why something is left out, in words for several and for one."""

_RUN_FILES = {"metrics.jsonl", "checkpoints", "split.csv", "clips.png", "last.safetensors", "best.safetensors"}


@dataclass(kw_only=True)
class MediaFolder:
    """A folder that is searched, with what in it is data."""

    path: Path
    files: list[Path] = field(default_factory=list)
    """Videos and images, by name."""
    folders: list["MediaFolder"] = field(default_factory=list)
    """By name."""

    def walk(self) -> Iterator["MediaFolder"]:
        """Yields this folder and those in it, however deep."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting += folder.folders


@dataclass(frozen=True, kw_only=True)
class MediaTree:
    """What `walk_media` found. ``left_out``: paths by reason."""

    root: MediaFolder
    left_out: Mapping[str, tuple[Path, ...]]

    @property
    def files(self) -> list[Path]:
        """All videos and images, sorted."""
        return sorted(path for folder in self.root.walk() for path in folder.files)

    def describe_left_out(self, *, other_kinds: bool = True) -> str:
        """Returns one line that counts what is left out by reason, empty for nothing.

        ``other_kinds``: files that are neither videos nor images are among it.
        """
        return "; ".join(
            f"{counted(len(paths), _REASONS[reason], reason)} left out: {first_few(path.name for path in paths)}"
            for reason, paths in self.left_out.items()
            if other_kinds or reason != _OTHER_KINDS
        )

    def log_left_out(self, *, other_kinds: bool = True) -> None:
        """Logs what `describe_left_out` returns, if there is anything."""
        if line := self.describe_left_out(other_kinds=other_kinds):
            _log.warning("%s: %s", self.root.path, line)


def walk_media(root: Path) -> MediaTree:
    """Searches the folder ``root`` all the way down, also one at a URL.

    Data are files whose names are a video's or an image's. Left out are hidden files and folders, what other programs
    leave behind, images that were made of a video beside them, what dualformer wrote (runs, evaluations, timelines,
    explanations), folders that cannot be read, links that lead nowhere, and links to folders that are searched by
    another way, and other kinds of files. Other links are followed. Raises `DatasetError` where ``root`` cannot be
    read.
    """
    return _Walk(root).tree()


@dataclass(frozen=True)
class _RemoteEntry:
    """What `os.DirEntry` is, of a URL."""

    name: str
    path: str
    folder: bool

    def is_dir(self) -> bool:
        return self.folder

    def is_file(self) -> bool:
        return not self.folder

    def is_symlink(self) -> bool:
        return False


_Entry = os.DirEntry[str] | _RemoteEntry


class _Walk:
    def __init__(self, root: Path) -> None:
        self._root = MediaFolder(path=root)
        self._left_out: dict[str, list[Path]] = {reason: [] for reason in _REASONS}
        self._real_root = os.path.realpath(root)
        self._seen: set[str] = set()
        self._remote = _list_remote(root) if isinstance(root, RemotePath) else None

    def tree(self) -> MediaTree:
        folders, links = deque([self._root]), deque[tuple[MediaFolder, MediaFolder]]()
        while folders or links:
            if folders:
                folder = folders.popleft()
            else:  # only now: a folder counts under its own name, and not under that of a link to it
                parent, folder = links.popleft()
                if self._is_searched(folder.path):
                    self._left_out[_LOOPS].append(folder.path)
                    parent.folders.remove(folder)
                    continue
            self._seen.add(os.path.realpath(folder.path))
            for inside, is_link in self._scan(folder):
                links.append((folder, inside)) if is_link else folders.append(inside)
        self._drop_empty(self._root)
        return MediaTree(
            root=self._root,
            left_out={reason: tuple(sorted(paths)) for reason, paths in self._left_out.items() if paths},
        )

    def _is_searched(self, path: Path) -> bool:
        """Returns whether a link leads to a folder that was searched, or to one around the root."""
        real = os.path.realpath(path)
        return real in self._seen or Path(self._real_root).is_relative_to(real)

    def _scan(self, folder: MediaFolder) -> list[tuple[MediaFolder, bool]]:
        """Fills in a folder; returns those in it, and whether each is a link."""
        is_root = folder is self._root
        try:
            entries = self._entries(folder.path)
        except OSError as error:
            if is_root:
                raise DatasetError(
                    f"{folder.path}: this folder cannot be read ({error.strerror}): name another, or have it opened"
                ) from error
            self._left_out[_UNREADABLE].append(folder.path)
            return []
        names = {entry.name for entry in entries}
        if not is_root and _is_written_folder(names):
            self._left_out[_WRITTEN].append(folder.path)
            return []
        inside: list[tuple[MediaFolder, bool]] = []
        media: list[Path] = []
        for entry in entries:
            path = folder.path / entry.name
            kind = _kind(entry)
            if is_of_another_program(entry.name):
                self._left_out[_FOREIGN].append(path)
            elif entry.name.startswith("."):
                self._left_out[_HIDDEN].append(path)
            elif kind == "nothing":
                self._left_out[_DEAD_LINKS if entry.is_symlink() else _UNREADABLE].append(path)
            elif kind == "folder":
                folder.folders.append(MediaFolder(path=path))
                inside.append((folder.folders[-1], entry.is_symlink()))
            elif kind == "file" and is_media(path):
                media.append(path)
            else:
                self._left_out[_OTHER_KINDS].append(path)
        written = {path for path in media if _is_written_file(path.name, names)}
        sidecars = sidecar_images([path.name for path in media])
        for path in media:
            if path in written:
                self._left_out[_WRITTEN].append(path)
            elif path.name in sidecars:
                self._left_out[_SIDECARS].append(path)
            else:
                folder.files.append(path)
        return inside

    def _entries(self, folder: Path) -> Sequence[_Entry]:
        if self._remote is not None:
            return self._remote.get(str(folder), ())
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)

    def _drop_empty(self, root: MediaFolder) -> None:
        """Takes out the folders that cannot be read, and those that hold nothing but what dualformer wrote."""
        written, unreadable = (set(self._left_out[reason]) for reason in (_WRITTEN, _UNREADABLE))
        around = {path.parent for path in written}
        for folder in reversed([*root.walk()]):  # the inner ones first
            for inside in [*folder.folders]:
                of_ours = inside.path in written or (inside.path in around and not inside.files and not inside.folders)
                if of_ours:
                    around.add(folder.path)
                if of_ours or inside.path in unreadable:
                    folder.folders.remove(inside)


def _list_remote(root: RemotePath) -> dict[str, list[_RemoteEntry]]:
    """Returns what is in each folder at a URL, by name, all of it by one listing."""
    found: dict[str, dict[str, _RemoteEntry]] = {str(root): {}}
    for inside in list_below(str(root)):
        folder = root
        *folders, file = inside.split("/")
        for name in folders:
            found[str(folder)].setdefault(name, _RemoteEntry(name, str(folder / name), folder=True))
            folder = folder / name
            found.setdefault(str(folder), {})
        found[str(folder)][file] = _RemoteEntry(file, str(folder / file), folder=False)
    return {folder: sorted(entries.values(), key=lambda entry: entry.name) for folder, entries in found.items()}


def _kind(entry: _Entry) -> Literal["folder", "file", "other", "nothing"]:
    """Returns what an entry is, or leads to; ``nothing`` where a link is dead or nobody may look."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        return "other" if not entry.is_symlink() or Path(entry.path).exists() else "nothing"
    except OSError:
        return "nothing"


def _is_written_folder(names: set[str]) -> bool:
    """Returns whether it is the folder of a run or an evaluation, or of one that is only just beginning."""
    if names and all(is_lock(Path(name)) for name in names):
        return True
    return ("config.json" in names and bool(names & _RUN_FILES)) or {"figures.json", "per_class.csv"} <= names


def _is_written_file(name: str, names: set[str]) -> bool:
    """Returns whether it is a picture or film of a timeline or an explanation, whose tables lie beside it."""
    path = Path(name)
    timeline = path.stem.removesuffix(".labels") if path.suffix == ".mp4" else path.stem
    ours = timeline != path.stem or path.suffix == ".png"
    return (ours and {f"{timeline}.windows.csv", f"{timeline}.json"} <= names) or (
        {f"{path.stem}.npy", f"{path.stem}.json"} <= names
    )
