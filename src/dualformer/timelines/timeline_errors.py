"""Where in a video a timeline is wrong: stretches of time whose predicted labels are not the true ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dualformer.segment import Segment
from dualformer.timelines.evaluate_timelines import JudgedVideo, TimelineEvaluation


@dataclass(frozen=True, kw_only=True)
class ErrorStretch:
    """A stretch of time in which one thing is said in place of another."""

    video: JudgedVideo
    start: float
    """Seconds."""
    end: float
    true: tuple[str, ...]
    """The labels that are true all the time, by name; none where nothing happens."""
    said: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.end - self.start


def error_stretches(evaluation: TimelineEvaluation) -> list[ErrorStretch]:
    """Returns all stretches of time of all videos in which the timeline is wrong, the longest first."""
    found = [each for judged in evaluation.videos for each in _errors_of(judged, evaluation.scoring.quiet)]
    return sorted(found, key=lambda each: -each.seconds)


def _errors_of(judged: JudgedVideo, quiet: Sequence[str]) -> list[ErrorStretch]:
    true, said = (
        [each for each in segments if each.label not in quiet]
        for segments in (judged.video.segments, judged.timeline.segments)
    )
    times = sorted({0.0, judged.seconds, *(time for each in (*true, *said) for time in (each.start, each.end))})
    found: list[ErrorStretch] = []
    for start, end in pairwise(time for time in times if time <= judged.seconds):
        both = tuple(_labels_at(segments, (start + end) / 2) for segments in (true, said))
        if both[0] == both[1]:
            continue
        if found and found[-1].end == start and (found[-1].true, found[-1].said) == both:
            start = found.pop().start
        found.append(ErrorStretch(video=judged, start=start, end=end, true=both[0], said=both[1]))
    return found


def _labels_at(segments: Sequence[Segment], time: float) -> tuple[str, ...]:
    return tuple(sorted({each.label for each in segments if each.start <= time < each.end}))
