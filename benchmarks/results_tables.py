"""What stands in the tables of docs/results.md: text from figures, without reading or writing a file.

`results.py` puts it on the page. The paper's figures are those of `model.ablations.ROWS`; here are only the sentences
in which the paper holds its networks against others, with what it prints for those.
"""

from __future__ import annotations

import dataclasses
import shlex
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from dualformer.bench.table import markdown_table
from dualformer.cli import bench
from dualformer.model.presets import preset_config
from dualformer.paper.experiment import CONTROLS, Experiment
from dualformer.paper.experiment_report import at_chance
from dualformer.paper.paper_tables import ROWS, RowCost, compute_costs
from dualformer.paper.relation_clips import TASKS
from dualformer.paper.scaled_variants import ATTENTION_KINDS, VARIANTS
from dualformer.scoring.intervals import mean_over_seeds

Runs = Sequence[dict[str, Any]]

NOT_MEASURED = "Not measured yet."
_BASE = "LG"
_SMALL = 0.3
"""Points: differences of the paper's that are no larger are within what another seed may give, and it has one each."""

DIRECTIONS = {
    "LL": "4/ll-ll-ll-ll",
    "GG": "4/gg-gg-gg-gg",
    "LL-LL-LG-LG": "4/ll-ll-lg-lg",
    "LG-LG-LL-LL": "4/lg-lg-ll-ll",
    "coarse-scale": "4/only-4-4-4",
    "fine-scale": "4/only-8-7-7",
    "half-window": "5/32x2-4-7-7",
    "long-window": "5/32x2-16-7-7",
    "wide-window": "5/32x2-8-14-14",
    "average": "6/avgpool",
    "full-convolution": "6/conv",
    "no-position": "7/without-peg",
    "absolute": "7/absolute",
    "relative": "7/relative",
}
"""Variants of the bench, and the rows of the paper's tables that they are in small."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A sentence of the paper's: so many times fewer "FLOPs" than another network."""

    said: str
    other: str
    gflops: int
    views: int
    """Both as Tables 2 and 3 print them for the other network."""
    row: str
    """The paper's own network, of which a view costs so much."""
    own_views: int = 4
    counted_views: int | None = None
    """Views in the paper's figure, where these are not all."""


RATIOS = (
    Ratio(said="3.2 ×", other="Swin-B", gflops=3384, views=12, row="2/dualformer-b"),
    Ratio(said="16.2 ×", other="ViViT-L", gflops=17352, views=12, row="2/dualformer-b"),
    Ratio(said="4.4 ×", other="Swin-T", gflops=1056, views=12, row="2/dualformer-t"),
    Ratio(said="9.2 ×", other="X3D-XXL", gflops=5823, views=30, row="2/dualformer-s"),
    Ratio(said="3.7 ×", other="TimeSformer-L", gflops=7140, views=3, row="2/dualformer-s", own_views=12),
    Ratio(said="18 % of it", other="VidTr-L", gflops=10530, views=30, row="2/dualformer-s", own_views=12),
    Ratio(said="192 ×", other="VidTr-M", gflops=5370, views=30, row="5/16x4-8-7-7", counted_views=1),
)
"""From the abstract and section 4.2."""


def costs() -> str:
    """Every published cost of Tables 2 and 4 to 8 beside ours, and how many come out."""
    computed = [each for key, each in _computed().items() if not key.startswith("1/")]  # Table 1 has no figures
    head = ("row", "FLOPs, paper", "here", "difference", "params M, paper", "here", "difference")
    text = markdown_table(head, [_cost(each) for each in computed])
    agrees = [agree for each in computed for agree in each.agrees.values()]
    off = [f"`{each.row.key}` ({name})" for each in computed for name, agree in each.agrees.items() if not agree]
    verdict = f"{sum(agrees)} of {len(agrees)} published figures come out to the printed digit"
    return "\n".join([*text, "", verdict + (f"; not: {', '.join(off)}." if off else ".")])


@cache
def _computed() -> dict[str, RowCost]:
    """Rows by key; counting them all takes some seconds."""
    return {each.row.key: each for each in compute_costs(ROWS)}


def _cost(each: RowCost) -> tuple[str, ...]:
    assert each.cost is not None and each.parameters is not None
    published = each.row.published
    gmacs = each.cost.macs / 1e9 * published.views
    return (
        f"`{each.row.key}`",
        *_beside(published.gflops, gmacs, digits=0),
        *_beside(published.parameters, each.parameters, digits=1),
    )


