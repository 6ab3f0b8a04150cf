"""The record of a benchmark, the entries and mistakes of its annotation files, and the listing made of them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dualformer.datasets.benchmark_classes import spelling
from dualformer.datasets.manifest import find_videos
from dualformer.datasets.samples import DatasetError, MissingSample, Sample, VideoList, first_few, hash_manifest
from dualformer.plurals import counted

ORIGINAL_LISTS = "take the original lists, or remove these lines"
_SPLIT_ORDER = ("train", "val", "test")
_SHOWN = 3  # mistakes or names in a message


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line that lists a video, whether the video is there or not."""

    name: str
    """The annotations' name of the video, which is listed once."""
    label: int
    split: str
    """train, val or test."""
    listed: str
    """FILE:LINE"""
    file: str = ""
    """The usual path of the video below the benchmark's folder; `name` where that is the path."""
    folders: tuple[Collection[str], ...] = ()
    """Names of folders, spelled as by `spelling`, that decide in turn between several files of this name; the class's
    decides last."""
    fps: float | None = None


@dataclass(frozen=True)
class Mistake:
    """A line of an annotation file that cannot be used, and why."""

    listed: str
    """FILE:LINE"""
    reason: str


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
        """Returns one line: classes, videos of each split, what is missing, notes."""
        counts = ", ".join(f"{split} {len(videos)}" for split, videos in self.splits.items())
        missing = [f"{len(v.missing)} of {split}" for split, v in self.splits.items() if v.missing]
        kind = "segments" if all(videos.kind == "segments" for videos in self.splits.values()) else "videos"
        parts = [f"{self.title}: {len(self.classes)} classes, {kind}: {counts}"]
        if missing:
            names = name_missing([m for v in self.splits.values() for m in v.missing])
            parts.append(f"missing: {', '.join(missing)} ({names})")
        return "; ".join([*parts, *self.notes])


@dataclass(frozen=True, kw_only=True)
class BenchmarkPath:
    """A benchmark, the options behind its ``@``, and where it is."""

    name: str
    options: Mapping[str, str]
    path: Path


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A layout that is read as it was downloaded: the record ``BENCHMARK`` of a module in this package."""

    names: tuple[str, ...]
    """What users call it; several for editions in the same layout."""
    read: Callable[[BenchmarkPath], Listing]
    """Raises ``FileNotFoundError`` without the folder, `DatasetError` for mistakes in it."""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The values that each option takes; any text where there are none."""
    files: tuple[str, ...] = ()
    """Patterns of annotation files by which the layout is recognised."""
    header: bytes = b""
    """A part of the first line of these files."""

    def usage(self, name: str) -> str:
        """Returns which options it takes, in words."""
        if not self.options:
            return f"it takes nothing: write {name}:PATH"
        option, values = next(iter(self.options.items()))
        if values:
            return f"it takes a {option}, {', '.join(values)}, as in {name}@{values[-1]}:PATH"
        return f"it takes {', '.join(f'{option}=…' for option in self.options)}"


def name_missing(missing: Iterable[MissingSample]) -> str:
    """Names the first few with the lines that list them."""
    return first_few((f"{m.listed} {m.path.name}" for m in missing), most=_SHOWN)


def raise_mistakes(found: Iterable[object], remedy: str) -> None:
    """Raises `DatasetError` in one line for the mistakes among ``found``, if there are any."""
    told = [f"{one.listed}: {one.reason}" for one in found if isinstance(one, Mistake)]
    if told:
        more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        raise DatasetError(f"{'; '.join(told[:_SHOWN])}{more} ({remedy})")


