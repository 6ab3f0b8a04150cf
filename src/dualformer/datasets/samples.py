"""What a data set is, once its annotations are read: a list of labelled files with a fixed order of classes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dualformer.errors import DualFormerError

VIDEO_EXTENSIONS = frozenset(
    (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".gif", ".ogv")
)


class DatasetError(DualFormerError):
    """Annotations that cannot be used. The message names the file or folder and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled video. ``label`` indexes the classes of its list."""

    path: Path
    label: int


@dataclass(frozen=True, kw_only=True)
class VideoList:
    """Labelled videos in a fixed order. ``source`` says in words where they come from."""

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    source: str

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"{self.source}: class names repeat")
        if wrong := next((s for s in self.samples if not 0 <= s.label < len(self.classes)), None):
            raise ValueError(f"{wrong.path}: label {wrong.label} is outside the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.samples)

    def counts(self) -> dict[str, int]:
        """Videos per class, in the order of the classes, zeros included."""
        counts = dict.fromkeys(self.classes, 0)
        for sample in self.samples:
            counts[self.classes[sample.label]] += 1
        return counts

    def subset(self, indices: Iterable[int]) -> "VideoList":
        """The samples at these places, in this order, with all classes."""
        return replace(self, samples=tuple(self.samples[i] for i in indices))


def ordered_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct class names in label order: by number where all of them are whole numbers, else by letters."""
    distinct = set(names)
    if distinct and all(name.isdecimal() and name.isascii() for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def is_video(path: Path) -> bool:
    """Whether the name is a video's. Hidden files never are."""
    return path.suffix.lower() in VIDEO_EXTENSIONS and not path.name.startswith(".")


def name_some(things: Iterable[object], most: int = 3) -> str:
    """The first few of a list in words: "a, b, c and 4 more"."""
    names = [str(thing) for thing in things]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
