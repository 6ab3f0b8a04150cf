"""Metrics of videos that may have several labels, from probabilities and true labels (N, classes). Shares: 0 to 1.

There is no confusion matrix: every class is decided for itself, so that none is taken for another.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.5
"""The probability from which on a label is predicted, unless the weights say otherwise."""
FEWEST = 5
"""Videos with and without a label, of each at least so many, that a threshold is fitted on."""


def average_precisions(scores: NDArray[np.floating], targets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the average precision of every class (C,) of scores and truths (N, C); NaN for a class that no video has.

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
    """Returns the mean over the classes that any video has. ``ValueError`` where none has one."""
    each = average_precisions(scores, targets)
    if np.isnan(each).all():
        raise ValueError("no video has any of the classes")
    return float(np.nanmean(each))


def micro_f1(predicted: NDArray[np.bool_], targets: NDArray[np.bool_]) -> float:
    """Returns F1 of all decisions (N, C) together: twice the labels found, over predicted and true ones."""
    _check(predicted, targets)
    both = int(predicted.sum()) + int(targets.sum())
    return 2 * int((predicted & targets).sum()) / both if both else 0.0


def class_f1(predicted: NDArray[np.bool_], targets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns F1 of every class (C,); NaN for a class that no video has and that is predicted for none."""
    _check(predicted, targets)
    both = predicted.sum(axis=0) + targets.sum(axis=0)
    return np.divide(2 * (predicted & targets).sum(axis=0), both, out=np.full(both.shape, np.nan), where=both > 0)


def fit_thresholds(probabilities: NDArray[np.floating], targets: NDArray[np.bool_]) -> tuple[float, ...]:
    """Returns for each class the threshold with the largest F1 on these videos, of probabilities and truths (N, C).

    It lies halfway between two probabilities; of equally good ones it is the one nearest to one half. A class with
    fewer than `FEWEST` videos that have it, or that do not, keeps one half; where all do, nothing is returned.
    """
    _check(probabilities, targets)
    found = tuple(_best_threshold(probabilities[:, c], targets[:, c]) for c in range(probabilities.shape[1]))
    return found if set(found) != {THRESHOLD} else ()


def _best_threshold(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    positives = int(truth.sum())
    if positives < FEWEST or len(truth) - positives < FEWEST:
        return THRESHOLD
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    right = np.cumsum(truth[order])
    named = np.arange(1, len(ranked) + 1)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # the last of each run of equal scores
    f1 = 2 * right[ends] / (named[ends] + positives)
    below = np.append(ranked[ends[:-1] + 1], 0.0)
    candidates = (ranked[ends] + below) / 2
    # Anything between the two probabilities decides alike: one half, where it does.
    candidates = np.where((below < THRESHOLD) & (ranked[ends] >= THRESHOLD), THRESHOLD, candidates)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(candidates[best[np.abs(candidates[best] - THRESHOLD).argmin()]])


@dataclass(frozen=True, kw_only=True)
class LabelFigures:
    """One class. None stands for what is not defined: recall without a video, precision where it was never named."""

    name: str
    count: int
    """Videos that have this label."""
    average_precision: float | None
    recall: float | None
    """Share of them for which it is predicted: their probability reaches its threshold."""
    precision: float | None
    """Share that has it of those for which it is predicted."""
    f1: float | None


def multilabel_summary(
    probabilities: NDArray[np.float32],
    targets: NDArray[np.bool_],
    *,
    missing: NDArray[np.bool_],
    thresholds: tuple[float, ...] = (),
) -> dict[str, Any]:
    """Returns all figures of an evaluation, ready for JSON.

    ``missing`` (M, classes): truths of videos that could not be looked at. No label is predicted for them, and
    they come last in every ranking; cross-entropy is that of the others.

    ``mean_average_precision`` over the classes that any video has, ``chance``: what a random order has of it on
    average, about; ``micro_f1`` of all decisions together, at the ``thresholds`` of the classes or one half,
    ``macro_f1`` the mean over those classes; ``labels`` and ``labels_named`` of a video on average; ``cross_entropy``
    of yes and no in nats, the mean over classes.
    """
    scores, truths = _with_missing(probabilities, targets, missing)
    said, seen = scores >= (np.array(thresholds) if thresholds else THRESHOLD), truths.any(axis=0)
    sure = np.clip(probabilities.astype(np.float64), np.finfo(np.float32).tiny, 1 - 2.0**-24)
    return {
        "mean_average_precision": mean_average_precision(scores, truths),
        "chance": float(truths.mean(axis=0)[seen].mean()),
        "micro_f1": micro_f1(said, truths),
        "macro_f1": float(class_f1(said, truths)[seen].mean()),
        "labels": float(truths.sum(axis=1).mean()),
        "labels_named": float(said.sum(axis=1).mean()),
        "cross_entropy": float(-np.where(targets, np.log(sure), np.log1p(-sure)).mean()),
    }


def mean_precision_interval(
    probabilities: NDArray[np.float32], targets: NDArray[np.bool_], *, missing: NDArray[np.bool_], draws: int = 200
) -> tuple[float, float]:
    """Returns the 95 % interval of ``mean_average_precision`` by bootstrap: of ``draws`` sets of as many videos,
    drawn from these with replacement. The same every time."""
    scores, truths = _with_missing(probabilities, targets, missing)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        chosen = rng.integers(len(scores), size=len(scores))
        found.append(mean_average_precision(scores[chosen], truths[chosen]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def per_label(
    probabilities: NDArray[np.float32],
    targets: NDArray[np.bool_],
    classes: tuple[str, ...],
    *,
    missing: NDArray[np.bool_],
    thresholds: tuple[float, ...] = (),
) -> list[LabelFigures]:
    """Returns the figures of every class, in order. ``missing`` and ``thresholds``: see `multilabel_summary`."""
    scores, truths = _with_missing(probabilities, targets, missing)
    said = scores >= (np.array(thresholds) if thresholds else THRESHOLD)
    precisions, f1 = average_precisions(scores, truths), class_f1(said, truths)
    rows: list[LabelFigures] = []
    for i, name in enumerate(classes):
        count, named, both = int(truths[:, i].sum()), int(said[:, i].sum()), int((said & truths)[:, i].sum())
        rows.append(
            LabelFigures(
                name=name,
                count=count,
                average_precision=float(precisions[i]) if count else None,
                recall=both / count if count else None,
                precision=both / named if named else None,
                f1=float(f1[i]) if count or named else None,
            )
        )
    return rows


def _with_missing(
    probabilities: NDArray[np.float32], targets: NDArray[np.bool_], missing: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    behind = np.full(missing.shape, -1, dtype=np.float32)
    return np.concatenate([probabilities, behind]), np.concatenate([targets, missing])


def _check(scores: NDArray[np.floating] | NDArray[np.bool_], targets: NDArray[np.bool_]) -> None:
    if scores.ndim != 2 or scores.shape != targets.shape or len(scores) == 0:
        raise ValueError(f"need scores and truths (N, classes), not {scores.shape} and {targets.shape}")
