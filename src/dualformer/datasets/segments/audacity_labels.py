"""Reads and writes label tracks of Audacity: ``start<tab>end<tab>label`` lines, one file for each video."""

import re
from collections.abc import Sequence
from pathlib import Path

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.video_finder import VideoFinder, write_each
from dualformer.files import read_text
from dualformer.segment import Segment
from dualformer.timestamps import parse_time

AUDACITY_LINE = re.compile(r"\s*[+-]?[0-9]*[.,]?[0-9]+\t[+-]?[0-9]*[.,]?[0-9]+(?:\t.*)?")
"""A line of such a file."""


def read_audacity_labels(path: Path, videos: VideoFinder) -> list[AnnotatedVideo]:
    """Returns the video that is called like the file, with its labels, in seconds.

    Lines that begin with a backslash, the frequencies of the label before, are left out. Raises `DatasetError` with the
    line, also for a label without text.
    """
    found = SegmentCollector()
    video = videos.find([path.stem], path, str(path))
    found.add_video(video, str(path))
    for number, line in enumerate(re.split(r"\r\n|\n|\r", read_text(path, DatasetError)), 1):
        where = f"{path}:{number}"
        if not line.strip() or line.startswith("\\"):
            continue
        start, *rest = line.split("\t", 2)
        if not rest:
            raise DatasetError(
                f"{where}: {line[:60]!r} is not start, end and label with tabs between: correct the line"
            )
        try:
            segment = Segment(
                label=rest[1].strip() if len(rest) == 2 else "", start=parse_time(start), end=parse_time(rest[0])
            )
        except ValueError as error:
            raise DatasetError(f"{where}: {error}") from error
        found.add_segment(video, where, segment)
    return found.videos()


def write_audacity_labels(videos: Sequence[AnnotatedVideo], folder: Path) -> list[Path]:
    """Writes ``VIDEO.txt`` for each video to ``folder``; returns the files."""

    def text(video: AnnotatedVideo) -> str:
        return "".join(f"{s.start:.6f}\t{s.end:.6f}\t{s.label}\n" for s in video.segments)

    return write_each(videos, folder, ".txt", text)
