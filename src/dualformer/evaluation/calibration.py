"""Calibration: accuracy by confidence, and the error among the surest predictions.

All functions take ``confidence`` (N,), 0 to 1, and whether the predictions are ``right`` (N,).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Predictions with a confidence of ``low`` up to, but not with, ``high``; the last bin has its upper end too."""

    low: float
    high: float
    count: int
    confidence: float | None
    """The mean; None of an empty bin."""
    right: float | None
    """Share of it that is right."""


def calibration_bins(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """Returns bins of equal width from 0 to 1."""
    _check(confidence, right)
    edges = np.linspace(0, 1, bins + 1)
    places = np.digitize(confidence.astype(np.float64), edges[1:-1])
    counts = np.bincount(places, minlength=bins)
    sure = np.bincount(places, weights=confidence.astype(np.float64), minlength=bins)
    hits = np.bincount(places, weights=right, minlength=bins)
    return [
        CalibrationBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(counts[i]),
            confidence=float(sure[i] / counts[i]) if counts[i] else None,
            right=float(hits[i] / counts[i]) if counts[i] else None,
        )
        for i in range(bins)
    ]


def expected_calibration_error(bins: list[CalibrationBin]) -> float:
    """Returns the distance of confidence from accuracy, the mean over bins weighted by their size."""
    total = sum(each.count for each in bins)
    return sum(
        each.count / total * abs(each.right - each.confidence)
        for each in bins
        if each.right is not None and each.confidence is not None
    )


def errors_among_surest(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns (N,): entry k is the share of mistakes among the k + 1 surest.

    Equally sure ones have no order: each counts with the share of mistakes of all of them.
    """
    _check(confidence, right)
    _, groups = np.unique(-confidence, return_inverse=True)
    sizes = np.bincount(groups)
    mistakes = np.repeat(np.bincount(groups, weights=~right) / sizes, sizes)
    return np.cumsum(mistakes) / np.arange(1, len(right) + 1)


def _check(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> None:
    if confidence.ndim != 1 or confidence.shape != right.shape or len(right) == 0:
        raise ValueError(f"need confidence and whether it is right, (N,) each, not {confidence.shape}, {right.shape}")
