"""Average precision of segments at temporal overlaps, as ActivityNet's and THUMOS's toolkits compute it.

Truth and prediction are one list of segments for each video, in the same order of videos; segments may overlap.
Legend: V videos, D predicted segments of a class, K overlaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualformer.scoring.temporal_overlap import OverlapFinder
from dualformer.segment import Segment

OVERLAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Temporal overlaps over which average precision is averaged unless told otherwise. ActivityNet takes 0.5, 0.55, …
0.95, THUMOS 0.3, 0.4, … 0.7."""

Protocol = Literal["activitynet", "thumos"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedDetections:
    """The predicted segments of one class, the surest first, and which of them are right at K overlaps."""

    label: str
    videos: NDArray[np.int64]
    """(D,): the number of the video of each."""
    right: NDArray[np.bool_]
    """(D, K)."""
    ignored: NDArray[np.bool_]
    """(D, K): neither right nor wrong, as they touch an ambiguous segment."""
    positives: NDArray[np.int64]
    """(V,): how many true segments each video has."""
    interpolated: bool
    """Whether precision at a recall is the largest one at that recall or a higher one."""

    def average_precision(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Returns (K,): the average precision at each overlap; NaN where there is no true segment.

        ``weights`` (V,): how often each video counts.
        """
        weights = np.ones(len(self.positives)) if weights is None else weights
        total = float((weights * self.positives).sum())
        if total == 0:
            return np.full(self.right.shape[1], np.nan)
        each = weights[self.videos][:, None]
        hits = np.cumsum(each * self.right, axis=0)
        misses = np.cumsum(each * (~self.right & ~self.ignored), axis=0)
        precision = hits / np.maximum(hits + misses, 1e-12)
        if self.interpolated:
            precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        gained = np.diff(hits, axis=0, prepend=0) / total
        return (gained * precision).sum(axis=0)


def rank_detections(
    truth: Sequence[Sequence[Segment]],
    predicted: Sequence[Sequence[Segment]],
    *,
    overlaps: Sequence[float] = OVERLAPS,
    protocol: Protocol = "activitynet",
    ambiguous: str | None = None,
) -> list[RankedDetections]:
    """Returns the ranked predictions of every class that has a true segment, in the order of their names.

    Predictions of a class are sorted over all videos by their probability; of equal ones that of the earlier video, and
    in a video the one listed earlier, comes first. Segments of classes without a true one count nowhere.

    ``activitynet``: each prediction in this order takes, of the true segments of its class and video that none has
    taken, the one that it overlaps the most, and is right where the overlap reaches the threshold. Average precision
    is interpolated.
    ``thumos``, as in that challenge's own code: each true segment, in the order listed, takes the free prediction that
    overlaps it the most, however sure it is, where the overlap is above the threshold. Average precision is not
    interpolated. (Most publications on THUMOS use ActivityNet's way.)
    ``ambiguous``: a label of true segments, ``Ambiguous`` of THUMOS, that is no class: a prediction that is not right
    and touches one of them is not wrong either.

    Errors: ``ValueError`` where the numbers of videos differ, and for overlaps that are not more than 0.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"the truth is of {len(truth)} videos, the prediction of {len(predicted)}")
    if not all(overlap > 0 for overlap in overlaps):
        raise ValueError(f"overlaps must be more than 0, not {min(overlaps)}")
    labels = sorted({segment.label for video in truth for segment in video} - {ambiguous})
    return [
        _ranked(label, truth, predicted, np.asarray(overlaps, dtype=np.float64), protocol, ambiguous)
        for label in labels
    ]


def mean_average_precision(
    detections: Sequence[RankedDetections], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Returns (K,): the mean of the average precision over the classes that have a true segment.

    ``weights``: see `RankedDetections.average_precision`; NaN where none of the videos that count has a true segment.
    Errors: ``ValueError`` where there is no class.
    """
    if not detections:
        raise ValueError("there is no true segment, and so no average precision")
    rows = np.array([each.average_precision(weights) for each in detections])
    known = ~np.isnan(rows).any(axis=1)
    return rows[known].mean(axis=0) if known.any() else rows[0]


def _ranked(
    label: str,
    truth: Sequence[Sequence[Segment]],
    predicted: Sequence[Sequence[Segment]],
    overlaps: NDArray[np.float64],
    protocol: Protocol,
    ambiguous: str | None,
) -> RankedDetections:
    videos: list[int] = []
    scores: list[float] = []
    right: list[NDArray[np.bool_]] = []
    ignored: list[NDArray[np.bool_]] = []
    positives = np.zeros(len(truth), dtype=np.int64)
    match = _match_by_score if protocol == "activitynet" else _match_by_truth
    for number, (true_ones, found) in enumerate(zip(truth, predicted, strict=True)):
        own = [segment for segment in true_ones if segment.label == label]
        doubtful = OverlapFinder([segment for segment in true_ones if segment.label == ambiguous])
        detections = sorted((each for each in found if each.label == label), key=lambda each: -each.probability)
        positives[number] = len(own)
        hits = match(own, detections, overlaps)
        for detection, hit in zip(detections, hits, strict=True):
            videos.append(number)
            scores.append(detection.probability)
            right.append(hit)
            ignored.append(~hit & bool(doubtful.overlapping(detection)))
    order = np.argsort(-np.array(scores), kind="stable")
    shape = (len(scores), len(overlaps))
    return RankedDetections(
        label=label,
        videos=np.array(videos, dtype=np.int64)[order],
        right=np.array(right, dtype=bool).reshape(shape)[order],
        ignored=np.array(ignored, dtype=bool).reshape(shape)[order],
        positives=positives,
        interpolated=protocol == "activitynet",
    )


def _match_by_score(
    truth: Sequence[Segment], detections: Sequence[Segment], overlaps: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Returns (D, K): whether each prediction in its turn finds a free true segment."""
    hits = np.zeros((len(detections), len(overlaps)), dtype=bool)
    finder = OverlapFinder(truth)
    near = [finder.overlapping(detection) for detection in detections]
    for k, overlap in enumerate(overlaps.tolist()):
        taken: set[int] = set()
        for d, ious in enumerate(near):
            best = max((place for place in ious if place not in taken), key=ious.__getitem__, default=None)
            if best is not None and ious[best] >= overlap:
                hits[d, k] = True
                taken.add(best)
    return hits


def _match_by_truth(
    truth: Sequence[Segment], detections: Sequence[Segment], overlaps: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Returns (D, K): whether a true segment in its turn takes each prediction."""
    hits = np.zeros((len(detections), len(overlaps)), dtype=bool)
    finder = OverlapFinder(detections)
    near = [finder.overlapping(segment) for segment in truth]
    for k, overlap in enumerate(overlaps.tolist()):
        for ious in near:
            best = max((place for place in ious if not hits[place, k]), key=ious.__getitem__, default=None)
            if best is not None and ious[best] > overlap:
                hits[best, k] = True
    return hits
