"""Everything that a report shows besides the headline figures, as plain data: it stands in the page as JSON, too."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualformer.evaluation.evaluate import Evaluation
from dualformer.evaluation.evaluation_folder import class_figures, surest_mistakes
from dualformer.evaluation.metrics import calibration_bins, confusion_matrix, errors_among_surest
from dualformer.report.report_plan import headline_metric
from dualformer.scoring.intervals import wilson_interval
from dualformer.scoring.multilabel import mean_precision_interval

_BY_VIEWS = (
    *("views", "gmacs", "top1", "top1_interval", "top5", "mean_class_accuracy", "mean_average_precision"),
    *("mean_average_precision_interval", "micro_f1", "cross_entropy", "calibration_error"),
)
"""Figures that are kept of every number of views."""
_SHOWN_PAIRS = 20
_POINTS = 200
"""Of a curve over all videos: more than a picture can tell apart."""
_COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)


def report_figures(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Returns what a report adds to the figures of the first evaluation: all ``by_views``, from few views to many.

    Where videos may have several labels, the intervals of mean average precision besides: they take a while.
    """
    key, found = "mean_average_precision_interval", []
    for each in evaluations:
        figures = dict(each.figures)
        if each.targets is not None:
            figures[key] = list(mean_precision_interval(each.probabilities, each.targets, missing=each.missing_targets))
        found.append({name: figures[name] for name in _BY_VIEWS if name in figures})
    more = {key: found[0][key]} if key in found[0] else {}
    return more | {"by_views": sorted(found, key=_crops_and_clips)}


def report_details(
    evaluation: Evaluation,
    figures: Mapping[str, Any],
    *,
    log: list[dict[str, Any]] | None = None,
    epoch: int | None = None,
    compared: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Returns the data of a report, ready for JSON.

    ``figures``: those of the evaluation with `report_figures`. ``log``: the epochs of the training, ``epoch`` the one
    that the weights are of. ``compared``: figures of other evaluations with their file.
    """
    several = evaluation.targets is not None
    return {
        "multi_label": several,
        "classes": list(evaluation.classes),
        "wrong": len(surest_mistakes(evaluation)),
        "per_class": [
            asdict(row) | {"recall_interval": _share(row.recall, row.count)} for row in class_figures(evaluation)
        ],
        "confusion": None if several else _confusion(evaluation),
        "calibration": _calibration(evaluation),
        "training": None if log is None else {"epochs": log, "epoch": epoch},
        "compared": _compared(figures, compared, multi_label=several),
    }


def _share(share: float | None, count: int) -> list[float] | None:
    return None if share is None else list(wilson_interval(round(share * count), count))


def _confusion(evaluation: Evaluation) -> dict[str, Any]:
    """Returns ``cells`` (true class, predicted class, number of videos) that are not 0, and ``pairs``: the commonest
    mistakes, with their share of the true class's videos."""
    matrix, classes = confusion_matrix(evaluation.probabilities, evaluation.labels), evaluation.classes
    cells = [(row, column, int(matrix[row, column])) for row, column in np.argwhere(matrix).tolist()]
    totals = [row.count for row in class_figures(evaluation)]  # with the videos that are missing
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    return {
        "cells": [list(cell) for cell in cells],
        "pairs": [
            {"label": classes[row], "predicted": classes[column], "count": count, "share": count / totals[row]}
            for row, column, count in wrong[:_SHOWN_PAIRS]
        ],
    }


def _calibration(evaluation: Evaluation) -> dict[str, Any]:
    """Returns ``bins`` of confidence and, where videos have one label, ``surest``: the mistakes among the surest share.

    With several labels, every class of every video counts as a yes with its probability.
    """
    if evaluation.targets is not None:
        yes, truth = evaluation.probabilities.reshape(-1), evaluation.targets.reshape(-1)
        return {"bins": [asdict(each) for each in calibration_bins(yes, truth)], "surest": None, "coverage": None}
    confidence = evaluation.probabilities.max(axis=1)
    right = evaluation.probabilities.argmax(axis=1) == evaluation.labels
    errors = errors_among_surest(confidence, right)
    return {
        "bins": [asdict(each) for each in calibration_bins(confidence, right)],
        "surest": _thinned(errors),
        "coverage": [_at_coverage(errors, share) for share in _COVERAGES],
    }


def _thinned(errors: NDArray[np.float64]) -> list[list[float]]:
    kept = np.unique(np.linspace(0, len(errors) - 1, min(_POINTS, len(errors))).round().astype(int))
    return [[(int(i) + 1) / len(errors), float(errors[i])] for i in kept]


def _at_coverage(errors: NDArray[np.float64], share: float) -> dict[str, Any]:
    count = max(1, round(share * len(errors)))
    return {"share": share, "videos": count, "error": float(errors[count - 1])}


def _compared(
    figures: Mapping[str, Any], others: Sequence[Mapping[str, Any]], *, multi_label: bool
) -> list[dict[str, Any]] | None:
    """Returns this evaluation and the others, each with what it costs; None where there are no others."""
    if not others:
        return None
    main = headline_metric(multi_label)
    rows = [
        {
            "file": each.get("file"),
            "weights": str(each.get("weights", "")),
            "views": each["views"],
            "value": each[main],
            "interval": each.get(f"{main}_interval"),
            **{key: each[key] for key in ("gmacs", "gmacs_per_view", "parameters", "videos")},
            **{key: each.get(key, "") for key in ("manifest_hash", "control", "precision", "date")},
        }
        for each in (figures, *others)
    ]
    for row, name in zip(rows, distinct_names([row["weights"] for row in rows]), strict=True):
        row["name"] = name
    return rows


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Returns the ends of ``paths``, with as many folders as tell different ones apart."""
    parts = [tuple(part for part in path.replace("\\", "/").split("/") if part) or ("unnamed",) for path in paths]
    names = [""] * len(parts)
    for number, own in enumerate(parts):
        for length in range(1, len(own) + 1):
            names[number] = "/".join(own[-length:])
            if all(other == own or other[-length:] != own[-length:] for other in parts):
                break
    return names


def _crops_and_clips(figures: Mapping[str, Any]) -> tuple[int, int]:
    clips, crops = figures["views"].split("x")
    return int(crops), int(clips)
