"""Figures from probabilities (N, classes) and true labels (N,). Shares and accuracies lie within 0..1.

Calibration is accuracy by confidence: its functions take ``confidence`` (N,), 0 to 1, and whether the predictions are
``right`` (N,).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualformer.scoring.intervals import mean_interval, mean_share_interval, wilson_interval

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


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """One class. None stands for what is not defined: recall without a video, precision without a prediction."""

    name: str
    count: int
    """Videos of this class."""
    recall: float | None
    """Share of them that were recognised: the class's accuracy."""
    precision: float | None
    """Share right among the videos that were given this class."""
    f1: float | None
    confused_with: str | None
    """The wrong class most often given to its videos, None where every one was recognised."""
    confused_count: int
    """How often."""


def summary(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], *, missing: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """Returns all figures of an evaluation, ready for JSON.

    ``missing``: labels of videos that could not be looked at. They count as wrong in all accuracies; cross-entropy and
    calibration are those of the others.

    ``top1`` with its 95 % Wilson interval ``top1_interval``; ``top5`` likewise where there are more than 5 classes;
    ``mean_class_accuracy`` over the classes that have videos; ``majority_class``: top-1 of always naming the most
    frequent class; ``cross_entropy`` in nats; ``calibration_error``: mean distance of confidence from accuracy in 15
    bins. The intervals of ``mean_class_accuracy`` and ``cross_entropy`` are 1.96 standard errors to either side.
    """
    _check(probabilities, labels)
    matrix = confusion_matrix(probabilities, labels)
    absent = _no_labels() if missing is None else missing
    counts = matrix.sum(axis=1) + np.bincount(absent, minlength=len(matrix))
    correct, total = int(np.trace(matrix)), len(labels) + len(absent)
    figures: dict[str, Any] = {"top1": correct / total, "top1_interval": list(wilson_interval(correct, total))}
    if probabilities.shape[1] > 5:
        found = round(top_k(probabilities, labels, 5) * len(labels))
        figures |= {"top5": found / total, "top5_interval": list(wilson_interval(found, total))}
    right, counts = np.diag(matrix)[counts > 0], counts[counts > 0]
    mean = float((right / counts).mean())
    losses = _losses(probabilities, labels)
    return figures | {
        "mean_class_accuracy": mean,
        "mean_class_accuracy_interval": list(mean_share_interval(right, counts)),
        "majority_class": float(counts.max() / total),
        "cross_entropy": float(losses.mean()),
        "cross_entropy_interval": list(mean_interval(losses)),
        "calibration_error": calibration_error(probabilities, labels),
    }


def confusion_matrix(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns counts (classes, classes): row the true class, column the most likely one."""
    _check(probabilities, labels)
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def per_class(
    matrix: NDArray[np.int64], classes: tuple[str, ...], *, missing: NDArray[np.int64] | None = None
) -> list[ClassFigures]:
    """Returns the figures of every class, in order, from a confusion matrix; ``missing`` videos are not recognised."""
    rows: list[ClassFigures] = []
    absent = np.bincount(_no_labels() if missing is None else missing, minlength=len(classes))
    for i, name in enumerate(classes):
        right, count, given = int(matrix[i, i]), int(matrix[i].sum() + absent[i]), int(matrix[:, i].sum())
        wrong = matrix[i].copy()
        wrong[i] = 0
        worst = int(wrong.argmax())
        rows.append(
            ClassFigures(
                name=name,
                count=count,
                recall=right / count if count else None,
                precision=right / given if given else None,
                f1=2 * right / (count + given) if count + given else None,
                confused_with=classes[worst] if wrong[worst] else None,
                confused_count=int(wrong[worst]),
            )
        )
    return rows


def top_k(probabilities: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> float:
    """Returns the share of videos whose class is among the ``k`` most likely (``k`` at most the number of classes)."""
    _check(probabilities, labels)
    # Ties fall as they do in the table of predictions, so that both say the same.
    named = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return int((named == labels[:, None]).sum()) / len(labels)


def cross_entropy(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Returns the mean of -ln p(true class). A probability that underflowed to 0 counts as the smallest float32."""
    return float(_losses(probabilities, labels).mean())


def calibration_error(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Returns the expected calibration error: |accuracy - confidence| over 15 equal bins, weighted by size."""
    _check(probabilities, labels)
    right = probabilities.argmax(axis=1) == labels
    return expected_calibration_error(calibration_bins(probabilities.max(axis=1), right))


def calibration_bins(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """Returns bins of equal width from 0 to 1."""
    _check_pairs(confidence, right)
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
    _check_pairs(confidence, right)
    _, groups = np.unique(-confidence, return_inverse=True)
    sizes = np.bincount(groups)
    mistakes = np.repeat(np.bincount(groups, weights=~right) / sizes, sizes)
    return np.cumsum(mistakes) / np.arange(1, len(right) + 1)


def _losses(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross-entropy of every video (N,)."""
    _check(probabilities, labels)
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(true, np.finfo(np.float32).tiny))


def _no_labels() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


def _check(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"need probabilities (N, classes) and labels (N,), not {probabilities.shape} and {labels.shape}"
        )


def _check_pairs(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> None:
    if confidence.ndim != 1 or confidence.shape != right.shape or len(right) == 0:
        raise ValueError(f"need confidence and whether it is right, (N,) each, not {confidence.shape}, {right.shape}")
