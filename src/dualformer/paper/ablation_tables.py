"""Prints the rows of the paper's tables, or turns them into JSON: their costs, and the accuracies of trained ones."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from dualformer.paper.ablation_runs import RowResult, mean_and_spread
from dualformer.paper.paper_tables import TABLES, RowCost
from dualformer.weights.errors import size_text


def print_costs(computed: Sequence[RowCost], console: Console) -> None:
    """Prints what rows cost, published beside computed, a table for each of the paper's."""
    for number in dict.fromkeys(each.row.table for each in computed):
        each_row = [each for each in computed if each.row.table == number]
        print(f"Table {number}: {TABLES[number]}. {_networks(each_row)}")
        table = Table("row", "GFLOPs\npaper", "\nhere", "GMACs\na view", "params M\npaper", "\nhere", "top-1", "top-5")
        for each in each_row:
            published, agrees = each.row.published, each.agrees
            table.add_row(
                each.row.name,
                _figure(published.gflops),
                _figure(each.gflops if each.as_published else None) + _mark(agrees.get("gflops")),
                _cost(each.cost.macs / 1e9 if each.cost else None),
                _figure(published.parameters, 1),
                _cost(each.parameters) + _mark(agrees.get("parameters")),
                _figure(published.top1, 1),
                _figure(published.top5, 1),
            )
        console.print(table)
        for each in each_row:
            if each.problem:
                print(f"  {each.row.name}: left out; {each.problem}")
            if each.same_as:
                assert each.config is not None
                print(f"  {each.row.name}: the same network as {each.same_as.name} at {size_text(each.config.clip)}")
            if each.row.note and each.as_published:
                print(f"  {each.row.name}: {each.row.note}")
        print()
    verdicts = [verdict for each in computed for verdict in each.agrees.values()]
    if verdicts:
        print(f"{sum(verdicts)} of {len(verdicts)} published costs come out to the printed digit (≠ marks the others)")
    print("GFLOPs: 10⁹ multiply-adds of a view, rounded, times the views, as the paper counts; accuracies: the paper's")
    print("next: dualformer ablate --run --table 7 --data MY_VIDEOS   (trains the rows and measures the accuracies)")


def _networks(computed: list[RowCost]) -> str:
    """Returns such as ``dualformer_tiny, clips of 32x224x224, 4 views``."""
    models = ", ".join(dict.fromkeys(each.model for each in computed))
    clips = ", ".join(dict.fromkeys(size_text(each.config.clip) for each in computed if each.config))
    views = computed[0].row.published.views
    return f"{models}; clips of {clips or '–'}; {views} view{'s' if views > 1 else ''}"


def print_measured(measured: Sequence[RowResult], console: Console, *, seeds: int) -> None:
    """Prints what the trained rows reached, published beside measured, a table for each of the paper's."""

    for number in dict.fromkeys(each.row.table for each in measured):
        each_row = [each for each in measured if each.row.table == number]
        print(f"Table {number}: {TABLES[number]}")
        table = Table("row", "GMACs\na view", "params\nM", "steps", "top-1\npaper", "\nhere", "top-5\npaper", "\nhere")
        for each in each_row:
            cost = each.planned.cost if each.planned else None
            table.add_row(
                each.row.name,
                _cost(cost.macs / 1e9 if cost else None),
                _cost((cost.parameters - cost.classifier) / 1e6 if cost else None),
                _figure(each.steps or None),
                _figure(each.row.published.top1, 1),
                _spread(each.top1),
                _figure(each.row.published.top5, 1),
                _spread(each.top5),
            )
        console.print(table)
        for each in each_row:
            for line in _notes(each):
                print(f"  {each.row.name}: {line}")
    print("here: on the validation videos, one view, after the last epoch; mean ± standard deviation over seeds")
    for each in measured:
        if each.planned and len(each.top1) < seeds:
            print(f"  {each.row.key}: {len(each.top1)} of {seeds} seeds")


def _notes(measured: RowResult) -> list[str]:
    failures = [f"seed {seed} failed; {message}" for seed, message in measured.failures.items()]
    if measured.problem:
        return [f"left out; {measured.problem}"]
    return [*([f"the same network as {measured.same_as}"] if measured.same_as else []), *failures]


def _figure(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _cost(value: float | None) -> str:
    """Formats a cost by two digits after the point for the paper's networks; small ones differ in the third."""
    return _figure(value, 2 if value is None or value >= 10 else 3)


def _mark(agrees: bool | None) -> str:
    return " ≠" if agrees is False else ""


def _spread(values: tuple[float, ...]) -> str:
    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    return f"{100 * mean:.1f}" + ("" if spread is None else f"±{100 * spread:.1f}")


def costs_as_json(computed: RowCost) -> dict[str, Any]:
    """Returns what a row costs as an entry of JSON."""
    return {
        "row": computed.row.key,
        "name": computed.row.name,
        "model": computed.model,
        "clip": list(computed.config.clip) if computed.config else None,
        "published": dataclasses.asdict(computed.row.published),
        "gmacs": computed.cost.macs / 1e9 if computed.cost else None,
        "gflops": computed.gflops,
        "parameters": computed.parameters,
        "agrees": computed.agrees,
        "same_as": computed.same_as.key if computed.same_as else None,
        "problem": computed.problem or None,
    }


def measured_as_json(measured: RowResult) -> dict[str, Any]:
    """Returns what a trained row reached as an entry of JSON, shares from 0 to 1."""
    planned = measured.planned
    figures: dict[str, Any] = {}
    for name in ("top1", "top5"):
        values = getattr(measured, name)
        mean, spread = mean_and_spread(values) if values else (None, None)
        figures[name] = {"mean": mean, "spread": spread, "seeds": list(values)}
    return {
        "row": measured.row.key,
        "name": measured.row.name,
        "published": dataclasses.asdict(measured.row.published),
        "model": planned.settings.model if planned else None,
        "clip": list(planned.clip) if planned else None,
        "gmacs": planned.cost.macs / 1e9 if planned else None,
        "parameters": (planned.cost.parameters - planned.cost.classifier) / 1e6 if planned else None,
        "steps": measured.steps,
        **figures,
        "same_as": measured.same_as or None,
        "problem": measured.problem or None,
        "failures": measured.failures,
    }
