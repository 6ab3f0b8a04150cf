"""How much stretches of time overlap, and which of many overlap one, without looking at each."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from dualformer.segment import Segment


def temporal_iou(one: Segment, other: Segment) -> float:
    """Returns the intersection over union of two stretches of time; 1 for the same moment twice, and 0 for a moment
    and anything else."""
    union = max(one.end, other.end) - min(one.start, other.start)
    shared = min(one.end, other.end) - max(one.start, other.start)
    if union <= 0:
        return 1.0
    return max(0.0, shared) / union if shared > 0 else 0.0


class OverlapFinder:
    """Finds those of its segments that overlap another one. It takes as long as there are segments near that one, and
    the longest of them reach."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._order = sorted(range(len(segments)), key=lambda place: segments[place].start)
        self._starts = [segments[place].start for place in self._order]
        self._reach = list(accumulate((segments[place].end for place in self._order), max))

    def overlapping(self, segment: Segment) -> dict[int, float]:
        """Returns `temporal_iou` with ``segment`` by the number of each of the segments, in their order, for which it
        is more than 0."""
        first, last = bisect_left(self._reach, segment.start), bisect_right(self._starts, segment.end)
        near = sorted(self._order[first:last])
        return {place: iou for place in near if (iou := temporal_iou(segment, self._segments[place])) > 0}
