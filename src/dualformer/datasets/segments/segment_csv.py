"""Reads and writes segments as CSV: columns path, start, end and label, one row for each segment.

Optional columns are probability, split (the part of the data set) and fps (frames a second of the video); others are
let be. A row of a path alone is a video in which nothing is marked. A file without the column path, as timelines are
written, is of the video that is called like it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dualformer.datasets.csv_list import check_header, segment_time
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.video_finder import VideoFinder, path_in_file
from dualformer.files import read_csv_rows, write_csv
from dualformer.plurals import counted
from dualformer.segment import Segment

TIMES = ("start", "end", "label")
"""The columns that every such file has."""


def read_segment_csv(
    path: Path, videos: VideoFinder, *, frames_per_second: float | None = None
) -> list[AnnotatedVideo]:
    """Returns the videos of a CSV file. Times are seconds, ``mm:ss.s`` or ``hh:mm:ss.s``.

    ``frames_per_second``: if given, whole numbers are frames, counted from 0; an end is the first frame behind the
    segment. Raises `DatasetError` with the line.
    """
    found = SegmentCollector()
    for where, row in read_csv_columns(path, TIMES):
        video = videos.find([row.get("path", path.stem)], path, where)
        rate = _number(row["fps"], where, "fps") if row.get("fps") else None
        found.add_video(video, where, fps=rate, split=row.get("split", ""))
        if not any(row[name] for name in TIMES):
            continue
        segment = Segment(
            label=row["label"],
            start=segment_time(row["start"], frames_per_second, where, "start"),
            end=segment_time(row["end"], frames_per_second, where, "end"),
            probability=_number(row["probability"], where, "probability") if row.get("probability") else 1.0,
        )
        found.add_segment(video, where, segment)
    if not found.videos() and "path" not in columns_of(path):
        found.add_video(videos.find([path.stem], path, str(path)), str(path))
    return found.videos()


def write_segment_csv(videos: Sequence[AnnotatedVideo], path: Path) -> None:
    """Writes a CSV file, in seconds. It has the columns probability, split and fps where a video has any of these."""
    extra = {
        "probability": any(segment.probability != 1 for video in videos for segment in video.segments),
        "split": any(video.split for video in videos),
        "fps": any(video.fps is not None for video in videos),
    }

    def rows() -> Iterator[list[str]]:
        for video in videos:
            name = path_in_file(video.path, path.parent)
            rate = "" if video.fps is None else repr(video.fps)
            marked = [[f"{s.start:.3f}", f"{s.end:.3f}", s.label, f"{s.probability:.6f}"] for s in video.segments]
            for *times, probability in marked or [["", "", "", ""]]:
                values = {"probability": probability, "split": video.split, "fps": rate}
                yield [name, *times, *(values[column] for column, there in extra.items() if there)]

    write_csv(path, ["path", *TIMES, *(column for column, there in extra.items() if there)], rows())


def columns_of(path: Path) -> list[str]:
    """Returns the header of a CSV file of segments."""
    return next((fields for _, fields in read_csv_rows(path, DatasetError, names=True, columns=TIMES)), [])


def read_csv_columns(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields FILE:LINE and fields by column of the rows of a CSV file that has the ``needed`` columns."""
    columns: list[str] = []
    for line, fields in read_csv_rows(path, DatasetError, names=True, columns=needed):
        if not columns:
            columns = check_header(path, fields, needed)
        elif len(fields) != len(columns):
            what = counted(len(fields), "field where the header has", "fields where the header has")
            raise DatasetError(f"{path}:{line}: {what} {len(columns)}: correct the line")
        else:
            yield f"{path}:{line}", dict(zip(columns, fields, strict=True))
    if not columns:
        raise DatasetError(f"{path}: nothing in it: expected a header {','.join(needed)}")


def _number(text: str, where: str, what: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DatasetError(f"{where}: {what} {text[:60]!r} is no number: correct it") from error
