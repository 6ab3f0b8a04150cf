"""Reads and writes the label files of THUMOS'14: ``Label_val.txt`` for each class, with ``video start end`` lines."""

import re
from collections.abc import Sequence
from pathlib import Path

from dualformer.datasets.benchmarks.annotations import text_lines
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.video_finder import VideoFinder, video_ids
from dualformer.files import write_text
from dualformer.segment import Segment
from dualformer.timestamps import parse_time

_STEM = re.compile(r"(.+)_(train|val|test)", re.DOTALL)
_NUMBER = r"[+-]?[0-9]*\.?[0-9]+"
THUMOS_LINE = re.compile(rf"\S.*\s{_NUMBER}\s+{_NUMBER}")
"""A line of such a file."""


def read_thumos_labels(path: Path, videos: VideoFinder) -> list[AnnotatedVideo]:
    """Returns the videos of the file of one class: its label is the file's name, in front of _train, _val or _test.

    Raises `DatasetError` with the line.
    """
    found = SegmentCollector()
    named = _STEM.fullmatch(path.stem)
    label, split = (named[1], named[2]) if named else (path.stem, "")
    for where, line in text_lines(path):
        name, *times = line.rsplit(None, 2)
        if len(times) != 2:
            raise DatasetError(f"{where}: {line[:60]!r} is not VIDEO START END: correct the line")
        try:
            start, end = map(parse_time, times)
        except ValueError as error:
            raise DatasetError(f"{where}: {error}") from error
        video = videos.find([name], path, where)
        found.add_video(video, where, split=split)
        found.add_segment(video, where, Segment(label=label, start=start, end=end))
    return found.videos()


def write_thumos_labels(videos: Sequence[AnnotatedVideo], folder: Path) -> list[Path]:
    """Writes a file for each class and split to ``folder``; returns them.

    Raises `DatasetError` for a label that no file can be called after, for a split that is none of train, val and test,
    and for a video without segments, which such files cannot name.
    """
    ids = video_ids(videos, folder)
    files: dict[str, list[str]] = {}
    for video in videos:
        if not video.segments:
            raise DatasetError(
                f"{folder}: nothing is marked in {video.path}, which THUMOS cannot say: leave it out, or write another "
                "format"
            )
        if video.split not in ("", "train", "val", "test"):
            raise DatasetError(
                f"{folder}: {video.path} is of {video.split!r}: THUMOS has train, val and test: write another format"
            )
        for line, segment in zip(video.lines, video.segments, strict=True):
            label, suffix = segment.label, f"_{video.split}" if video.split else ""
            if set(label) & set("/\\\0") or label.startswith(".") or (not suffix and _STEM.fullmatch(label)):
                raise DatasetError(f"{line}: no file can be called after {label!r}: rename it, or write another format")
            times = f"{segment.start:.3f} {segment.end:.3f}"
            files.setdefault(f"{label}{suffix}.txt", []).append(f"{ids[video.path]} {times}\n")
    for name, lines in files.items():
        write_text(folder / name, "".join(lines))
    return [folder / name for name in files]
