"""Figures of videos that may have several labels: how well scores rank, and how right yes and no are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.5
"""The probability from which on a video is said to have a label."""


def average_precisions(scores: NDArray[np.floating], targets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of every class (C,) from scores and truths (N, C); NaN for a class that no video has.

    The videos are ranked by the class's score, and precision is taken at every rank where one has the class. Equal
    scores share a rank, so that their order does not matter.
    """
    _check(scores, targets)
    found = np.full(scores.shape[1], np.nan)
    for label in np.flatnonzero(targets.any(axis=0)):
        order = np.argsort(-scores[:, label], kind="stable")
        ranked, right = scores[order, label], targets[order, label]
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # the last of each run of equal scores
        hits = np.cumsum(right)[ends]
        found[label] = (np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / hits[-1]
    return found


def mean_average_precision(scores: NDArray[np.floating], targets: NDArray[np.bool_]) -> float:
    """The mean over the classes that any video has. ``ValueError`` where none has one."""
    each = average_precisions(scores, targets)
    if np.isnan(each).all():
        raise ValueError("no video has any of the classes")
    return float(np.nanmean(each))


def micro_f1(predicted: NDArray[np.bool_], targets: NDArray[np.bool_]) -> float:
    """F1 of all decisions (N, C) together: twice the labels found, over those named and those that are true."""
    _check(predicted, targets)
    both = int(predicted.sum()) + int(targets.sum())
    return 2 * int((predicted & targets).sum()) / both if both else 0.0


def class_f1(predicted: NDArray[np.bool_], targets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """F1 of every class (C,); NaN for a class that no video has and none is said to have."""
    _check(predicted, targets)
    both = predicted.sum(axis=0) + targets.sum(axis=0)
    return np.divide(2 * (predicted & targets).sum(axis=0), both, out=np.full(both.shape, np.nan), where=both > 0)


def _check(scores: NDArray[np.floating] | NDArray[np.bool_], targets: NDArray[np.bool_]) -> None:
    if scores.ndim != 2 or scores.shape != targets.shape or len(scores) == 0:
        raise ValueError(f"need scores and truths (N, classes), not {scores.shape} and {targets.shape}")
