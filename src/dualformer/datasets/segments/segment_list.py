"""Reads segments of any format as a table of rows, which is split and chosen from like that of a CSV list."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dualformer.datasets.bad_videos import BadVideos
from dualformer.datasets.csv_list import END, START, first_problem, read_csv
from dualformer.datasets.foreign.layouts import find_foreign
from dualformer.datasets.row_table import CsvTable, Row
from dualformer.datasets.samples import DatasetError, LeftOut, first_few, ordered_classes, unify_spellings
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.check_segments import check_segments
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.segment_csv import columns_of
from dualformer.datasets.segments.segment_formats import FORMATS, read_segments, recognise_format
from dualformer.datasets.segments.video_finder import is_there
from dualformer.plurals import counted
from dualformer.remote_paths import as_path
from dualformer.segment import Segment
from dualformer.video.video_segment import VideoSegment, seconds_text

PREFIX = "segments:"
"""In front of a folder of segment files, which would else be read as one of class folders."""


def segment_file(data: str | Path) -> Path | None:
    """Returns the file or folder of segments that ``data`` names, None for other data. A CSV file with the columns path
    and label is a list."""
    text = str(data)
    path = as_path(text.removeprefix(PREFIX)).expanduser()
    if text.startswith(PREFIX):
        return path
    if path.suffix.lower() not in {each.extension for each in FORMATS.values()} or not path.is_file():
        return None
    return None if path.suffix.lower() == ".csv" and _csv_kind(path) != "segments" else path


def read_segment_table(
    path: Path,
    *,
    bad: Collection[Path] = (),
    check_files: bool = True,
    multi_label: bool = False,
    frames_per_second: float | None = None,
) -> CsvTable:
    """Returns the segments of `read_segments` as rows with the columns path, start, end, label and, where a file says
    it of any, split (train for the others). Videos in which nothing is marked have no row.

    ``bad``, ``check_files`` and ``frames_per_second``: as for `read_csv`. Raises as `read_segments`; `DatasetError`
    with the line for a segment that ends before it begins, ``ValueError`` with ``multi_label``, as each segment has
    one.
    """
    if multi_label:
        raise ValueError(
            f"{path} gives each segment one label: several are for a CSV file with the columns path and label"
        )
    videos = read_segments(path, frames_per_second=frames_per_second, check_files=False)
    if wrong := check_segments([_times_alone(video) for video in videos]):
        raise DatasetError(first_problem(wrong))
    has_splits = any(video.split for video in videos)
    spelled = unify_spellings(segment.label for video in videos for segment in video.segments)
    rows: list[Row] = []
    for video in videos:
        for segment, where in zip(video.segments, video.lines, strict=True):
            values = {"path": str(video.path), START: seconds_text(segment.start), END: seconds_text(segment.end)}
            values |= {"label": spelled[segment.label]} | ({"split": video.split or "train"} if has_splits else {})
            part = VideoSegment(file=video.path, start=segment.start, end=segment.end)
            labels, line = (spelled[segment.label],), len(rows) + 1
            rows.append(Row(video=video.path, line=line, values=values, labels=labels, segment=part, listed=where))
    if not rows:
        raise DatasetError(f"{path}: no segment is marked in it")
    listed = BadVideos.of(bad)
    left_out = listed.among([video.path for video in videos]) if listed or listed.manifest else None
    if check_files:
        check_there(
            path, [video for video in videos if video.segments and not (left_out and video.path in left_out.bad)]
        )
    return CsvTable(
        path=path,
        columns=tuple(rows[0].values),
        rows=tuple(row for row in rows if not left_out or row.video not in left_out.bad),
        classes=ordered_classes(label for row in rows for label in row.labels),
        left_out=left_out,
        bad_rows=tuple(row for row in rows if left_out and row.video in left_out.bad),
        unmarked=tuple(video.path for video in videos if not video.segments),
    )


def read_recordings(
    path: Path, *, bad: Collection[Path] = (), frames_per_second: float | None = None
) -> tuple[list[AnnotatedVideo], LeftOut | None]:
    """Returns the videos of a file or folder of segments, marked or not, but those that are ``bad``, and which these
    are, if any were given. Raises as `read_segments`."""
    videos = read_segments(path, frames_per_second=frames_per_second, check_files=False)
    listed = BadVideos.of(bad)
    left_out = listed.among([video.path for video in videos]) if listed or listed.manifest else None
    kept = [video for video in videos if not left_out or video.path not in left_out.bad]
    check_there(path, kept)
    return kept, left_out and replace(left_out, count=len(videos) - len(kept))


def check_there(path: Path, videos: Sequence[AnnotatedVideo]) -> None:
    """Raises `DatasetError` where some of the videos that the segments in ``path`` name are not there."""
    if missing := [video for video in videos if not is_there(video.path)]:
        names = first_few(video.path.name for video in missing)
        where = next((video.lines[0] for video in missing if video.lines), str(path))
        raise DatasetError(
            f"{where}: {len(missing)} of {counted(len(videos), 'video is', 'videos are')} not there: {names}: correct "
            "the names, put them beside the file or below, or leave them out by the manifest of a check (`manifest`)"
        )


def problems_of_segments(
    data: str | Path, lengths: dict[Path, float], *, frames_per_second: float | None = None
) -> list[str]:
    """Returns what `check_segments` finds in ``data``, nothing for data that are no segments.

    ``lengths``: seconds of the videos, as far as they are known. ``frames_per_second``: as for `read_csv`.
    """
    path = as_path(str(data).removeprefix(PREFIX)).expanduser()
    if segment_file(data) is not None:
        videos = read_segments(path, frames_per_second=frames_per_second, check_files=False)
        return check_segments(videos, lengths=lengths)
    if foreign := None if path.suffix.lower() == ".csv" else find_foreign(data):
        return check_segments(_videos_of_rows(path, [row for row in foreign.rows() if row.labels[0]]), lengths=lengths)
    if path.suffix.lower() == ".csv" and path.is_file() and _csv_kind(path) == "list":
        wrong: list[str] = []
        table = read_csv(path, check_files=False, multi_label=None, frames_per_second=frames_per_second, wrong=wrong)
        return wrong + check_segments(_videos_of_rows(path, table.rows), lengths=lengths)
    return []


def _videos_of_rows(path: Path, rows: Sequence[Row]) -> list[AnnotatedVideo]:
    """Returns the segments of a list's rows by video, with a segment for each label; videos need not be there."""
    found = SegmentCollector()
    for row in rows:
        if part := row.segment:
            for label in row.labels:
                segment = Segment(label=label, start=part.start, end=part.end)
                found.add_segment(row.video, row.where(path), segment)
    return found.videos()


def _times_alone(video: AnnotatedVideo) -> AnnotatedVideo:
    """Returns the video with only those of its segments whose times cannot be."""
    wrong = [place for place, each in enumerate(video.segments) if not 0 <= each.start <= each.end]
    return AnnotatedVideo(
        path=video.path,
        segments=tuple(video.segments[place] for place in wrong),
        lines=tuple(video.lines[place] for place in wrong),
    )


def _csv_kind(path: Path) -> Literal["segments", "list", "other"]:
    """Returns whether a CSV file is of segments alone, a list with columns of their times, or neither; a file that
    cannot be read is told when it is."""
    try:
        is_list = recognise_format(path) == "csv" and "path" in columns_of(path)
    except DatasetError:
        return "other"
    return "list" if is_list else "segments"
