"""List files of other code bases, without a header: ``PATH LABEL`` for videos, ``PATH FRAMES LABEL`` for frame folders.

Separated by spaces, commas or tabs, whichever makes sense of every line. Labels are numbers from 0 or class names.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dualformer.datasets.benchmark_classes import TABLES, class_names, spelling
from dualformer.datasets.benchmarks.annotations import text_lines
from dualformer.datasets.benchmarks.listing import Benchmark, BenchmarkPath, Entry, Listing, Mistake, assemble
from dualformer.datasets.samples import DatasetError, first_few, ordered_classes
from dualformer.plurals import counted
from dualformer.video.container import VideoError
from dualformer.video.file_formats import FRAME_NUMBER, frame_name_regex, is_data_folder, is_media
from dualformer.video.frame_patterns import find_frame_pattern, frame_files, parse_frame_pattern

_SPLITS = ("train", "val", "test")
_CLASS_FILES = ("classes.txt", "labels.txt", "classInd.txt", "label_map.txt")
_PROBED = 50  # lines that decide which folder the paths of a list start in


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


def read_lists(at: BenchmarkPath) -> Listing:
    """Reads the lists in a folder, told apart by train, val and test in their names; or the list that the path is.

    Raises ``FileNotFoundError``, `DatasetError`, and ``ValueError`` for options that cannot be.
    """
    root, options = at.path, _options(at.options)
    pattern = parse_frame_pattern(options.pattern) if options.pattern else ""
    folder = root if root.is_dir() else root.parent
    paths = _lists(root, options.only)
    lists = {split: _parse(path) for split, path in paths.items()}
    notes: list[str] = []
    if "test" in lists and "val" in lists and _videos_of(lists["test"]) == _videos_of(lists["val"]):
        notes.append(f"{paths['test'].name} lists what {paths['val'].name} does, and is left out")
        del lists["test"]
    everything = [line for lines in lists.values() for line in lines if isinstance(line, _Line)]
    classes, label_of = _classes(folder, options.classes, everything)
    frames = _FrameFolders(pattern)
    entries: list[Entry | Mistake] = []
    listed: dict[str, _Line] = {}
    for split, lines in lists.items():
        base = folder / options.videos if options.videos else _base(folder, lines)
        for line in lines:
            if isinstance(line, Mistake):
                entries.append(line)
            elif (label := label_of(line.label)) is None:
                wanted = f"0 to {len(classes) - 1}" if line.label.lstrip("-").isdecimal() else f"{len(classes)} classes"
                entries.append(Mistake(line.listed, f"label {line.label!r} is none of the {wanted}"))
            else:
                name = str(base / line.path)
                listed.setdefault(name, line)
                fps = options.fps if line.frames is not None else None
                entries.append(Entry(name=name, label=label, split=split, listed=line.listed, fps=fps))

    def locate(entry: Entry, class_name: str) -> Path | None:
        path, line = Path(entry.name), listed[entry.name]
        if line.frames is None:
            return path if path.is_file() else None
        return frames.find(path, line.frames, line.listed) if path.is_dir() else None

    title = f"lists in {folder}" if root.is_dir() else str(root)
    remedy = "correct these lines"
    listing = assemble(title, root, classes, entries, remedy=remedy, notes=notes, locate=locate)
    return replace(listing, notes=(*listing.notes, *frames.notes()))


BENCHMARK = Benchmark(names=("list",), read=read_lists, options={field.name: () for field in fields(ListOptions)})


def _options(texts: Mapping[str, str]) -> ListOptions:
    rate = texts.get("fps")
    try:
        fps = None if rate is None else float(rate)
    except ValueError:
        fps = 0.0
    if fps is not None and not 0 < fps < 1e6:
        raise ValueError(f"list@fps={rate}: frames a second must be a number more than 0")
    return ListOptions(fps=fps, **{key: value for key, value in texts.items() if key != "fps"})


def _lists(root: Path, only: str) -> dict[str, Path]:
    """Returns the list of each split."""
    if root.is_file():
        return {_split_of(root) or "train": root}
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
    return {split: lists[split] for split in _SPLITS if split in lists}


def _split_of(path: Path) -> str | None:
    return next((split for split in _SPLITS if split in path.stem.lower()), None)


def _parse(path: Path) -> list[_Line | Mistake]:
    """Reads the lines of a file with the separator that makes the fewest mistakes."""
    lines = list(text_lines(path))
    parsed = [[_line(*line, separator) for line in lines] for separator in ("\t", ",", None)]
    return min(parsed, key=lambda found: sum(isinstance(line, Mistake) for line in found))


def _line(listed: str, text: str, separator: str | None) -> _Line | Mistake:
    mistake = Mistake(listed, f"{text!r} is neither VIDEO LABEL nor FOLDER FRAMES LABEL")
    head, *label = (part.strip() for part in text.rsplit(separator, 1))
    if not label or not label[0] or not head:
        return mistake
    if is_media(Path(head)):
        return _Line(listed=listed, path=head, frames=None, label=label[0])
    folder, *count = (part.strip() for part in head.rsplit(separator, 1))
    if not count or not count[0].isdecimal() or not folder or int(count[0]) == 0:
        return mistake
    return _Line(listed=listed, path=folder, frames=int(count[0]), label=label[0])


def _videos_of(lines: list[_Line | Mistake]) -> set[tuple[str, str]]:
    return {(line.path, line.label) for line in lines if isinstance(line, _Line)}


def _classes(folder: Path, given: str, lines: list[_Line]) -> tuple[tuple[str, ...], Callable[[str], int | None]]:
    """Returns the classes, and a function from a line's label to its number (None where it is none of them)."""
    if given in TABLES:
        names = class_names(given)
    elif given:
        if not (folder / given).is_file():
            raise FileNotFoundError(f"{folder / given}: no such file of class names, nor one of {', '.join(TABLES)}")
        names = tuple(_class_names(folder / given))
    else:
        files = [path for name in _CLASS_FILES if (path := folder / name).is_file()]
        files += sorted(folder.glob("label_map_*.txt"))
        if len(files) > 1:
            raise DatasetError(
                f"{folder}: {first_few(f.name for f in files)} could all hold the class names: say which with "
                "list@classes=FILE:PATH"
            )
        if not files:
            # The numbers are the names then: their order is that of the numbers, as everywhere.
            own = ordered_classes(line.label for line in lines if not line.label.startswith("-"))
            return own, {name: i for i, name in enumerate(own)}.get
        names = tuple(_class_names(files[0]))
    spelled = {spelling(name): i for i, name in enumerate(names)}

    def label_of(text: str) -> int | None:
        if text.isdecimal():
            return int(text) if int(text) < len(names) else None
        return None if text.startswith("-") else spelled.get(spelling(text))

    return names, label_of