def _beside(published: float | None, ours: float, *, digits: int) -> tuple[str, str, str]:
    here = f"{ours:.{digits + 2 if digits else 1}f}"
    if published is None:
        return "–", here, "–"
    difference = round(100 * (ours / published - 1), 2) + 0.0  # no negative zero
    return f"{published:.{digits}f}", here, f"{difference:+.2f} %"


def ratios() -> str:
    """The paper's "times fewer", for all views of a video and for one."""
    head = ("than", "paper", "its GFLOPs, views", "ours, views", "times fewer", "for one view each")
    return "\n".join(markdown_table(head, [_ratio(ratio) for ratio in RATIOS]))


def _ratio(ratio: Ratio) -> tuple[str, ...]:
    # Rounded for a view, then multiplied: so the paper's own figures are made.
    cost = _computed()[ratio.row].cost
    assert cost is not None
    view = round(cost.macs / 1e9)
    total = view * ratio.own_views
    counted = view * (ratio.counted_views or ratio.own_views)
    note = f" ({ratio.gflops / counted:.1f} by {ratio.counted_views})" if ratio.counted_views else ""
    return (
        ratio.other,
        ratio.said,
        f"{ratio.gflops:,}, {ratio.views}",
        f"{total:,}, {ratio.own_views}",
        f"{ratio.gflops / total:.1f} ×{note}",
        f"{ratio.gflops / ratio.views / view:.2f} ×",
    )


def speed(measured: dict[str, Any], *, date: str) -> str:
    """Time and share of the machine's peak of every network, from what ``dualformer bench --json`` prints."""
    head = ("network", "view", "batch", "computes in", "by", "GMACs", "median, ms", "95 % within, ms", "of the peak")
    text = markdown_table(head, [_speed(figures) for figures in measured["figures"]])
    machine = measured["machine"]
    return "\n".join([*text, "", f"{date}, `{bench_command(measured)}`: {machine_words(machine)}."])


def _speed(figures: dict[str, Any]) -> tuple[str, ...]:
    setting = figures["setting"]
    return (
        setting["model"],
        "×".join(map(str, setting["clip"])),
        str(setting["batch"]),
        setting["dtype"],
        setting["backend"],
        f"{figures['macs'] / 1e9:.2f}",
        *(f"{1000 * figures[name]:,.0f}" for name in ("p50", "p95")),
        "–" if figures["share"] is None else f"{100 * figures['share']:.0f} %",
    )


def machine_words(machine: dict[str, Any]) -> str:
    """What `describe_machine` found, in short."""
    threads = machine["threads"]
    chips = machine["gpu"] or f"{machine['cpu']}, {threads} thread{'s' if threads > 1 else ''}"
    commit = f" at `{machine['commit']}`" if machine["commit"] else ""
    return f"{chips}, PyTorch {machine['torch']}, dualformer {machine['version']}{commit}"


def bench_command(measured: dict[str, Any]) -> str:
    """The call of ``dualformer bench`` whose figures these are; how many rounds it took is the machine's matter."""
    settings = [figures["setting"] for figures in measured["figures"]]

    def each(name: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(setting[name] for setting in settings))

    clips = {setting["model"]: tuple(setting["clip"]) for setting in settings}
    by_default = all(preset_config(name).clip == clip for name, clip in clips.items())
    options = bench.Options(
        models=each("model"),
        clip=() if by_default else tuple(dict.fromkeys("x".join(map(str, clip)) for clip in clips.values())),
        batch=each("batch"),
        dtype=each("dtype"),
        backend=each("backend"),
        keep_freed=measured["keeps_freed"] or measured["machine"]["gpu"] is not None,
    )
    return f"{bench.command_of(options)} --json"


def directions(runs: Runs) -> str:
    """What the paper found in Tables 4 to 7 on Kinetics-400, and what came out on the bench."""
    tasks = tasks_of(runs)
    head = ("variant", "table", "paper: less than LG", *(f"{task}: less than LG" for task in tasks))
    lines = []
    for variant, key in DIRECTIONS.items():
        papers = papers_difference(key)
        small = f" (within {_SMALL:g})" if abs(papers) <= _SMALL else ""
        lines.append(
            (
                variant,
                key.partition("/")[0],
                f"{papers:.1f}{small}",
                *(_direction(papers, less_than_base(runs, variant, task)) for task in tasks),
            )
        )
    return "\n".join(markdown_table(head, lines))


