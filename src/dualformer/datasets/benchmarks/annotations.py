"""What every benchmark's reader does: collect entries and mistakes by line, find the files, make lists of them."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualformer.datasets.benchmark_classes import spelling
from dualformer.datasets.manifest import find_videos
from dualformer.datasets.samples import DatasetError, Missing, Sample, VideoList, hash_manifest, name_some
from dualformer.files import read_text

_SPLIT_ORDER = ("train", "val", "test")
_TELL = 3  # mistakes or names that a message shows


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line that lists a video, whether it is there or not."""

    name: str
    """What the annotations call it; a video is listed once."""
    label: int
    split: str
    """train, val or test."""
    listed: str
    """FILE:LINE"""
    fps: float | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A benchmark as read: its classes and the videos of each split, those that are missing apart."""

    title: str
    classes: tuple[str, ...]
    splits: Mapping[str, VideoList]
    notes: tuple[str, ...] = ()
    """What was left out, and other things to know."""

    @property
    def manifest_hash(self) -> str:
        return next(iter(self.splits.values())).manifest_hash

    def describe(self) -> str:
        """One line: classes, videos of each split, what is missing, notes."""
        counts = ", ".join(f"{split} {len(videos)}" for split, videos in self.splits.items())
        missing = [f"{len(v.missing)} of {split}" for split, v in self.splits.items() if v.missing]
        parts = [f"{self.title}: {len(self.classes)} classes, videos: {counts}"]
        if missing:
            names = name_missing([m for v in self.splits.values() for m in v.missing])
            parts.append(f"missing: {', '.join(missing)} ({names})")
        return "; ".join([*parts, *self.notes])


def name_missing(missing: Iterable[Missing]) -> str:
    """The first few with the lines that list them."""
    return name_some((f"{m.listed} {m.path.name}" for m in missing), most=_TELL)


class Problems:
    """Mistakes in annotation files, gathered so that one run names more than the first."""

    def __init__(self, remedy: str) -> None:
        self._remedy = remedy
        self._found: list[str] = []

    def add(self, listed: str, what: str) -> None:
        self._found.append(f"{listed}: {what}")

    def raise_any(self) -> None:
        """Raises :class:`DatasetError` in one line, if anything was found."""
        if self._found:
            more = len(self._found) - _TELL
            told = "; ".join(self._found[:_TELL]) + (f"; and {more} more" if more > 0 else "")
            raise DatasetError(f"{told} ({self._remedy})")


class MediaIndex:
    """Every video below a folder, to be found by name whichever folders it lies in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_stem: dict[str, list[Path]] = {}
        for path in find_videos(root):
            self._by_stem.setdefault(path.stem, []).append(path)

    def find(self, stem: str, *prefer: Collection[str]) -> Path | None:
        """The video of this name without its extension; None if there is none.

        Where several folders hold one, each of ``prefer`` in turn narrows the choice to those in a folder of such a
        name, as `spelling` has it. Raises :class:`DatasetError` where that does not decide.
        """
        found = self._by_stem.get(stem, [])
        for folders in prefer:
            if len(found) > 1:
                found = [path for path in found if not self._folders(path).isdisjoint(folders)] or found
        if len(found) > 1:
            raise DatasetError(f"{found[0]} and {found[1]} could both be {stem}: keep one of them")
        return found[0] if found else None

    def _folders(self, path: Path) -> set[str]:
        return {spelling(part) for part in path.relative_to(self.root).parts[:-1]}


