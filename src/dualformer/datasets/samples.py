"""Samples and lists of samples, with a fixed order of classes: what reading annotations returns."""

import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dualformer.errors import DualFormerError
from dualformer.files import LABEL_SEPARATOR
from dualformer.plurals import counted
from dualformer.text_encoding import has_surrogates, without_surrogates
from dualformer.video.file_formats import is_image
from dualformer.video.file_slices import FileSlice, Media, is_frame_folder, media_path
from dualformer.video.video_segment import Footage, VideoSegment

VAL_FRACTION = 0.2
"""The share of each class for validation where the data has no split of its own."""
BACKGROUND_SHARE = 1.0
"""Pieces of what is unmarked in recordings, as a multiple of the mean number of segments a class."""
SEPARATOR = LABEL_SEPARATOR
"""Separates the labels of a multi-label video."""


class DatasetError(DualFormerError):
    """Annotations that cannot be used. The message names the file or folder and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled video, image, or folder of numbered frames. ``label`` indexes the classes of its list."""

    path: Path
    """A folder of frames is named by a pattern: ``clip/img_%05d.jpg``."""
    label: int
    fps: float | None = None
    """Frames a second of a folder of frames, if known."""
    extra_labels: tuple[int, ...] = ()
    """The labels after the first, of a video that has several."""

    @property
    def labels(self) -> tuple[int, ...]:
        """All labels."""
        return (self.label, *self.extra_labels)

    @property
    def media(self) -> Media:
        """The file, or the slice of one, that it is all or a part of."""
        return self.path

    @property
    def file(self) -> Footage:
        """What to read it from: its file, or a part of the file's time."""
        return self.media

    @property
    def recording(self) -> Path:
        """The path of its file, or the name of the slice."""
        return media_path(self.media)

    @property
    def origin(self) -> Path:
        """The absolute path of its file; of a video in an archive, its path in the data set of which that was made."""
        return self.recording.absolute()

    @property
    def name(self) -> str:
        """Its name without folders."""
        return name_of(self.media)


@dataclass(frozen=True, kw_only=True)
class SegmentSample(Sample):
    """A labelled part of a longer video. ``path`` is that of `VideoSegment`, and cannot be opened."""

    segment: VideoSegment

    @property
    def media(self) -> Media:
        return self.segment.file

    @property
    def file(self) -> Footage:
        return self.segment

    @property
    def name(self) -> str:
        return f"{super().name}{self.segment.times}"


@dataclass(frozen=True, kw_only=True)
class ArchivedSample(Sample):
    """A video inside an archive. ``path`` names it as if the archive were a folder, and cannot be opened."""

    piece: FileSlice
    original: str
    """Its path in the data set that the archive was made from."""

    @property
    def media(self) -> Media:
        return self.piece

    @property
    def origin(self) -> Path:
        return Path(self.original)

    @property
    def name(self) -> str:
        original = Path(self.original)
        return original.parent.name if is_frame_folder(self.piece) else original.name


@dataclass(frozen=True, kw_only=True)
class ArchivedSegment(SegmentSample, ArchivedSample):
    """A labelled part of a video inside an archive. ``original`` is the path of the whole video."""


