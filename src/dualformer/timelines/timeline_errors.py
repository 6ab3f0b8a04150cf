"""Where in a video a timeline is wrong: stretches of time whose predicted labels are not the true ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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
    changes: dict[float, list[tuple[int, str, int]]] = {0.0: [], judged.seconds: []}
    for side, segments in enumerate((true, said)):
        for each in segments:
            if each.start < each.end:
                changes.setdefault(each.start, []).append((side, each.label, 1))
                changes.setdefault(each.end, []).append((side, each.label, -1))
    found: list[ErrorStretch] = []
    there: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for start, end in pairwise(time for time in sorted(changes) if time <= judged.seconds):
        for side, label, change in changes[start]:
            there[side][label] += change
        both = tuple(tuple(sorted(label for label, count in each.items() if count)) for each in there)
        if both[0] == both[1]:
            continue
        if found and found[-1].end == start and (found[-1].true, found[-1].said) == both:
            start = found.pop().start
        found.append(ErrorStretch(video=judged, start=start, end=end, true=both[0], said=both[1]))
    return found