class VideoIndex:
    """Every video below a folder, to be found by name whichever folders it lies in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_stem: dict[str, list[Path]] = {}
        for path in find_videos(root, log_other_kinds=False):  # its lists are among them
            self._by_stem.setdefault(path.stem, []).append(path)

    def find(self, entry: Entry, class_name: str) -> Path | None:
        """Returns the entry's video, whatever its extension; None if there is none.

        Where several folders hold one, each of ``entry.folders`` and the class in turn narrow the choice to those in a
        folder of this name. Raises `DatasetError` where that does not decide.
        """
        stem = Path(entry.file or entry.name).stem
        found = self._by_stem.get(stem, [])
        for folders in (*entry.folders, {spelling(class_name)}):
            if len(found) > 1:
                found = [path for path in found if not self._folders(path).isdisjoint(folders)] or found
        if len(found) > 1:
            raise DatasetError(f"{found[0]} and {found[1]} could both be {stem}: keep one of them")
        return found[0] if found else None

    def _folders(self, path: Path) -> set[str]:
        return {spelling(part) for part in path.relative_to(self.root).parts[:-1]}


def assemble(
    title: str,
    root: Path,
    classes: tuple[str, ...],
    lines: Iterable[Entry | Mistake | None],
    *,
    remedy: str = ORIGINAL_LISTS,
    left_out: tuple[str, str] = ("", ""),
    notes: Iterable[str] = (),
    locate: Callable[[Entry, str], Path | None] | None = None,
) -> Listing:
    """Finds the video of every entry among ``lines`` and makes the lists of each split.

    None among ``lines`` stands for a video that is not used; ``left_out`` names one and several of them in the notes.
    A line that repeats another is left out and named there, too; one that contradicts another is a mistake. ``locate``
    takes the place of a `VideoIndex`; names are paths then.
    Raises `DatasetError` for all mistakes together, with the ``remedy``, and where no video is there.
    """
    lines = list(lines)
    mistakes = [line for line in lines if isinstance(line, Mistake)]
    find = locate or VideoIndex(root).find
    first: dict[str, Entry] = {}
    repeats: list[str] = []
    for entry in (line for line in lines if isinstance(line, Entry)):
        before = first.setdefault(entry.name, entry)
        if before is entry:
            continue
        if (before.label, before.split) == (entry.label, entry.split):
            repeats.append(f"{entry.listed} is {before.listed}")
        else:
            other = f"in {before.split}" if before.split != entry.split else classes[before.label]
            mistakes.append(Mistake(entry.listed, f"{entry.name} is {other} already, by {before.listed}"))
    found: dict[str, list[Sample]] = {}
    missing: dict[str, list[MissingSample]] = {}
    for entry in first.values():
        found.setdefault(entry.split, [])
        missing.setdefault(entry.split, [])
        try:
            path = find(entry, classes[entry.label])
        except DatasetError as error:
            mistakes.append(Mistake(entry.listed, str(error)))
            continue
        if path is not None:
            found[entry.split].append(Sample(path=path, label=entry.label, fps=entry.fps))
        else:
            path = Path(entry.name) if locate else root / (entry.file or entry.name)
            missing[entry.split].append(MissingSample(path=path, label=entry.label, listed=entry.listed))
    raise_mistakes(mistakes, remedy)
    if not any(found.values()):
        every = [one for split in missing.values() for one in split]
        what = f"none of the {len(every)} videos is there: {name_missing(every)}" if every else "no video is listed"
        raise DatasetError(f"{root}: {what}; name the folder that holds the annotations and the videos")
    splits = {
        split: VideoList(
            classes=classes,
            samples=tuple(found[split]),
            source=f"{title}, {split}, in {root}",
            missing=tuple(missing[split]),
        )
        for split in _SPLIT_ORDER
        if split in found
    }
    digest = hash_manifest(splits)
    notes = [*notes, *([f"{counted(lines.count(None), *left_out)} left out"] if None in lines else [])]
    if repeats:
        what = counted(len(repeats), "line that repeats another", "lines that repeat others")
        notes.append(f"{what} left out ({first_few(repeats, most=_SHOWN)})")
    return Listing(
        title=title,
        classes=classes,
        splits={split: replace(videos, manifest_hash=digest) for split, videos in splits.items()},
        notes=tuple(notes),
    )
