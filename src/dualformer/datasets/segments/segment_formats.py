"""The formats of segments in one table: recognises a file, reads segments and writes them."""

import logging
import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualformer.datasets.samples import DatasetError, first_few
from dualformer.datasets.segments.activitynet import read_activitynet, write_activitynet
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.audacity_labels import AUDACITY_LINE, read_audacity_labels, write_audacity_labels
from dualformer.datasets.segments.collect_segments import SegmentCollector, check_writable
from dualformer.datasets.segments.elan import read_elan, write_elan
from dualformer.datasets.segments.epic_kitchens import TIMES as EPIC_KITCHENS_COLUMNS
from dualformer.datasets.segments.epic_kitchens import read_epic_kitchens, write_epic_kitchens
from dualformer.datasets.segments.label_studio import read_label_studio, write_label_studio
from dualformer.datasets.segments.segment_csv import TIMES as CSV_COLUMNS
from dualformer.datasets.segments.segment_csv import read_segment_csv, write_segment_csv
from dualformer.datasets.segments.segment_format_name import SegmentFormatName
from dualformer.datasets.segments.subtitle_files import (
    read_sub_rip_file,
    read_web_vtt_file,
    write_sub_rip_files,
    write_web_vtt_files,
)
from dualformer.datasets.segments.thumos_labels import THUMOS_LINE, read_thumos_labels, write_thumos_labels
from dualformer.datasets.segments.via_project import read_via, write_via
from dualformer.datasets.segments.video_finder import VideoFinder
from dualformer.files import read_text
from dualformer.remote_paths import as_path
from dualformer.segment import Segment

