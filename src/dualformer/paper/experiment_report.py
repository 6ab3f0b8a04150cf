"""Reports an experiment: a table with intervals, and a picture of accuracy against difficulty."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualformer.files import write_text
from dualformer.paper.experiment import CONTROLS, TEST_SEED, Experiment
from dualformer.paper.relation_clips import RelationClips
from dualformer.paper.scaled_variants import ATTENTION_KINDS
from dualformer.scoring.intervals import mean_over_seeds

TABLE = "table.md"
PICTURE = "accuracy.png"

_GROUPS = 5
"""Groups that the test clips are split into by difficulty, with as many clips in each."""
_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#6a4c93", "#8d99ae", "#3d5a80", "#bc6c25")
_DASHES = ("-", "--", ":")
"""The first as many lines as there are colours have the first, the next as many the next."""
_TITLES = {
    "local": "local: which way did the gesture drift?",
    "global": "global: did two coarse patches drift the same way?",
    "both": "both: did cue and fine gesture drift the same way?",
}

Runs = Sequence[dict[str, Any]]


def report(experiment: Experiment, runs: Runs) -> str:
    """Writes ``table.md`` and ``accuracy.png`` into the experiment's folder; returns the table.

    Errors: ``ValueError`` where there are no runs.
    """
    if not runs:
        raise ValueError("there are no runs to report")
    out = Path(experiment.out)
    text = table(runs)
    write_text(out / TABLE, text)
    draw(out / PICTURE, experiment, runs)
    return text


def table(runs: Runs) -> str:
    """Returns accuracies of every variant by task, in percent with 95 % intervals over seeds, and how many seeds stayed
    at chance; and how much less accurate than LG it is, seed by seed, where both have seeds in common."""
    tasks, variants = _in_order(runs, "task"), _in_order(runs, "variant")
    against = [task for task in tasks if "LG" in variants and len(variants) > 1]
    head = ["variant", "GMACs", "params M", *tasks, *(f"{task}: less than LG" for task in against), "seeds"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for variant in variants:
        mine = [run for run in runs if run["variant"] == variant]
        seeds = {task: len([run for run in mine if run["task"] == task]) for task in tasks}
        cells = [variant, f"{mine[0]['gmacs']:.3f}", f"{mine[0]['parameters'] / 1e6:.3f}"]
        cells += [_accuracy([run for run in mine if run["task"] == task]) for task in tasks]
        cells += ["" if variant == "LG" else _percent(_deficits(runs, variant, task)) for task in against]
        cells.append(", ".join(dict.fromkeys(str(count) for count in seeds.values())))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| control, all variants | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for name in CONTROLS:
        shares = [[run[name] for run in runs if run["task"] == task] for task in tasks]
        lines.append(f"| {_CONTROLS[name]} | " + " | ".join(map(_percent, shares)) + " |")
    return "\n".join(lines) + "\n"


_CONTROLS = {"still": "one frame repeated", "shuffled": "frames shuffled"}


def draw(path: Path, experiment: Experiment, runs: Runs) -> None:
    """Draws accuracy against the gesture's radius and against its distance from the cue in pixels and in frames.

    There is a column for each task and a line for each variant, with 95 % intervals over seeds: of all variants where
    they do not hide each other, else of LG, LL and GG.
    """
    from matplotlib.figure import Figure  # takes half a second to import

    from dualformer.scoring.plots import save_figure

    tasks, variants = _in_order(runs, "task"), _in_order(runs, "variant")
    figure = Figure(figsize=(4.6 * len(tasks) + 1.5, 10.2), layout="constrained")
    grid = figure.subplots(len(_AXES), len(tasks), squeeze=False, sharey=True)
    for column, task in enumerate(tasks):
        clips = RelationClips(experiment.relations(task), experiment.test_clips, seed=TEST_SEED)
        difficulties = [clips.difficulty(i) for i in range(len(clips))]
        for axes, (name, label) in zip(grid[:, column], _AXES.items(), strict=True):
            groups = _groups(np.array([getattr(each, name) for each in difficulties]))
            if len(groups) == 1:  # it does not vary in this task
                axes.set_visible(False)
                continue
            for number, variant in enumerate(variants):
                mine = [run for run in runs if (run["task"], run["variant"]) == (task, variant)]
                if mine:
                    _line(axes, mine, groups, label=variant, number=number, of=len(variants))
            axes.axhline(50, color="grey", linewidth=0.8, linestyle=":")
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
        grid[0, column].set_title(_TITLES[task], fontsize=10)
    grid[0, 0].set_ylim(top=102)  # of all; an interval around figures that are far apart goes on beyond
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy, % (chance: 50)")
    known = {label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown = [variant for variant in variants if variant in known]
    figure.legend([known[name] for name in shown], shown, loc="outside right upper", fontsize=9)
    save_figure(path, figure)


_AXES = {
    "radius": "pixels of the gesture's radius",
    "distance": "pixels between cue and gesture",
    "gap": "frames between cue and gesture",
}

Groups = list[tuple[float, NDArray[np.bool_]]]
"""Where on the axis, and which of the test clips."""


def _line(axes: Any, mine: Runs, groups: Groups, *, label: str, number: int, of: int) -> None:
    places = np.array([place for place, _ in groups])
    few = of <= len(_COLOURS)
    barred = few or label in ATTENTION_KINDS
    if barred and len(places) > 1:  # the bars stand beside each other
        middle = ((of if few else len(ATTENTION_KINDS)) - 1) / 2
        places = places + 0.06 * (number - middle) * np.diff(places).min()
    right = np.array([[letter == "1" for letter in run["right"]] for run in mine])
    found = [mean_over_seeds([100 * float(one[chosen].mean()) for one in right]) for _, chosen in groups]
    again, colour = divmod(number, len(_COLOURS))
    axes.errorbar(
        places,
        [mean for mean, _ in found],
        yerr=[half or 0.0 for _, half in found] if barred else None,
        label=label,
        color=_COLOURS[colour],
        linestyle=_DASHES[again % len(_DASHES)],
        marker="o",
        markersize=4,
        capsize=2,
        linewidth=1.5,
    )


def _groups(values: NDArray[Any]) -> Groups:
    """Groups test clips by these values: a group for each value where there are few, else equal groups by size."""
    if len(few := np.unique(values)) <= _GROUPS:
        return [(float(value), values == value) for value in few]
    parts = np.array_split(np.argsort(values, kind="stable"), _GROUPS)
    return [(float(values[part].mean()), np.isin(np.arange(len(values)), part)) for part in parts]


def _deficits(runs: Runs, variant: str, task: str) -> list[float]:
    """Returns LG's accuracy minus ``variant``'s, seed by seed."""

    def of(name: str) -> dict[int, float]:
        return {run["seed"]: run["accuracy"] for run in runs if (run["variant"], run["task"]) == (name, task)}

    base, other = of("LG"), of(variant)
    return [base[seed] - other[seed] for seed in sorted(base.keys() & other.keys())]


def at_chance(accuracies: Sequence[float], clips: int) -> int:
    """Counts accuracies no better than guessing between two classes: within three standard errors of so many clips.

    A network that has not found what it has to find is there, and a mean over such and others hides both.
    """
    return sum(share < 0.5 + 3 * math.sqrt(0.25 / clips) for share in accuracies)


def _accuracy(runs: Runs) -> str:
    if not runs:
        return "–"
    found = [run["accuracy"] for run in runs]
    stuck = at_chance(found, len(runs[0]["right"]))
    return _percent(found) + (f" ({stuck} of {len(found)} at chance)" if stuck else "")


def _percent(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean, half = mean_over_seeds(values)
    return f"{100 * mean:.1f}" + ("" if half is None else f" ± {100 * half:.1f}")


def _in_order(runs: Runs, name: str) -> list[Any]:
    return list(dict.fromkeys(run[name] for run in runs))
