"""List files of other code bases, without a header: ``PATH LABEL`` for videos, ``PATH FRAMES LABEL`` for frame folders.

Separated by spaces, commas or tabs, whichever makes sense of every line. Labels are numbers from 0 or class names.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dualformer.datasets.benchmark_classes import TABLES, class_names, spelling
from dualformer.datasets.benchmarks.annotations import Entry, Listing, Problems, assemble, text_lines
from dualformer.datasets.samples import DatasetError, name_some, ordered_classes
from dualformer.video.formats import FRAME_NUMBER, is_media
from dualformer.video.numbered_frames import VideoError, frame_files, pattern_in, read_pattern

_SPLITS = {"train": "train", "val": "val", "test": "test"}
_CLASS_FILES = ("classes.txt", "labels.txt", "classInd.txt", "label_map.txt")
_LOOKED_AT = 50  # lines that decide which folder the paths of a list start in


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How to read lists. Folders and files are relative to the folder of the lists."""

    only: str = ""
    """Read the lists whose names hold this text, as in split_1."""
    videos: str = ""
    """The folder in which the paths start; found by looking if not given."""
    classes: str = ""
    """A file of class names, one a line, or a benchmark whose names they are; else a file called classes.txt,
    labels.txt, classInd.txt, label_map.txt or label_map_….txt, else the labels themselves."""
    pattern: str = ""
    """The names of the images in frame folders, as in img_%05d.jpg; found by looking if not given."""
    fps: float | None = None
    """The rate of frame folders."""


@dataclass(frozen=True, kw_only=True)
class _Line:
    listed: str
    path: str
    frames: int | None
    """None for a video."""
    label: str


def read_lists(root: Path, options: ListOptions | None = None) -> Listing:
    """The lists in a folder, told apart by train, val and test in their names; or the list that ``root`` is itself.

    Raises ``FileNotFoundError``, :class:`DatasetError`, and ``ValueError`` for options that cannot be.
    """
    options = options or ListOptions()
    pattern = read_pattern(options.pattern) if options.pattern else ""
    folder = root if root.is_dir() else root.parent
    problems = Problems("correct these lines")
    lists = {split: (path, _parse(path, problems)) for split, path in _lists(root, options.only).items()}
    notes: list[str] = []
    if "test" in lists and "val" in lists and _said(lists["test"][1]) == _said(lists["val"][1]):
        notes.append(f"{lists['test'][0].name} lists what {lists['val'][0].name} does, and is left out")
        del lists["test"]
    classes, label_of = _classes(folder, options.classes, [line for _, lines in lists.values() for line in lines])
    frames = _FrameFolders(pattern, problems)
    entries: list[Entry] = []
    found: dict[str, tuple[Path, _Line]] = {}
    for split, (_, lines) in lists.items():
        base = folder / options.videos if options.videos else _base(folder, lines)
        for line in lines:
            label = label_of(line.label)
            if label is None:
                wanted = f"0 to {len(classes) - 1}" if line.label.lstrip("-").isdecimal() else f"{len(classes)} classes"
                problems.add(line.listed, f"label {line.label!r} is none of the {wanted}")
                continue
            path = base / line.path
            found[str(path)] = path, line
            fps = options.fps if line.frames is not None else None
            entries.append(Entry(name=str(path), label=label, split=split, listed=line.listed, fps=fps))

    def locate(entry: Entry) -> Path | None:
        path, line = found[entry.name]
        if line.frames is None:
            return path if path.is_file() else None
        return frames.find(replace(line, listed=entry.listed), path)

    listing = assemble(
        f"lists in {folder}" if root.is_dir() else str(root),
        classes,
        entries,
        locate,
        lambda entry: found[entry.name][0],
        problems=problems,
        source=str(root),
        notes=notes,
    )
    return replace(listing, notes=(*listing.notes, *frames.notes()))


def _lists(root: Path, only: str) -> dict[str, Path]:
    if root.is_file():
        split = _split_of(root)
        return {split or "train": root}
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder or list file: {root}")
    lists: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        split = _split_of(path)
        if split is None or path.suffix.lower() not in (".txt", ".csv") or only not in path.name or not path.is_file():
            continue
        if split in lists:
            raise DatasetError(
                f"{root}: {lists[split].name} and {path.name} both look like {split}: say which with "
                "list@only=TEXT:PATH, a text that is in the names of the right ones alone"
            )
        lists[split] = path
    if not lists:
        what = f" and {only!r}" if only else ""
        raise DatasetError(f"{root}: no .txt or .csv file in it has train, val or test{what} in its name")
    return dict(sorted(lists.items(), key=lambda item: list(_SPLITS).index(item[0])))


def _split_of(path: Path) -> str | None:
    return next((split for word, split in _SPLITS.items() if word in path.stem.lower()), None)


def _parse(path: Path, problems: Problems) -> list[_Line]:
    """The lines of a file by the separator with which the fewest of them make no sense."""
    lines = list(text_lines(path))
    read: list[tuple[int, list[_Line | None]]] = []
    for separator in ("\t", ",", None):
        parsed = [_line(f"{path}:{number}", text, separator) for number, text in lines]
        read.append((parsed.count(None), parsed))
    _, best = min(read, key=lambda item: item[0])
    for (number, text), line in zip(lines, best, strict=True):
        if line is None:
            problems.add(f"{path}:{number}", f"{text!r} is neither VIDEO LABEL nor FOLDER FRAMES LABEL")
    return [line for line in best if line is not None]


