"""How well predicted segments are the true ones: segmental F1, edit score, accuracy by frame and errors of boundaries.

F1 and edit score are those of Lea et al. (Temporal convolutional networks for action segmentation and detection, 2017),
as the code of MS-TCN computes them, of segments in seconds in place of frames. As shares: 1 is perfect.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualformer.scoring.temporal_overlap import OverlapFinder
from dualformer.segment import Segment

_TOUCHING = 1e-6
"""Seconds: what lies closer together has no gap between."""


def actions(segments: Sequence[Segment], background: Collection[str] = ()) -> list[Segment]:
    """Returns the segments in the order of their starts, without those of ``background``; segments of one label that
    touch or overlap are one, as in frames with labels. Their probability is that of the first."""
    merged: list[Segment] = []
    latest: dict[str, int] = {}
    for segment in sorted(segments, key=lambda each: (each.start, each.end)):
        place = latest.get(segment.label)
        if place is not None and segment.start <= merged[place].end + _TOUCHING:
            before = merged[place]
            end = max(before.end, segment.end)
            merged[place] = Segment(label=before.label, start=before.start, end=end, probability=before.probability)
        else:
            latest[segment.label] = len(merged)
            merged.append(segment)
    return [segment for segment in merged if segment.label not in background]


@dataclass(frozen=True, kw_only=True)
class SegmentCounts:
    """Of one video, or several: predicted segments that are right and wrong, and true ones that none was right for."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: "SegmentCounts") -> "SegmentCounts":
        return SegmentCounts(
            right=self.right + other.right, wrong=self.wrong + other.wrong, missed=self.missed + other.missed
        )

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 where there was nothing to find and nothing was found."""
        total = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / total if total else 1.0


def match_segments(
    truth: Sequence[Segment], predicted: Sequence[Segment], overlap: float
) -> list[tuple[Segment, Segment]]:
    """Returns pairs of a true and a predicted segment of one label whose temporal overlap is at least ``overlap``.

    Each predicted segment in turn looks at the true one of its label that it overlaps the most, and at no other: where
    that one is taken, it has none. Raises ``ValueError`` for an ``overlap`` that is not more than 0.
    """
    if not overlap > 0:
        raise ValueError(f"an overlap must be more than 0, not {overlap}")
    by_label: dict[str, list[Segment]] = {}
    for segment in truth:
        by_label.setdefault(segment.label, []).append(segment)
    finders = {label: OverlapFinder(own) for label, own in by_label.items()}
    taken: set[tuple[str, int]] = set()
    pairs: list[tuple[Segment, Segment]] = []
    for segment in predicted:
        ious = finders[segment.label].overlapping(segment) if segment.label in finders else {}
        best = max(ious, key=ious.__getitem__, default=None)
        if best is not None and ious[best] >= overlap and (segment.label, best) not in taken:
            taken.add((segment.label, best))
            pairs.append((by_label[segment.label][best], segment))
    return pairs


def segment_counts(
    truth: Sequence[Segment], predicted: Sequence[Segment], *, overlap: float, background: Collection[str] = ()
) -> SegmentCounts:
    """Returns what segmental F1 at ``overlap`` is made of, for one video; of several videos the counts are added."""
    truth, predicted = actions(truth, background), actions(predicted, background)
    right = len(match_segments(truth, predicted, overlap))
    return SegmentCounts(right=right, wrong=len(predicted) - right, missed=len(truth) - right)


def edit_score(truth: Sequence[Segment], predicted: Sequence[Segment], *, background: Collection[str] = ()) -> float:
    """Returns 1 - the Levenshtein distance between the labels in their order, as a share of the longer sequence.

    It does not ask when something happens, but what comes after what. Segments that overlap count by their starts.
    """
    one = [segment.label for segment in actions(truth, background)]
    other = [segment.label for segment in actions(predicted, background)]
    longest = max(len(one), len(other))
    return 1 - _levenshtein(one, other) / longest if longest else 1.0


@dataclass(frozen=True, kw_only=True)
class FrameCounts:
    """Of one video, or several: frames, those whose labels are right, and both of frames in which something happens."""

    frames: int = 0
    right: int = 0
    action_frames: int = 0
    action_right: int = 0

    def __add__(self, other: "FrameCounts") -> "FrameCounts":
        return FrameCounts(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def accuracy(self) -> float:
        """The share of frames that are right."""
        return self.right / self.frames if self.frames else 1.0

    @property
    def action_accuracy(self) -> float:
        """The same of frames in which, by the truth, something happens; 1 where nothing does."""
        return self.action_right / self.action_frames if self.action_frames else 1.0


def frame_counts(
    truth: Sequence[Segment],
    predicted: Sequence[Segment],
    *,
    seconds: float,
    rate: float = 10.0,
    background: Collection[str] = (),
) -> FrameCounts:
    """Returns how many frames of a video of ``seconds`` have the right labels, at ``rate`` frames a second.

    A frame is the moment in the middle of its time. It is right where truth and prediction have the same labels then:
    all of them, where segments overlap, and none, where nothing happens or what happens is ``background``.
    Raises ``ValueError`` for a rate that is not positive.
    """
    if not rate > 0:
        raise ValueError(f"rate must be positive, not {rate}")
    frames = max(1, round(seconds * rate))
    labels = sorted({segment.label for segment in (*truth, *predicted)} - set(background))
    true, said = (_frames_of(segments, labels, frames, rate) for segments in (truth, predicted))
    right, active = (true == said).all(axis=0), true.any(axis=0)
    return FrameCounts(
        frames=frames,
        right=int(right.sum()),
        action_frames=int(active.sum()),
        action_right=int((right & active).sum()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundaryErrors:
    """Seconds between true and predicted boundaries."""

    errors: NDArray[np.float64]
    """(2 x matched,): predicted - true, of the start and the end of each true segment that is matched."""
    unmatched: int
    """True segments that no predicted one is matched with: they have no error."""


def boundary_errors(
    truth: Sequence[Segment],
    predicted: Sequence[Segment],
    *,
    overlap: float = 0.5,
    background: Collection[str] = (),
) -> BoundaryErrors:
    """Returns by how much boundaries are off, of the true segments that `match_segments` matches at ``overlap``."""
    truth, predicted = actions(truth, background), actions(predicted, background)
    pairs = match_segments(truth, predicted, overlap)
    errors = [off for true, said in pairs for off in (said.start - true.start, said.end - true.end)]
    return BoundaryErrors(errors=np.array(errors, dtype=np.float64), unmatched=len(truth) - len(pairs))


def _frames_of(segments: Sequence[Segment], labels: list[str], frames: int, rate: float) -> NDArray[np.bool_]:
    """Returns (labels, frames): in which frames each label is there."""
    there = np.zeros((len(labels), frames), dtype=bool)
    place = {label: row for row, label in enumerate(labels)}
    for segment in segments:
        if segment.label in place:
            first, last = (int(np.ceil(time * rate - 0.5 - 1e-6)) for time in (segment.start, segment.end))
            there[place[segment.label], max(0, first) : max(0, last)] = True
    return there


def _levenshtein(one: Sequence[str], other: Sequence[str]) -> int:
    numbers = {label: number for number, label in enumerate({*one, *other})}
    labels = np.array([numbers[label] for label in other], dtype=np.int64)
    steps = np.arange(len(other) + 1)
    row = steps.copy()
    for i, label in enumerate(one, 1):
        # Without insertions; these make each entry at most one more than the one before it.
        changed = np.minimum(row[1:] + 1, row[:-1] + (labels != numbers[label]))
        row = np.minimum.accumulate(np.concatenate(([i], changed)) - steps) + steps
    return int(row[-1])