def _class_names(path: Path) -> Iterator[str]:
    """Yields names, one a line, in label order, perhaps behind their numbers (from 0 or from 1)."""
    lines = list(text_lines(path))
    numbered = [re.match(r"(\d+)[\s,]+(\S.*)$", text) for _, text in lines]
    first = int(numbered[0][1]) if numbered and numbered[0] else -1
    seen: dict[str, str] = {}
    for place, ((listed, text), match) in enumerate(zip(lines, numbered, strict=True)):
        name = text
        if first in (0, 1):
            if match is None or int(match[1]) != first + place:
                raise DatasetError(f"{listed}: {text!r} where number {first + place} comes next: correct the line")
            name = match[2]
        if name in seen:
            line = seen[name].rpartition(":")[2]
            raise DatasetError(f"{listed}: class {name!r} is in line {line} already: name a class once")
        seen[name] = listed
        yield name
    if not lines:
        raise DatasetError(f"{path}: no class names in it: write one a line")


def _base(folder: Path, lines: list[_Line | Mistake]) -> Path:
    """Returns where paths start: the lists' own folder, or the one in it that has most of the first ones."""
    probed = [line.path for line in lines if isinstance(line, _Line)][:_PROBED]

    def hits(base: Path) -> int:
        return sum((base / path).exists() for path in probed)

    if hits(folder):
        return folder
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and is_data_folder(path.name))
    return max((folder, *inside), key=hits)


class _FrameFolders:
    """Compares frame folders with the numbers of frames that a list gives them."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._start: int | None = None
        self._longer: list[str] = []

    def find(self, folder: Path, frames: int, listed: str) -> Path:
        """Returns the folder's pattern. Raises `DatasetError` for fewer frames than listed."""
        try:
            if not self._pattern:
                self._pattern = find_frame_pattern(folder).name
            if self._start is None:
                first = frame_files(folder / self._pattern)[0]
                self._start = int(frame_name_regex(self._pattern).sub(r"\1", first.name))
        except VideoError as error:
            raise DatasetError(f"{error}; say the pattern with list@pattern=img_%05d.jpg:PATH") from error
        last = self._frame(folder, self._start + frames - 1)
        if not last.is_file():
            raise DatasetError(f"{frames} frames, but {last} is not there")
        if self._frame(folder, self._start + frames).is_file():
            self._longer.append(listed)
        return folder / self._pattern

    def notes(self) -> list[str]:
        if not self._longer:
            return []
        what = counted(len(self._longer), "folder holds", "folders hold")
        return [f"{what} more frames than listed, all used ({first_few(self._longer)})"]

    def _frame(self, folder: Path, number: int) -> Path:
        return folder / FRAME_NUMBER.sub(lambda place: f"{number:0{int(place[1] or 1)}d}", self._pattern)
