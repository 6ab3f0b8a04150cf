"""Finds the videos that files of segments name, by path or by name alone, and names videos for such files."""

import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from dualformer.datasets.media_tree import walk_media
from dualformer.datasets.samples import DatasetError, first_few
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.files import write_text
from dualformer.moved_files import absolute
from dualformer.plurals import counted
from dualformer.video.file_slices import is_frame_folder

_log = logging.getLogger("dualformer")


class VideoFinder:
    """Finds videos in ``folder``, if one is given, and beside the files that name them.

    ``check_files``: whether they must be there. Raises ``FileNotFoundError`` where there is no such folder.
    """

    def __init__(self, folder: Path | None = None, *, check_files: bool = True) -> None:
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"no such folder of videos: {folder}")
        self._folder, self._check_files = folder, check_files
        self._names: dict[Path, _Names] = {}
        self._found: dict[tuple[str, ...], Path] = {}
        self._elsewhere: dict[str, Path] = {}

    def find(self, names: Sequence[str], file: Path, where: str) -> Path:
        """Returns the absolute path of the video that ``file`` names ``where`` in it.

        ``names``: what it may be called, the likeliest first. A name is a path relative to the folder, or to that of
        the file; else the end of the path of one video or image in them, however deep, with or without its extension.
        Of several the one right in the folder counts. Raises `DatasetError` where there are several. Where there is
        none, that is one, too, or else the path is what the likeliest name would be in the folder.
        """
        key = (str(file.parent), *names)
        return self._found.get(key) or self._found.setdefault(key, self._find(names, file.parent, where))

    def _find(self, names: Sequence[str], beside: Path, where: str) -> Path:
        folders = [folder for folder in (self._folder, beside) if folder is not None]
        for name in names:
            check_video_name(name, where)
            for folder in folders:
                path = absolute(folder / name)
                if is_there(path):
                    return path
        for folder in folders:
            known = self._names.get(folder) or self._names.setdefault(folder, _Names(folder))
            for name in names:
                found = known.find(name)
                if len(found) == 1:
                    if not _is_said(names, found[0]):
                        self._elsewhere[names[0]] = found[0]
                    return absolute(found[0])
                if found:
                    raise DatasetError(
                        f"{where}: the video {name!r} could be {first_few(found)}: write its path, or name a folder "
                        "that holds one of them with `videos`"
                    )
        if not self._check_files:
            return absolute(folders[0] / next((name for name in names if "://" not in name), names[0]))
        raise DatasetError(
            f"{where}: no video {names[0]!r} in {' or '.join(map(str, folders))}: correct the name, put the video "
            "there, or name the folder that holds it with `videos`"
        )

    def tell_elsewhere(self, file: Path) -> None:
        """Logs which videos are not where ``file`` says, and what was taken in their place because of its name."""
        if self._elsewhere:
            what = counted(
                len(self._elsewhere),
                "video is not where its path says, and was",
                "videos are not where their paths say, and were",
            )
            named = first_few(f"{found} for {name!r}" for name, found in self._elsewhere.items())
            _log.warning("%s: %s found by name: %s", file, what, named)


def _is_said(names: Sequence[str], found: Path) -> bool:
    """Returns whether a video lies in the folder that its only name has it in. Several names, which a URL and an
    upload have, and one without an extension say no folder."""
    *folders, last = _parts(names[0])
    return len(names) > 1 or (folders[-1] == _composed(found.parent.name) if folders else last != _composed(found.name))


def is_there(path: Path) -> bool:
    """Returns whether there is a video, or a folder of frames, of this path."""
    try:
        return path.parent.is_dir() if is_frame_folder(path) else path.is_file()
    except OSError:  # the name is too long
        return False


class _Names:
    """The videos and images of a folder by what they are called, with and without extension."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in walk_media(folder).files:
            self._by_name.setdefault(_composed(path.name), []).append(path)
            self._by_stem.setdefault(_composed(path.stem), []).append(path)

    def find(self, name: str) -> list[Path]:
        """Returns the videos whose paths end like ``name``, which may be a path of another system."""
        *folders, last = _parts(name)
        found = self._by_name.get(last) or self._by_stem.get(last) or []
        common = [_common_end(folders, [_composed(part) for part in path.parts[:-1]]) for path in found]
        found = [path for path, count in zip(found, common, strict=True) if count == max(common)]
        return [path for path in found if path.parent == self._folder] or found


def _parts(name: str) -> list[str]:
    return [_composed(part) for part in re.split(r"[/\\]+", name)]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _common_end(some: Sequence[str], others: Sequence[str]) -> int:
    count = 0
    while count < min(len(some), len(others)) and some[-1 - count] == others[-1 - count]:
        count += 1
    return count


def check_video_name(name: str, where: str) -> None:
    """Raises `DatasetError` for a name that is empty, that no file can have, or that would break a line."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        problem = "is not text"
    else:
        broken = any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name)
        problem = "holds a line break or another control character" if broken else "" if name else "is empty"
    if problem:
        raise DatasetError(
            f"{where}: the name {name.encode('utf-8', 'replace').decode()!r} of a video {problem}: rename it"
        )


def names_in_url(url: str) -> list[str]:
    """Returns the paths that a URL or a path may mean: as it is written, and without percent signs and what is around
    the path."""
    names = [url]
    try:
        parts = urlsplit(url)
        served = parse_qs(parts.query, errors="surrogateescape").get("d", [])
    except ValueError:
        return names
    names += served if parts.path.endswith("/local-files/") else []  # as Label Studio serves local files
    names.append(unquote(parts.path if parts.scheme and parts.path else url, errors="surrogateescape"))
    return [name for name in dict.fromkeys(names) if name]


def path_in_file(video: Path, folder: Path) -> str:
    """Returns the name of a video for a file of segments in ``folder``: relative where it lies below, else absolute."""
    path, base = absolute(video), absolute(folder)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def video_ids(videos: Iterable[AnnotatedVideo], target: Path) -> dict[Path, str]:
    """Returns names without folders and extension, for formats that have no others.

    Raises `DatasetError` for two videos that such names do not tell apart.
    """
    ids: dict[Path, str] = {}
    taken: dict[str, Path] = {}
    for video in videos:
        path = video.path
        name = path.parent.name if is_frame_folder(path) else path.stem
        for text in dict.fromkeys((_composed(name), _composed(path.name))):
            if (other := taken.setdefault(text, path)) != path:
                raise DatasetError(f"{target}: {other} and {path} would have one name in it: rename one of them")
        ids[path] = name
    return ids


def write_each(
    videos: Sequence[AnnotatedVideo], folder: Path, extension: str, text: Callable[[AnnotatedVideo], str]
) -> list[Path]:
    """Writes the ``text`` of each video to a file in ``folder`` that is called like the video; returns the files."""
    ids = video_ids(videos, folder)
    files = {folder / f"{ids[video.path]}{extension}": text(video) for video in videos}
    for path, content in files.items():
        write_text(path, content)
    return list(files)
