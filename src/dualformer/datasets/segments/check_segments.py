"""Checks segments before training on them: times beyond the video, reversed, overlapping ones, labels that are none."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.moved_files import absolute
from dualformer.segment import Segment
from dualformer.video.video_segment import seconds_text

TOLERANCE = 0.5
"""Seconds by which a segment may end behind its video: programs round, and sound may last longer than pictures."""
_TOUCHING = 0.0015
"""Seconds by which two segments may overlap: formats round to a millisecond."""


def check_segments(
    videos: Sequence[AnnotatedVideo],
    *,
    lengths: Mapping[Path, float] | None = None,
    classes: Collection[str] = (),
    points: bool = True,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Returns what is wrong with segments, a line each, as ``FILE:LINE: what: remedy``, in the order of the files.

    ``lengths``: seconds of videos by path; else those that the files of segments say. ``classes``: the labels that
    there are, any if none is given. ``points``: whether moments are meant, of segments that end as they begin.
    ``tolerance``: seconds by which a segment may lie beyond the end of its video. No video is opened.
    """
    known = {absolute(path): seconds for path, seconds in (lengths or {}).items()}
    found: list[str] = []
    for video in videos:
        overlaps = _overlaps(video)
        seconds = known.get(absolute(video.path), video.seconds)
        for place, segment in enumerate(video.segments):
            problems = [
                *_problems_of_times(segment, video.path.name, seconds, points, tolerance),
                *_problems_of_label(segment, classes),
                *([overlaps[place]] if place in overlaps else []),
            ]
            found += [f"{video.lines[place]}: {problem}" for problem in problems]
    return found


def _problems_of_times(
    segment: Segment, name: str, seconds: float | None, points: bool, tolerance: float
) -> Iterator[str]:
    label, start, end = segment.label, seconds_text(segment.start), seconds_text(segment.end)
    if segment.start < 0 or segment.end < 0:
        yield f"{label!r} {_times(segment)} begins before {name!r} does: correct the time"
    if segment.end < segment.start:
        yield f"{label!r} ends at {end} s, before it begins at {start} s: exchange the two times, or correct one"
    elif segment.end == segment.start and not points:
        yield f"{label!r} at {start} s is empty: give it an end behind its start"
    latest = max(segment.start, segment.end)
    if seconds is not None and latest > seconds + tolerance:
        what = f"begins at {start}" if segment.start >= seconds else f"ends at {end}"
        yield (
            f"{label!r} {what} s, and {name!r} lasts {seconds_text(round(seconds, 3))} s: correct the time, or the "
            "rate where times are frames"
        )


def _problems_of_label(segment: Segment, classes: Collection[str]) -> Iterator[str]:
    if not classes or segment.label in classes:
        return
    folded = {name.casefold(): name for name in classes}
    near = difflib.get_close_matches(segment.label.casefold(), folded, n=1)
    guess = f"did you mean {folded[near[0]]!r}?" if near else "correct it, or add it to the classes"
    yield f"the label {segment.label!r} is none of the {len(classes)} classes: {guess}"


def _overlaps(video: AnnotatedVideo) -> dict[int, str]:
    """Returns what overlaps another segment of the same label that begins before it, by its place."""
    found: dict[int, str] = {}
    by_label: dict[str, list[int]] = {}
    for place, segment in enumerate(video.segments):
        by_label.setdefault(segment.label, []).append(place)
    for places in by_label.values():
        places.sort(key=lambda place: (video.segments[place].start, place))
        longest: int | None = None
        for place in places:
            segment = video.segments[place]
            if longest is not None:
                other = video.segments[longest]
                same = (segment.start, segment.end) == (other.start, other.end)
                if same or min(segment.end, other.end) - segment.start > _TOUCHING:
                    found[place] = (
                        f"{segment.label!r} {_times(segment)} overlaps the one {_times(other)} "
                        f"({video.lines[longest]}): join them, or delete one"
                    )
            if longest is None or segment.end >= video.segments[longest].end:
                longest = place
    return found


def _times(segment: Segment) -> str:
    return f"from {seconds_text(segment.start)} to {seconds_text(segment.end)} s"
