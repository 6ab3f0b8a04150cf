"""An evaluation as text: its figures, and how well each class is recognised."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dualformer.datasets.samples import first_few
from dualformer.evaluation.evaluate import Evaluation
from dualformer.evaluation.evaluation_folder import class_figures
from dualformer.evaluation.metrics import ClassFigures
from dualformer.scoring.multilabel import LabelFigures

_MANY = 24  # classes; of more, only the worst and the best are named


def figures_text(evaluation: Evaluation) -> list[str]:
    """Returns the figures of an evaluation, a line each, and before them how many videos were trained on, if any, and
    which classes have no video."""
    figures = evaluation.figures
    notes = (trained_on_text(figures), absent_classes_text(figures))
    return [*(f"note: {note}" for note in notes if note), *_figures_text(evaluation)]


def absent_classes_text(figures: Mapping[str, Any]) -> str | None:
    """Returns a sentence on the classes of the weights that no video is of; None where there are none."""
    absent, classes = figures.get("absent_classes", []), figures["classes"]
    if not absent:
        return None
    named = first_few(absent, most=5)
    return (
        f"no video is of {len(absent)} of the {classes} classes ({named}): the figures are those of the other "
        f"{classes - len(absent)}, and a video may still be taken for one of these"
    )


def trained_on_text(figures: Mapping[str, Any]) -> str | None:
    """Returns a sentence on the videos that the weights were trained on; None where there are none of them."""
    count, videos = figures.get("trained_on", 0), figures["videos"]
    if not count:
        return None
    share = f"all {videos}" if count == videos else f"{count} of these {videos}"
    were, they = ("was", "it is") if count == 1 else ("were", "they are")
    return f"{share} videos {were} trained on: the figure says how well {they} remembered"


def _figures_text(evaluation: Evaluation) -> list[str]:
    figures = evaluation.figures
    accuracy = "top1" if evaluation.targets is None else "mean_average_precision"
    of_folds = ", ".join(f"{fold[accuracy]:.1%}" for fold in figures.get("folds", ()))
    folds = [("fold by fold", of_folds)] if of_folds else []
    speed = ("speed", f"{figures['clips_per_second']:.1f} clips/s, {figures['seconds']:.1f} s in all")
    if evaluation.targets is not None:
        fitted: Mapping[str, float] = figures.get("thresholds", {})
        at = "the weights' thresholds" if fitted else "one half"
        thresholds = ", ".join(f"{name} {value:.2f}" for name, value in fitted.items())
        return _aligned(
            ("mean average precision", f"{figures['mean_average_precision']:.1%}"),
            *folds,
            ("in a random order, about", f"{figures['chance']:.1%}"),
            (f"micro F1 at {at}", f"{figures['micro_f1']:.1%}"),
            (f"macro F1 at {at}", f"{figures['macro_f1']:.1%}"),
            ("labels of a video", f"{figures['labels']:.2f} on average, {figures['labels_named']:.2f} named"),
            ("cross-entropy", f"{figures['cross_entropy']:.3f} nats a class"),
            *([("thresholds", thresholds)] if fitted else ()),
            speed,
        )
    low, high = figures["top1_interval"]
    guessing = math.log(len(evaluation.classes))
    lines = [("top-1", f"{figures['top1']:.1%}   (95 % interval {low:.1%} to {high:.1%})")]
    lines += folds
    if "top5" in figures:
        lines.append(("top-5", f"{figures['top5']:.1%}"))
    lines += [
        ("mean class accuracy", f"{figures['mean_class_accuracy']:.1%}"),
        ("always the commonest class", f"{figures['majority_class']:.1%}"),
        ("cross-entropy", f"{figures['cross_entropy']:.3f} nats   (sure and right is 0, guessing is {guessing:.2f})"),
        ("calibration error", f"{figures['calibration_error']:.3f}"),
        speed,
    ]
    return _aligned(*lines)


def _aligned(*lines: tuple[str, str]) -> list[str]:
    width = max(len(name) for name, _ in lines)
    return ["", *(f"{name:<{width}}  {value}" for name, value in lines), ""]


def classes_text(evaluation: Evaluation) -> list[str]:
    """Returns a table of the classes that there are videos of; of very many, the worst and the best."""
    rows = [row for row in class_figures(evaluation) if row.count]
    if len(rows) <= _MANY:
        return [*_table(rows), ""]
    ordered = sorted(
        rows, key=lambda row: (row.average_precision if isinstance(row, LabelFigures) else row.recall) or 0.0
    )
    half = _MANY // 2
    worst, best = _table(ordered[:half]), _table(ordered[-half:])
    return [f"the {half} worst classes:", *worst, "", f"the {half} best:", *best, ""]


def _table(rows: Sequence[ClassFigures | LabelFigures]) -> list[str]:
    width = max(5, *(len(row.name) for row in rows))
    precision, confused = (
        ("  average precision", "") if isinstance(rows[0], LabelFigures) else ("", "  most confused with")
    )
    lines = [f"{'class':<{width}}  videos{precision}  recall  precision     F1{confused}"]
    for row in rows:
        shares = f"{_percent(row.recall):>6}  {_percent(row.precision):>9}  {_percent(row.f1):>5}"
        if isinstance(row, LabelFigures):
            shares = f"{_percent(row.average_precision):>17}  {shares}"
        else:
            shares += "  –" if row.confused_with is None else f"  {row.confused_with} ({row.confused_count})"
        lines.append(f"{row.name:<{width}}  {row.count:>6}  {shares}")
    return lines


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
