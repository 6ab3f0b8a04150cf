"""The pictures of docs/results.md: accuracy against cost on the local × global bench (as the paper's Fig. 1 has it on
Kinetics), and time against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from dualformer.paper.scaled_variants import ATTENTION_KINDS, VARIANTS
from dualformer.scoring.intervals import mean_over_seeds
from dualformer.scoring.plots import save_figure
from results_tables import Runs, names_of

_WIDE = 4.0
"""Costs that differ by more than this are on a logarithmic axis."""
_GROUPS = {
    "local and global, or either alone": ("#1b6ca8", "o"),
    "other variants of DualFormer": ("#66a182", "s"),
    "other kinds of networks": ("#d1495b", "^"),
}
_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#6a4c93", "#3d5a80")


def _group(name: str) -> str:
    kinds, variants, others = _GROUPS
    return kinds if name in ATTENTION_KINDS else variants if name in VARIANTS else others


def draw_cost(path: Path, runs: Runs, *, task: str) -> None:
    """Accuracy on ``task`` against multiply-adds: a mark with its 95 % interval for each network."""
    mine = [run for run in runs if run["task"] == task]
    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    axes = figure.add_subplot()
    marks: list[tuple[str, float, float]] = []
    for name in names_of(mine):
        own = [run for run in mine if run["variant"] == name]
        mean, half = mean_over_seeds([100 * run["accuracy"] for run in own])
        colour, marker = _GROUPS[_group(name)]
        gmacs = own[0]["gmacs"]
        axes.errorbar(
            gmacs, mean, yerr=half or 0.0, color=colour, marker=marker, markersize=6, capsize=3, linewidth=1.2
        )
        marks.append((name, gmacs, mean))
    for words, (colour, marker) in _GROUPS.items():
        if any(_group(name) == words for name, _, _ in marks):
            axes.plot([], [], color=colour, marker=marker, linestyle="", label=words)
    _cost_axis(axes, [gmacs for _, gmacs, _ in marks], "GMACs a clip")
    axes.axhline(50, color="grey", linewidth=0.8, linestyle=":")
    axes.set_ylabel(f"accuracy on the task {task}, % (chance: 50)")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=9, frameon=False)
    _label_beside(axes, marks)
    save_figure(path, figure)


_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.8, "relpos": (0, 0.5), "shrinkB": 3}


def _label_beside(axes: Any, marks: Sequence[tuple[str, float, float]]) -> None:
    """Names in a column right of the axes, in the order of their accuracies and apart, each with a line to its mark."""
    low, high = axes.get_ylim()
    wanted = sorted(marks, key=lambda mark: (mark[2], mark[0]))
    places = spread([(mean - low) / (high - low) for _, _, mean in wanted], least=0.038)
    for (name, gmacs, mean), place in zip(wanted, places, strict=True):
        colour, _ = _GROUPS[_group(name)]
        axes.annotate(
            name,
            xy=(gmacs, mean),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            parse_math=False,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "alpha": 0.8,
                "relpos": (0, 0.5),
                "shrinkB": 3,
            },
        )


def spread(places: Sequence[float], *, least: float) -> list[float]:
    """``places``, in rising order, moved apart until ``least`` lies between neighbours. Groups keep their middle where
    that leaves them between 0 and 1."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _begin(groups[-1], least) < _begin(groups[-2], least) + least * len(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    return [_begin(group, least) + least * number for group in groups for number in range(len(group))]


def _begin(group: Sequence[float], least: float) -> float:
    length = least * (len(group) - 1)
    return max(0.0, min(sum(group) / len(group) - length / 2, 1 - length))


def draw_speed(path: Path, measured: dict[str, Any]) -> None:
    """Milliseconds of a view against its multiply-adds: a line for each way to compute, a mark for each network."""
    figure = Figure(figsize=(7.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    lines: dict[str, list[tuple[float, float, str]]] = {}
    for each in measured["figures"]:
        setting = each["setting"]
        words = f"{setting['dtype']}, {setting['backend']}" + (f", batch {b}" if (b := setting["batch"]) > 1 else "")
        lines.setdefault(words, []).append(
            (each["macs"] / 1e9, 1000 * each["p50"] / setting["batch"], setting["model"])
        )
    for number, (words, found) in enumerate(lines.items()):
        found.sort()
        x, y = [gmacs for gmacs, _, _ in found], [milliseconds for _, milliseconds, _ in found]
        axes.plot(x, y, marker="o", markersize=5, color=_COLOURS[number % len(_COLOURS)], label=words)
    slowest: dict[str, tuple[float, float]] = {}
    for gmacs, milliseconds, name in (mark for found in lines.values() for mark in found):
        slowest[name] = max(slowest.get(name, (0.0, 0.0)), (gmacs, milliseconds))
    for name, place in slowest.items():
        words = name.removeprefix("dualformer_")
        axes.annotate(words, xy=place, xytext=(0, 8), textcoords="offset points", ha="right", fontsize=9)
    _cost_axis(axes, [gmacs for gmacs, _ in slowest.values()], "GMACs a view")
    times = [milliseconds for found in lines.values() for _, milliseconds, _ in found]
    if max(times) > _WIDE * min(times):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_ylabel("milliseconds a view (median)")
    axes.margins(0.08)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    save_figure(path, figure)


def _cost_axis(axes: Any, costs: Sequence[float], words: str) -> None:
    axes.set_xlabel(words)
    if max(costs) > _WIDE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
