"""Collects the segments of a file by video, with the checks that all formats share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dualformer.datasets.samples import DatasetError, check_class_names
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.video_finder import check_video_name
from dualformer.segment import Segment


@dataclass(kw_only=True)
class _Collected:
    where: str
    segments: list[Segment] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    seconds: float | None = None
    fps: float | None = None
    split: str = ""


class SegmentCollector:
    """Collects videos and their segments in the order in which they are added."""

    def __init__(self) -> None:
        self._found: dict[Path, _Collected] = {}
        self._labels: set[str] = set()
        """Those that are checked."""

    def add_video(
        self, path: Path, where: str, *, seconds: float | None = None, fps: float | None = None, split: str = ""
    ) -> None:
        """Adds a video, or more about one. ``where``: where that is listed.

        Raises `DatasetError` where something else was said before, and for a length or rate that cannot be.
        """
        video = self._found.setdefault(path, _Collected(where=where))
        for name, value in (("seconds", seconds), ("fps", fps)):
            if value is not None and not 0 < value < math.inf:
                raise DatasetError(f"{where}: {name} {value} of {path.name!r} is not a number more than 0: correct it")
        for name, value in (("seconds", seconds), ("fps", fps), ("split", split)):
            if (before := getattr(video, name)) and value and value != before:
                raise DatasetError(
                    f"{where}: {path.name!r} has {name}={value} here, and {before} in {video.where}: correct one of "
                    "them"
                )
            setattr(video, name, before or value)

    def add_segment(self, path: Path, where: str, segment: Segment) -> None:
        """Adds a segment of a video, and the video if it is new.

        Raises `DatasetError` for a label that is no name of a class, for times that are no finite numbers, and for a
        probability that is none.
        """
        self.add_video(path, where)
        if segment.label not in self._labels:
            check_class_names([segment.label], where)
            self._labels.add(segment.label)
        check_times(segment, where)
        self._found[path].segments.append(segment)
        self._found[path].lines.append(where)

    def add_all(self, video: AnnotatedVideo) -> None:
        """Adds what another file says of a video."""
        where = video.lines[0] if video.lines else str(video.path)
        self.add_video(video.path, where, seconds=video.seconds, fps=video.fps, split=video.split)
        for line, segment in zip(video.lines, video.segments, strict=True):
            self.add_segment(video.path, line, segment)

    def videos(self) -> list[AnnotatedVideo]:
        """Returns all that was added."""
        return [
            AnnotatedVideo(
                path=path,
                segments=tuple(video.segments),
                lines=tuple(video.lines),
                seconds=video.seconds,
                fps=video.fps,
                split=video.split,
            )
            for path, video in self._found.items()
        ]


def check_times(segment: Segment, where: str) -> None:
    """Raises `DatasetError` for times that are no finite numbers, and for a probability that is none."""
    for time in (segment.start, segment.end):
        if not math.isfinite(time):
            raise DatasetError(f"{where}: {segment.label!r} has the time {time}, which is no number: correct it")
    if not 0 <= segment.probability <= 1:
        raise DatasetError(
            f"{where}: {segment.label!r} has the probability {segment.probability}, which is not from 0 to 1: correct "
            "it"
        )


def check_writable(videos: Sequence[AnnotatedVideo], target: Path) -> None:
    """Raises `DatasetError` for videos and segments that would not come back from a file as they are."""
    seen: set[Path] = set()
    for video in videos:
        check_video_name(str(video.path), str(target))
        if video.path in seen:
            raise DatasetError(f"{target}: {video.path} is to be written twice: give its segments together")
        seen.add(video.path)
        for line, segment in zip(video.lines, video.segments, strict=True):
            check_class_names([segment.label], line)
            check_times(segment, line)
            if not 0 <= segment.start <= segment.end:
                raise DatasetError(
                    f"{line}: {segment.label!r} from {segment.start} to {segment.end} s of {video.path.name!r} begins "
                    "before 0 or ends before it begins: correct its times before it is written"
                )
