"""Average precision of segments at temporal overlaps, as ActivityNet's and THUMOS's toolkits compute it.

Truth and prediction are one list of segments for each video, in the same order of videos; segments may overlap.
Legend: V videos, D predicted segments of a class, K overlaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualformer.segment import Segment

OVERLAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Temporal overlaps over which average precision is averaged unless told otherwise. ActivityNet takes 0.5, 0.55, …
0.95, THUMOS 0.3, 0.4, … 0.7."""

Protocol = Literal["activitynet", "thumos"]


def temporal_iou(one: Segment, other: Segment) -> float:
    """Returns the intersection over union of two stretches of time; 1 for the same moment twice, and 0 for a moment
    and anything else."""
    union = max(one.end, other.end) - min(one.start, other.start)
    shared = min(one.end, other.end) - max(one.start, other.start)
    if union <= 0:
        return 1.0
    return max(0.0, shared) / union if shared > 0 else 0.0


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

    Errors: ``ValueError`` where the numbers of videos differ.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"the truth is of {len(truth)} videos, the prediction of {len(predicted)}")
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
        doubtful = [segment for segment in true_ones if segment.label == ambiguous]
        detections = sorted((each for each in found if each.label == label), key=lambda each: -each.probability)
        positives[number] = len(own)
        ious = np.array([[temporal_iou(one, other) for other in own] for one in detections])
        hits = match(ious.reshape(len(detections), len(own)), overlaps)
        for detection, hit in zip(detections, hits, strict=True):
            videos.append(number)
            scores.append(detection.probability)
            right.append(hit)
            ignored.append(~hit & any(temporal_iou(detection, other) > 0 for other in doubtful))
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


def _match_by_score(ious: NDArray[np.float64], overlaps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns (D, K) of ``ious`` (D, true segments): whether each prediction finds a free true segment in its turn."""
    hits = np.zeros((len(ious), len(overlaps)), dtype=bool)
    for k, overlap in enumerate(overlaps):
        free = np.ones(ious.shape[1], dtype=bool)
        for d, row in enumerate(ious):
            best = int(np.where(free, row, -1).argmax()) if free.any() else -1
            if best >= 0 and row[best] >= overlap:
                hits[d, k], free[best] = True, False
    return hits


def _match_by_truth(ious: NDArray[np.float64], overlaps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns (D, K) of ``ious`` (D, true segments): whether a true segment in its turn takes each prediction."""
    hits = np.zeros((len(ious), len(overlaps)), dtype=bool)
    for k, overlap in enumerate(overlaps):
        for column in ious.T if len(ious) else ():
            free = ~hits[:, k]
            best = int(np.where(free, column, -1).argmax()) if free.any() else -1
            if best >= 0 and column[best] > overlap:
                hits[best, k] = True
    return hits
