"""Reads and checks what a report takes beyond an evaluation, before hours of evaluation begin.

That is other numbers of views, the log of the training, and figures of other evaluations.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from dualformer.errors import DualFormerError
from dualformer.evaluation.evaluate import Control
from dualformer.evaluation.view_sweep import cheap_views, needed_views
from dualformer.video.clip_reader import Views
from dualformer.video.preprocessing import Placement
from dualformer.weights.card import Card
from dualformer.weights.locate import SHIPPED

LOG = "metrics.jsonl"
"""What a training run calls its log: a line of JSON for each epoch."""
FIGURES = "figures.json"


class ReportError(DualFormerError):
    """A file that a report cannot be made of. The message names the file and the remedy."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConditions:
    """What the evaluations that a report compares must have in common."""

    videos: int
    """Missing ones included."""
    manifest_hash: str
    control: Control
    multi_label: bool


@dataclass(frozen=True, kw_only=True)
class ReportPlan:
    """What `plan_report` found."""

    views: tuple[Views, ...]
    """To evaluate, the report's own first."""
    log: list[dict[str, Any]] | None
    """The epochs of the training, where there is a log."""
    epoch: int | None
    """That of the weights, where they and the log know it."""
    others: list[dict[str, Any]]
    """Figures to compare with, each with its ``file``."""


def plan_report(
    weights: str | Path,
    card: Card,
    conditions: EvaluationConditions,
    *,
    views: Views | str,
    report_views: Sequence[Views | str] | None = None,
    compare: Sequence[Path] = (),
    compare_anything: bool = False,
) -> ReportPlan:
    """Reads the log beside ``weights`` and the result files ``compare``, and parses the views.

    Errors: as `views_of_report`, `read_training_log` and `read_results`.
    """
    log, epoch = read_training_log(weights), card.metrics.get("epoch")
    known = log is not None and any(each["epoch"] == epoch for each in log)
    return ReportPlan(
        views=views_of_report(views, report_views, card.preprocessing.placement),
        log=log,
        epoch=int(epoch) if known and epoch is not None else None,
        others=read_results(compare, conditions, compare_anything=compare_anything),
    )


def views_of_report(
    views: Views | str, report_views: Sequence[Views | str] | None = None, placement: Placement = "ends"
) -> tuple[Views, ...]:
    """Returns the numbers of views to compare: ``views``, then ``report_views``, by default those that cost little."""
    main = Views.parse(views)
    others = cheap_views(main, placement) if report_views is None else map(Views.parse, report_views)
    return tuple(dict.fromkeys((main, *others)))


def describe_cost(views: Sequence[Views], placement: Placement) -> str:
    """Returns a sentence on what the first of ``views`` costs by itself, and all of them together."""
    alone, together = views[0].count, needed_views(views, placement)
    named = " ".join(map(str, sorted(views, key=lambda each: (each.crops, each.clips))))
    return (
        f"accuracy against views ({named}): {together} views of each video go through the network, where {views[0]} "
        f"alone takes {alone}; each video is decoded once"
    )


def read_training_log(weights: str | Path) -> list[dict[str, Any]] | None:
    """Reads the epochs of the run in whose folder the weights lie, oldest first; None where no log lies beside them.

    Raises :class:`ReportError` for a file of that name that is no log.
    """
    path = Path(weights)
    if weights in SHIPPED or not path.exists():
        return None
    log = (path if path.is_dir() else path.parent) / LOG
    if not log.is_file():
        return None
    epochs: list[dict[str, Any]] = []
    for number, line in enumerate(log.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line:
            continue
        try:
            epoch = json.loads(line)
        except json.JSONDecodeError:
            epoch = None
        if not isinstance(epoch, dict) or not all(_is_number(epoch.get(key)) for key in ("epoch", "train_loss", "lr")):
            raise ReportError(
                f"{log}:{number}: this is no line of a training log, which the report would draw: rename the file"
            )
        epochs.append(epoch)
    return epochs or None


def read_results(
    paths: Sequence[Path], conditions: EvaluationConditions, *, compare_anything: bool = False
) -> list[dict[str, Any]]:
    """Reads the figures of other evaluations, each with its ``file``: figures.json files, or folders with them.

    Raises ``FileNotFoundError``, and :class:`ReportError` for what is no such file, is from before there were costs in
    it, or, without ``compare_anything``, is of other videos or under another control. Accuracy and average precision
    are never compared.
    """
    found: list[dict[str, Any]] = []
    for path in paths:
        file = path / FIGURES if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(f"no such result file: {file}")
        figures = _read_figures(file)
        main = headline_metric(conditions.multi_label)
        if main not in figures:
            kinds = ("one label", "several labels") if conditions.multi_label else ("several labels", "one label")
            raise ReportError(f"{file}: its videos have {kinds[0]} each, these {kinds[1]}: leave it out")
        if not compare_anything:
            _check_same(file, figures, conditions)
        found.append({**figures, "file": str(file)})
    return found


def headline_metric(multi_label: bool) -> str:
    """Returns the name of the figure that weights are compared by."""
    return "mean_average_precision" if multi_label else "top1"


def _read_figures(file: Path) -> dict[str, Any]:
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{file}: not JSON; name a figures.json that `dualformer evaluate` wrote") from error
    if not isinstance(figures, dict) or not isinstance(figures.get("views"), str):
        raise ReportError(f"{file}: not the figures of an evaluation; name a figures.json that it wrote")
    known: list[Any] = [figures.get(key) for key in ("gmacs", "gmacs_per_view", "parameters", "videos")]
    if not all(_is_figure(value) and value > 0 for value in known):
        raise ReportError(f"{file}: it does not say what the network costs: evaluate those weights anew")
    for key in ("top1", "mean_average_precision", "missing"):
        if key in figures and not _is_figure(figures[key]):
            raise ReportError(f"{file}: its {key} is no number: evaluate those weights anew")
    for key in ("top1_interval", "mean_average_precision_interval"):
        bounds = figures.get(key, [0, 0])
        if not isinstance(bounds, list) or len(bounds) != 2 or not all(map(_is_figure, bounds)):
            raise ReportError(f"{file}: its {key} is not two numbers: evaluate those weights anew")
    return figures


def _check_same(file: Path, figures: Mapping[str, Any], conditions: EvaluationConditions) -> None:
    remedy = "leave it out, or compare all the same with `compare_anything=True`"
    theirs, ours = figures.get("manifest_hash", ""), conditions.manifest_hash
    if theirs != ours:
        raise ReportError(f"{file}: it is of other data (manifest {theirs or 'none'}, here {ours or 'none'}): {remedy}")
    if (count := figures["videos"] + figures.get("missing", 0)) != conditions.videos:
        raise ReportError(f"{file}: it is of {count} videos of the data, here there are {conditions.videos}: {remedy}")
    if (control := figures.get("control", "none")) != conditions.control:
        raise ReportError(f"{file}: it is under the control {control}, here it is {conditions.control}: {remedy}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_figure(value: Any) -> bool:
    """Returns whether it can be drawn: JSON in Python's way knows NaN and Infinity, too."""
    return _is_number(value) and isfinite(value)