def _direction(papers: float, differences: Sequence[float]) -> str:
    if not differences:
        return "–"
    said = verdict(papers, differences)
    return points(differences) + (f", {said}" if said else "")


def papers_difference(key: str) -> float:
    """Points of top-1 that a row of the paper's tables has less than the network itself, to the digit it prints."""
    top1 = {row.key: row.published.top1 for row in ROWS}
    base, other = top1["2/dualformer-t"], top1[key]
    assert base is not None and other is not None
    return round(base - other, 1)


def verdict(papers: float, differences: Sequence[float]) -> str:
    """``held``, ``did not hold`` or ``undecided``, by whether the 95 % interval of ``differences`` (a point for each
    seed) leaves out 0, and on which side it lies; nothing where the paper's own difference is too small to be one."""
    if abs(papers) <= _SMALL:
        return ""
    mean, half = mean_over_seeds(differences)
    if half is None or abs(mean) <= half:
        return "undecided"
    return "held" if mean * papers > 0 else "did not hold"


def differences(runs: Runs, task: str, pairs: Sequence[tuple[str, str]]) -> str:
    """What the second network of each pair has less than the first on ``task``, where both were run."""
    there = {run["variant"] for run in runs if run["task"] == task}
    head = ("network", f"{task}: less than", "points")
    lines = [
        (other, base, points(less_than_base(runs, other, task, base=base)))
        for base, other in pairs
        if {base, other} <= there
    ]
    return "\n".join(markdown_table(head, lines))


def less_than_base(runs: Runs, variant: str, task: str, *, base: str = _BASE) -> list[float]:
    """Points that ``variant`` has less than ``base``, for each seed that both have."""

    def of(name: str) -> dict[int, float]:
        return {run["seed"]: run["accuracy"] for run in runs if (run["variant"], run["task"]) == (name, task)}

    more, less = of(base), of(variant)
    return [100 * (more[seed] - less[seed]) for seed in sorted(more.keys() & less.keys())]


def kinds(runs: Runs, clips: int, *, less: bool = False) -> str:
    """Accuracy and cost of the kinds of networks, which `directions` does not say, each tested on ``clips`` clips; and
    with ``less`` what each has less than LG."""
    tasks = tasks_of(runs)
    wanted = [name for name in names_of(runs) if name in ATTENTION_KINDS or name not in DIRECTIONS]
    beside = [f"{task}: less than LG" for task in tasks if less]
    head = ("network", "GMACs", "params M", *(f"{task}, %" for task in tasks), *beside, "seeds")
    lines = []
    for name in wanted:
        mine = [run for run in runs if run["variant"] == name]
        found = [[100 * run["accuracy"] for run in mine if run["task"] == task] for task in tasks]
        costs = f"{mine[0]['gmacs']:.3f}", f"{mine[0]['parameters'] / 1e6:.2f}"
        cells = [points(values) + _stuck(values, clips) for values in found]
        if less:
            cells += ["" if name == _BASE else points(less_than_base(runs, name, task)) for task in tasks]
        seeds = ", ".join(dict.fromkeys(str(len(values)) for values in found if values))
        lines.append((name, *costs, *cells, seeds))
    return "\n".join(markdown_table(head, lines))


def _stuck(percents: Sequence[float], clips: int) -> str:
    stuck = at_chance([value / 100 for value in percents], clips)
    return f" ({stuck} of {len(percents)} at chance)" if stuck else ""


def controls(runs: Runs) -> str:
    """Accuracy without motion, over all networks and seeds."""
    head = ("task", "control", "runs", "mean, %", "least", "most")
    words = {"still": "one frame repeated", "shuffled": "frames shuffled"}
    lines = []
    for task in tasks_of(runs):
        for name in CONTROLS:
            values = [100 * run[name] for run in runs if run["task"] == task]
            spread = sum(values) / len(values), min(values), max(values)
            lines.append((task, words[name], str(len(values)), *(f"{value:.1f}" for value in spread)))
    return "\n".join(markdown_table(head, lines))