_log = logging.getLogger("dualformer")


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How segments are read; each format takes what it has a use for."""

    frames_per_second: float | None = None
    """CSV: whole numbers are frames at this rate. Label Studio: the rate of the timeline, whose times are frames."""
    tiers: tuple[str, ...] = ()
    """ELAN: the tiers that are read; VIA: the attributes whose values are labels. All if none is named."""
    label_columns: tuple[str, ...] = ("verb", "noun")
    """EPIC-KITCHENS: the columns that a label is made of."""

    def __post_init__(self) -> None:
        _check_rate(self.frames_per_second)


@dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """How segments are written; each format takes what it has a use for."""

    frames_per_second: float | None = None
    """Label Studio, which counts frames: the rate of videos whose own is not known."""
    url_prefix: str = ""
    """Label Studio: what it finds videos by, such as ``/data/local-files/?d=``, in front of their paths."""

    def __post_init__(self) -> None:
        _check_rate(self.frames_per_second)


@dataclass(frozen=True, kw_only=True)
class SegmentFormat:
    """A format of segments."""

    title: str
    """What it is, for messages."""
    extension: str
    starts_like: Callable[[str], bool] | None
    """Whether the text of a file is of the format; None where the extension says so."""
    read: Callable[[Path, VideoFinder, ReadSettings], list[AnnotatedVideo]]
    write: Callable[[Sequence[AnnotatedVideo], Path, WriteSettings], list[Path] | None]
    """Writes to a file, which returns None, or to a folder."""
    has_folder: bool = False
    """Whether it has a file for each video or label, in a folder."""
    names_unmarked: bool = True
    """Whether it can say that nothing is marked in a video."""


def _has_columns(columns: Collection[str]) -> Callable[[str], bool]:
    def has(text: str) -> bool:
        fields = re.split("[,;\t]", _first_line(re.sub(r"^sep=[,;\t]\s*", "", text)))
        return {field.strip().strip('"') for field in fields}.issuperset(columns)

    return has


def _has_names(*names: str) -> Callable[[str], bool]:
    def has(text: str) -> bool:
        return text.lstrip().startswith("{") and all(re.search(rf'"{name}"\s*:', text) for name in names)

    return has


def _first_line(text: str) -> str:
    return next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")


FORMATS: dict[SegmentFormatName, SegmentFormat] = {
    "csv": SegmentFormat(
        title="CSV with the columns path,start,end,label",
        extension=".csv",
        starts_like=_has_columns(CSV_COLUMNS),
        read=lambda path, videos, how: read_segment_csv(path, videos, frames_per_second=how.frames_per_second),
        write=lambda videos, path, _: write_segment_csv(videos, path),
    ),
    "epic-kitchens": SegmentFormat(
        title=f"EPIC-KITCHENS: CSV with the columns {','.join(EPIC_KITCHENS_COLUMNS)}",
        extension=".csv",
        starts_like=_has_columns(EPIC_KITCHENS_COLUMNS),
        read=lambda path, videos, how: read_epic_kitchens(path, videos, label_columns=how.label_columns),
        write=lambda videos, path, _: write_epic_kitchens(videos, path),
        names_unmarked=False,
    ),
    "activitynet": SegmentFormat(
        title="ActivityNet and THUMOS'14: JSON with a database",
        extension=".json",
        starts_like=_has_names("database"),
        read=lambda path, videos, _: read_activitynet(path, videos),
        write=lambda videos, path, _: write_activitynet(videos, path),
    ),
    "via": SegmentFormat(
        title="a project of VIA 3: JSON with view and metadata",
        extension=".json",
        starts_like=_has_names("view", "metadata"),
        read=lambda path, videos, how: read_via(path, videos, tiers=how.tiers),
        write=lambda videos, path, _: write_via(videos, path),
    ),
    "label-studio": SegmentFormat(
        title="an export of Label Studio: a JSON list of tasks",
        extension=".json",
        starts_like=lambda text: text.lstrip().startswith("["),
        read=lambda path, videos, how: read_label_studio(path, videos, frames_per_second=how.frames_per_second),
        write=lambda videos, path, how: write_label_studio(
            videos, path, frames_per_second=how.frames_per_second, url_prefix=how.url_prefix
        ),
    ),
    "audacity": SegmentFormat(
        title="a label track of Audacity: lines of start, end and label with tabs between",
        extension=".txt",
        starts_like=lambda text: not text.strip() or AUDACITY_LINE.fullmatch(_first_line(text)) is not None,
        read=lambda path, videos, _: read_audacity_labels(path, videos),
        write=lambda videos, path, _: write_audacity_labels(videos, path),
        has_folder=True,
    ),
    "thumos": SegmentFormat(
        title="THUMOS'14: LABEL_val.txt with lines VIDEO START END",
        extension=".txt",
        starts_like=lambda text: THUMOS_LINE.fullmatch(_first_line(text).strip()) is not None,
        read=lambda path, videos, _: read_thumos_labels(path, videos),
        write=lambda videos, path, _: write_thumos_labels(videos, path),
        has_folder=True,
        names_unmarked=False,
    ),
    "elan": SegmentFormat(
        title="ELAN",
        extension=".eaf",
        starts_like=None,
        read=lambda path, videos, how: read_elan(path, videos, tiers=how.tiers),
        write=lambda videos, path, _: write_elan(videos, path),
        has_folder=True,
    ),
    "vtt": SegmentFormat(
        title="WebVTT",
        extension=".vtt",
        starts_like=None,
        read=lambda path, videos, _: read_web_vtt_file(path, videos),
        write=lambda videos, path, _: write_web_vtt_files(videos, path),
        has_folder=True,
    ),
    "srt": SegmentFormat(
        title="SubRip",
        extension=".srt",
        starts_like=None,
        read=lambda path, videos, _: read_sub_rip_file(path, videos),
        write=lambda videos, path, _: write_sub_rip_files(videos, path),
        has_folder=True,
    ),
}
"""In the order in which a file is compared with them."""


def recognise_format(path: Path) -> SegmentFormatName:
    """Returns the format of a file, by its extension and content. Raises `DatasetError` for a file of none of them."""
    extension = path.suffix.lower()
    candidates: dict[SegmentFormatName, SegmentFormat] = {
        name: each for name, each in FORMATS.items() if each.extension == extension
    }
    text = read_text(path, DatasetError, names=True) if any(each.starts_like for each in candidates.values()) else ""
    for name, each in candidates.items():
        if each.starts_like is None or each.starts_like(text):
            return name
    known = "; ".join(f"{each.extension}, {each.title}" for each in (candidates or FORMATS).values())
    raise DatasetError(f"{path}: segments in no format that is known ({known}): write it as one of these")


def read_segments(
    path: str | Path,
    *,
    format: SegmentFormatName | None = None,  # noqa: A002 - what it is called everywhere
    videos: str | Path | None = None,
    frames_per_second: float | None = None,
    tiers: Sequence[str] = (),
    label_columns: Sequence[str] = ("verb", "noun"),
    check_files: bool = True,
) -> list[AnnotatedVideo]:
    """Returns the videos that a file names, or all such files of one format in a folder, with their segments.

    ``format``: recognised if not given. ``videos``: the folder of the videos, if they do not lie beside the file.
    ``check_files``: whether all videos must be there. The others are those of `ReadSettings`. Raises
    ``FileNotFoundError`` where there is no such file or folder, `DatasetError` with the line for what is wrong in a
    file and for a video that is not there, and ``ValueError`` for a rate that cannot be.
    """
    path = as_path(path)
    settings = ReadSettings(frames_per_second=frames_per_second, tiers=tuple(tiers), label_columns=tuple(label_columns))
    finder = VideoFinder(None if videos is None else as_path(videos), check_files=check_files)
    if path.is_file():
        videos_of_file = FORMATS[format or recognise_format(path)].read(path, finder, settings)
        finder.tell_elsewhere(path)
        return videos_of_file
    if not path.is_dir():
        raise FileNotFoundError(f"no such file or folder of segments: {path}")
    found = SegmentCollector()
    name, files = _files_in(path, format)
    for file in files:
        for video in FORMATS[name].read(file, finder, settings):
            found.add_all(video)
    finder.tell_elsewhere(path)
    return found.videos()


def write_segments(
    videos: Sequence[AnnotatedVideo],
    path: str | Path,
    format: SegmentFormatName,  # noqa: A002
    *,
    frames_per_second: float | None = None,
    url_prefix: str = "",
) -> list[Path]:
    """Writes videos with their segments so that `read_segments` reads them; returns the files.

    ``path``: a file, or the folder of the files where the ``format`` has one for each video (elan, audacity, vtt,
    srt) or label (thumos). The others are those of `WriteSettings`. Raises `DatasetError` for what a format cannot
    hold, `FileWriteError`, and ``ValueError`` for a rate that cannot be.
    """
    settings = WriteSettings(frames_per_second=frames_per_second, url_prefix=url_prefix)
    path = Path(path)
    check_writable(videos, path)
    return FORMATS[format].write(videos, path, settings) or [path]


def check_names(
    videos: Sequence[Path],
    labels: Sequence[str],
    format: SegmentFormatName,  # noqa: A002
) -> None:
    """Raises `DatasetError` where `write_segments` would, whatever the times are, for the names of ``videos`` or
    ``labels``. It is said before hours are spent on what could not be written."""
    what = f"the format {format}"
    second = tuple(Segment(label=label, start=0.0, end=1.0) for label in labels)
    marked = (second, *[second[:1]] * (len(videos) - 1))
    named = [
        AnnotatedVideo(path=path, segments=segments, lines=(what,) * len(segments))
        for path, segments in zip(videos, marked, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            write_segments(named, Path(folder) / "segments", format, frames_per_second=1.0)
        except DatasetError as error:
            raise DatasetError(str(error).replace(str(Path(folder) / "segments"), what)) from None


def _check_rate(frames_per_second: float | None) -> None:
    """Raises ``ValueError`` for a rate that is not more than 0."""
    if frames_per_second is not None and not 0 < frames_per_second < 1e6:
        raise ValueError(f"`frames_per_second` must be a number more than 0, not {frames_per_second}")


def _files_in(folder: Path, wanted: SegmentFormatName | None) -> tuple[SegmentFormatName, list[Path]]:
    """Returns the files of segments right in a folder, all of which are of one format."""
    extensions = {each.extension for name, each in FORMATS.items() if wanted in (None, name)}
    candidates = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in extensions and file.is_file() and not file.name.startswith(".")
    )
    found: dict[SegmentFormatName, list[Path]] = {}
    others: list[Path] = []
    for file in candidates:
        try:
            found.setdefault(recognise_format(file), []).append(file)
        except DatasetError:
            others.append(file)
    chosen: dict[SegmentFormatName, list[Path]] = {
        name: files for name, files in found.items() if wanted in (None, name)
    }
    if len(chosen) > 1:
        raise DatasetError(f"{folder}: segments in several formats, {first_few(chosen, 10)}: say which with `format`")
    if not chosen:
        what = f"files of the format {wanted}" if wanted else f"files of segments ({', '.join(sorted(extensions))})"
        raise DatasetError(f"{folder}: no {what} in it: name the folder that holds them, or a file")
    if others:
        _log.warning("%s: left out as no segments: %s", folder, first_few(file.name for file in others))
    name, files = next(iter(chosen.items()))
    return name, files