@dataclass(frozen=True, kw_only=True)
class MissingSample(Sample):
    """A video that is listed and missing. ``path``: where it should be; ``listed``: FILE:LINE."""

    listed: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The videos of a data set that are left out as bad, and how its manifest fits."""

    bad: frozenset[Path]
    manifest: str
    """The manifest, "" where there is none."""
    unknown: int = 0
    """Videos that the manifest has no row of."""
    elsewhere: int = 0
    """Bad rows of the manifest that are no videos of the data set."""
    strange: bool = False
    """Whether no row of the manifest is a video of the data set."""
    moved: tuple[str, str] | None = None
    """The folder that the videos were below, and the one that they are below now."""
    count: int = 0
    """How many videos are left out of those that were chosen."""

    @property
    def notes(self) -> str:
        """What does not fit between manifest and data set; begins with a comma. "" where all does."""
        if self.strange:
            return f", as no row of {self.manifest} is a file of the data"
        parts = [f"moved from {self.moved[0]} to {self.moved[1]}"] if self.moved else []
        if self.elsewhere:
            are = "is no file" if self.elsewhere == 1 else "are no files"
            parts.append(f"{self.elsewhere} more that it calls bad {are} of the data")
        if self.unknown:
            parts.append(f"{counted(self.unknown, 'file is', 'files are')} not in it")
        return "".join(f", {part}" for part in parts)

    @property
    def warning(self) -> str:
        """A line for a manifest of other files, "" for one that fits."""
        if not self.strange:
            return ""
        return (
            f"warning: no row of {self.manifest} is a file of the data, so that it leaves nothing out: check these "
            "files by `dualformer check`, or give the manifest that is theirs"
        )


@dataclass(frozen=True, kw_only=True)
class VideoList:
    """Labelled videos in a fixed order; an image is a video of one frame. ``source``: where they are from, in words."""

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    source: str
    missing: tuple[MissingSample, ...] = ()
    """Videos that are listed and missing. Training leaves them out; evaluation counts them as wrong."""
    manifest_hash: str = ""
    """`hash_manifest` of the whole data set that the list is a part of; empty for a list made by hand."""
    multi_label: bool = False
    """Whether a video may have several labels; all others are then negative."""
    left_out: LeftOut | None = None
    """The bad videos that it was opened without, if there was a list of them."""

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"{self.source}: class names repeat")
        everything = (*self.samples, *self.missing)
        for sample in everything:
            if wrong := [label for label in sample.labels if not 0 <= label < len(self.classes)]:
                raise ValueError(f"{sample.path}: label {wrong[0]} is outside the {len(self.classes)} classes")
            if sample.extra_labels and (not self.multi_label or len(set(sample.labels)) != len(sample.labels)):
                what = "repeats a label" if self.multi_label else "has several labels, and its list takes one each"
                raise ValueError(f"{sample.path} {what}")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def kind(self) -> str:
        """``videos``, ``images``, ``videos and images``, or ``segments`` of videos."""
        if self.samples and all(isinstance(sample, SegmentSample) for sample in self.samples):
            return "segments"
        images = sum(is_image(sample.path) and not is_frame_folder(sample.path) for sample in self.samples)
        return "videos" if not images else "images" if images == len(self) else "videos and images"

    def counts(self) -> dict[str, int]:
        """Counts videos by class, in the order of the classes, with zeros. One of several labels counts for each."""
        counts = dict.fromkeys(self.classes, 0)
        for sample in self.samples:
            for label in sample.labels:
                counts[self.classes[label]] += 1
        return counts

    def names_of(self, sample: Sample) -> str:
        """Returns the class of a sample; several are separated by ``;``, in the order of the classes."""
        return SEPARATOR.join(self.classes[label] for label in sorted(sample.labels))

    def subset(self, indices: Iterable[int]) -> "VideoList":
        """Returns the samples at these indices, in this order, with all classes and missing videos."""
        return replace(self, samples=tuple(self.samples[i] for i in indices))


def name_of(path: Footage) -> str:
    """Returns a video's name without folders: that of its file, or of its folder of frames."""
    if isinstance(path, VideoSegment):
        return f"{name_of(path.file)}{path.times}"
    if isinstance(path, FileSlice):
        return path.path.name
    return path.parent.name if is_frame_folder(path) else path.name


def hash_manifest(splits: Mapping[str, VideoList]) -> str:
    """Returns sixteen hex digits, the same for copies of a data set with the same videos, classes and splits.

    File names count, folders, order and content do not. Missing videos are left out: a copy without them has another
    hash.
    """
    digest = hashlib.sha256()
    for classes in sorted({videos.classes for videos in splits.values()}):
        digest.update(("\0".join(classes) + "\n").encode("utf-8", "surrogateescape"))
    lines = [
        f"{split}\0{sample.name}\0{videos.names_of(sample)}\n"
        for split, videos in splits.items()
        for sample in videos.samples
    ]
    for line in sorted(lines):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def ordered_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Returns distinct class names in label order: by number where all of them are whole numbers, else by letters."""
    distinct = set(names)
    if distinct and all(name.isdecimal() and name.isascii() for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def unify_spellings(names: Iterable[str]) -> dict[str, str]:
    """Returns one spelling for each of the ``names``, the same for those that Unicode calls equal.

    ``é`` is one character (NFC) or two (NFD), which look alike. A name that is spelled in one way keeps it; of several
    it is NFC.
    """
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault(unicodedata.normalize("NFC", name), set()).add(name)
    return {name: composed if len(own) > 1 else name for composed, own in spellings.items() for name in own}


def spelled_as(name: str, known: Collection[str]) -> str:
    """Returns the one of the ``known`` names that Unicode calls equal to ``name``; ``name`` itself where none is."""
    if name in known:
        return name
    composed = unicodedata.normalize("NFC", name)
    return next((each for each in known if unicodedata.normalize("NFC", each) == composed), name)


def check_class_names(classes: Iterable[str], source: str) -> None:
    """Raises `DatasetError` for a class whose name would not come back from the files of a run as it is."""
    for name in classes:
        problem = (
            "is not UTF-8"
            if has_surrogates(name)
            else f"holds {SEPARATOR!r}, which separates the labels of a video"
            if SEPARATOR in name
            else "begins or ends with a blank, or is empty"
            if name != name.strip() or not name
            else "holds a line break or another control character"
            if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name)
            else ""
        )
        if problem:
            raise DatasetError(f"{source}: the class {without_surrogates(name)!r} {problem}: rename it")


def first_few(items: Iterable[object], most: int = 3) -> str:
    """Names the first few of a list: "a, b, c and 4 more"."""
    names = [str(item) for item in items]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