def assemble(
    title: str,
    classes: tuple[str, ...],
    entries: Iterable[Entry],
    locate: Callable[[Entry], Path | None],
    expected: Callable[[Entry], Path],
    *,
    problems: Problems,
    source: str,
    notes: Iterable[str] = (),
) -> Listing:
    """Find the file of every entry, and make the lists.

    ``locate`` gives it, None where it is missing, or raises :class:`DatasetError` with a mistake; ``expected`` is where
    to say it should be. A line that says once more what another says already is left out and named in the notes; one
    that contradicts another is a mistake.
    Raises :class:`DatasetError` for all ``problems`` together, for no entry, and where no file at all is there.
    """
    first: dict[str, Entry] = {}
    again: list[str] = []
    for entry in entries:
        before = first.setdefault(entry.name, entry)
        if before is entry:
            continue
        if (before.label, before.split) == (entry.label, entry.split):
            again.append(f"{entry.listed} is {before.listed}")
        elif before.split != entry.split:
            problems.add(entry.listed, f"{entry.name} is in {before.split} already, by {before.listed}")
        else:
            problems.add(entry.listed, f"{entry.name} is {classes[before.label]} already, by {before.listed}")
    there: dict[str, list[Sample]] = {}
    absent: dict[str, list[Missing]] = {}
    for entry in first.values():
        there.setdefault(entry.split, [])
        try:
            path = locate(entry)
        except DatasetError as error:
            problems.add(entry.listed, str(error))
            continue
        if path is not None:
            there[entry.split].append(Sample(path=path, label=entry.label, fps=entry.fps))
        else:
            missing = Missing(path=expected(entry), label=entry.label, listed=entry.listed)
            absent.setdefault(entry.split, []).append(missing)
    problems.raise_any()
    if not any(there.values()):
        every = [missing for split in absent.values() for missing in split]
        what = f"none of the {len(every)} videos is there: {name_missing(every)}" if every else "no video is listed"
        raise DatasetError(f"{source}: {what}; name the folder that holds the annotations and the videos")
    splits = {
        split: VideoList(
            classes=classes,
            samples=tuple(there[split]),
            source=f"{title}, {split}, in {source}",
            missing=tuple(absent.get(split, ())),
        )
        for split in _SPLIT_ORDER
        if split in there
    }
    digest = hash_manifest(splits)
    if again:
        notes = (*notes, f"{len(again)} lines that repeat others left out ({name_some(again, most=_TELL)})")
    return Listing(
        title=title,
        classes=classes,
        splits={split: replace(videos, manifest_hash=digest) for split, videos in splits.items()},
        notes=tuple(notes),
    )


def annotation_files(root: Path, *patterns: str) -> list[Path]:
    """Files that fit one of the patterns, in the folder or up to two folders deeper, hidden folders left out."""
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    found: set[Path] = set()
    for depth in ("", "*/", "*/*/"):
        for pattern in patterns:
            found.update(path for path in root.glob(depth + pattern) if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def the_file(root: Path, what: str, *patterns: str) -> Path:
    """The one file that fits; :class:`DatasetError` where there is none or several."""
    found = annotation_files(root, *patterns)
    if len(found) == 1:
        return found[0]
    if not found:
        raise DatasetError(f"{root}: no {patterns[0]} in it ({what}): put it there, or name the folder that holds it")
    raise DatasetError(f"{root}: several files could be {what}: {name_some(found)}: keep one of them")


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, stripped, with their numbers. :class:`DatasetError` where the file is not UTF-8."""
    for number, line in enumerate(read_text(path, DatasetError).splitlines(), 1):
        if stripped := line.strip():
            yield number, stripped


def json_items(path: Path) -> Iterator[tuple[int, Any]]:
    """The items of a JSON array with the lines that they begin in. :class:`DatasetError` for anything else."""
    text = read_text(path, DatasetError)
    decoder = json.JSONDecoder()
    place, line, counted = _skip(text, 0), 1, 0

    def fail(at: int, what: str) -> DatasetError:
        return DatasetError(f"{path}:{text.count(chr(10), 0, at) + 1}: {what}: download the file again")

    if text[place : place + 1] != "[":
        raise fail(place, "expected a JSON array")
    place = _skip(text, place + 1)
    if text[place : place + 1] == "]":
        return
    while True:
        line, counted = line + text.count("\n", counted, place), place
        try:
            item, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise fail(error.pos, f"not JSON ({error.msg})") from error
        yield line, item
        place = _skip(text, end)
        separator = text[place : place + 1]
        if separator == "]":
            return
        if separator != ",":
            raise fail(place, "the JSON array ends early")
        place = _skip(text, place + 1)


def compare_classes(found: Iterable[tuple[str, str]], official: tuple[str, ...], benchmark: str) -> None:
    """Hold a list of (FILE:LINE, name) against the official one; :class:`DatasetError` at the first that differs."""
    names = list(found)
    for place, ((listed, name), right) in enumerate(zip(names, official, strict=False)):
        if name != right:
            raise DatasetError(
                f"{listed}: class {place} is {name!r} here and {right!r} in the official order of {benchmark}: "
                "take the original file"
            )
    if len(names) != len(official):
        where = names[-1][0] if names else "an empty list"
        raise DatasetError(f"{where}: {len(names)} classes, where {benchmark} has {len(official)}")


def _skip(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\n", "\r", "\t"):
        place += 1
    return place