def _line(listed: str, text: str, separator: str | None) -> _Line | None:
    head, *label = (part.strip() for part in text.rsplit(separator, 1))
    if not label or not label[0] or not head:
        return None
    if is_media(Path(head)):
        return _Line(listed=listed, path=head, frames=None, label=label[0])
    folder, *count = (part.strip() for part in head.rsplit(separator, 1))
    if not count or not count[0].isdecimal() or not folder or int(count[0]) == 0:
        return None
    return _Line(listed=listed, path=folder, frames=int(count[0]), label=label[0])


def _said(lines: list[_Line]) -> set[tuple[str, str]]:
    return {(line.path, line.label) for line in lines}


def _classes(folder: Path, told: str, lines: list[_Line]) -> tuple[tuple[str, ...], Callable[[str], int | None]]:
    """The classes, and the label of what a line says (None where it is none of them)."""
    if told in TABLES:
        names: tuple[str, ...] | None = class_names(told)
    elif told:
        if not (folder / told).is_file():
            raise FileNotFoundError(f"{folder / told}: no such file of class names, nor one of {', '.join(TABLES)}")
        names = tuple(_class_names(folder / told))
    else:
        files = [path for name in _CLASS_FILES if (path := folder / name).is_file()]
        files += sorted(folder.glob("label_map_*.txt"))
        if len(files) > 1:
            raise DatasetError(
                f"{folder}: {name_some(f.name for f in files)} could all hold the class names: say which with "
                "list@classes=FILE:PATH"
            )
        names = tuple(_class_names(files[0])) if files else None
    if names is None:
        # The numbers are the names then: their order is that of the numbers, as everywhere.
        own = ordered_classes(line.label for line in lines if not line.label.startswith("-"))
        place = {name: i for i, name in enumerate(own)}
        return own, lambda text: None if text.startswith("-") else place.get(text)
    spelled = {spelling(name): i for i, name in enumerate(names)}

    def label_of(text: str) -> int | None:
        if text.isdecimal():
            return int(text) if int(text) < len(names) else None
        return None if text.startswith("-") else spelled.get(spelling(text))

    return names, label_of


def _class_names(path: Path) -> Iterator[str]:
    """One a line, in label order, perhaps behind their numbers (from 0 or from 1)."""
    lines = list(text_lines(path))
    numbered = [re.match(r"(\d+)[\s,]+(\S.*)$", text) for _, text in lines]
    first = int(numbered[0][1]) if numbered and numbered[0] else -1
    seen: dict[str, int] = {}
    for place, ((line, text), match) in enumerate(zip(lines, numbered, strict=True)):
        name = text
        if first in (0, 1):
            if match is None or int(match[1]) != first + place:
                raise DatasetError(f"{path}:{line}: {text!r} where number {first + place} comes next: correct the line")
            name = match[2]
        if name in seen:
            raise DatasetError(f"{path}:{line}: class {name!r} is in line {seen[name]} already: name a class once")
        seen[name] = line
        yield name
    if not lines:
        raise DatasetError(f"{path}: no class names in it: write one a line")


def _base(folder: Path, lines: list[_Line]) -> Path:
    """Where paths start: the lists' own folder, or the one in it that has most of the first ones."""
    sample = lines[:_LOOKED_AT]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    best, most = folder, sum((folder / line.path).exists() for line in sample)
    if most:
        return best
    for candidate in inside:
        count = sum((candidate / line.path).exists() for line in sample)
        if count > most:
            best, most = candidate, count
    return best


class _FrameFolders:
    """Frame folders held against the numbers of frames that a list gives them."""

    def __init__(self, pattern: str, problems: Problems) -> None:
        self._pattern = pattern
        self._start: int | None = None
        self._problems = problems
        self._longer: list[str] = []

    def find(self, line: _Line, folder: Path) -> Path | None:
        """The folder's pattern; None without a folder. A folder with fewer frames than listed is a mistake."""
        assert line.frames is not None
        if not folder.is_dir():
            return None
        try:
            if not self._pattern:
                self._pattern = pattern_in(folder).name
            if self._start is None:
                self._start = self._number(frame_files(folder / self._pattern)[0])
        except VideoError as error:
            self._problems.add(line.listed, f"{error}; say the pattern with list@pattern=img_%05d.jpg:PATH")
            return None
        last = folder / self._named(self._start + line.frames - 1)
        if not last.is_file():
            self._problems.add(line.listed, f"{line.frames} frames, but {last} is not there")
        elif (folder / self._named(self._start + line.frames)).is_file():
            self._longer.append(line.listed)
        return folder / self._pattern

    def notes(self) -> list[str]:
        """What is to be told at the end."""
        if not self._longer:
            return []
        return [f"{len(self._longer)} folders hold more frames than listed, all used ({name_some(self._longer)})"]

    def _named(self, number: int) -> str:
        return FRAME_NUMBER.sub(lambda place: f"{number:0{int(place[1] or 1)}d}", self._pattern)

    def _number(self, file: Path) -> int:
        place = FRAME_NUMBER.search(self._pattern)
        assert place is not None
        after = len(self._pattern) - place.end()
        return int(file.name[place.start() : len(file.name) - after])