def source(settings: dict[str, Any], runs: Runs, *, date: str, machine: str, out: str = Experiment.out) -> str:
    """Date, commands, machine and size of the experiment."""
    called = "; ".join(f"`{command}`" for command in commands(settings, runs, out=out))
    minutes = statistics.median(run["seconds"] for run in runs) / 60
    took = f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"
    clip = "×".join(map(str, settings["clip"]))
    return (
        f"{date}, {called}: {machine}; {len(runs)} runs of {runs[0]['steps']:,} steps, {settings['batch_size']} clips "
        f"of {clip} each, {took} minutes for the median run, {settings['test_clips']:,} test clips."
    )


def commands(settings: dict[str, Any], runs: Runs, *, out: str = Experiment.out) -> list[str]:
    """Calls that make the same runs in the folder ``out``, whatever they were called by."""
    recipe = _recipe(settings)
    ours = [run for run in runs if run["variant"] in VARIANTS]
    found = []
    for names, tasks, seeds in _grids(ours):
        words = ["dualformer", "ablate", "--run", "--data", "relations", "--out", out, *recipe]
        if set(names) == set(VARIANTS):
            words += ["--variants", "all"]
        elif names != ATTENTION_KINDS:
            words += ["--variants", *names]
        found.append(shlex.join([*words, *_which(tasks, seeds)]))
    for names, tasks, seeds in _grids([run for run in runs if run["variant"] not in VARIANTS]):
        words = ["python", "benchmarks/relations_peers.py", "--out", out, "--peers", *names]
        found.append(shlex.join([*words, *_which(tasks, seeds)]))
    return found


_OPTIONS = {
    "model": "model",
    "clips": "train-clips",
    "test_clips": "test-clips",
    "batch_size": "batch-size",
    "lr": "lr",
    "weight_decay": "weight-decay",
}


def _recipe(settings: dict[str, Any]) -> list[str]:
    default = dataclasses.asdict(Experiment())
    words = [
        word
        for name, option in _OPTIONS.items()
        if settings[name] != default[name]
        for word in (f"--{option}", str(settings[name]))
    ]
    if tuple(settings["clip"]) != default["clip"]:
        words += ["--frames", str(settings["clip"][0]), "--size", str(settings["clip"][1])]
    for name, value in settings["scene"].items():
        words += [f"--{name}", *(f"{each:g}" for each in (value if isinstance(value, list) else [value]))]
    return [*words, "--precision", settings["precision"]]


Grid = tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]


def _grids(runs: Runs) -> list[Grid]:
    """The runs as few blocks of networks × tasks × seeds: networks with the same tasks and seeds go together."""
    by_task: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for task in tasks_of(runs):
        for name in names_of(runs):
            seeds = sorted(run["seed"] for run in runs if (run["task"], run["variant"]) == (task, name))
            if seeds:
                by_task.setdefault(task, {}).setdefault(tuple(seeds), []).append(name)
    merged: dict[tuple[tuple[str, ...], tuple[int, ...]], list[str]] = {}
    for task, blocks in by_task.items():
        for seeds, names in blocks.items():
            merged.setdefault((tuple(names), seeds), []).append(task)
    return [(names, tuple(tasks), seeds) for (names, seeds), tasks in merged.items()]


def _which(tasks: tuple[str, ...], seeds: tuple[int, ...]) -> list[str]:
    """``--tasks --seeds --seed`` where they are not the default; seeds are counted up from the first."""
    words = [] if tasks == TASKS else ["--tasks", *tasks]
    if (count := seeds[-1] - seeds[0] + 1) != Experiment.seeds:
        words += ["--seeds", str(count)]
    return words if seeds[0] == 0 else [*words, "--seed", str(seeds[0])]


def tasks_of(runs: Runs) -> list[str]:
    return [task for task in TASKS if any(run["task"] == task for run in runs)]


def names_of(runs: Runs) -> list[str]:
    """Networks in the order of `VARIANTS`, then others."""
    there = _once(run["variant"] for run in runs)
    return [*(name for name in VARIANTS if name in there), *(name for name in there if name not in VARIANTS)]


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def points(values: Sequence[float]) -> str:
    """A mean with half of its 95 % interval."""
    if not values:
        return "–"
    mean, half = mean_over_seeds(values)
    return f"{mean:.1f}" + ("" if half is None else f" ± {half:.1f}")
