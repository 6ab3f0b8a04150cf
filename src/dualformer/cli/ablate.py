"""``dualformer ablate``: the paper's tables of variants, published beside computed, and trained on one's own data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dualformer.training.settings.train_config import TrainConfig

if TYPE_CHECKING:
    from rich.console import Console

    from dualformer.paper.ablation_runs import Measured
    from dualformer.paper.tables import Computed, Row


RELATIONS = "relations"
"""What ``data`` calls the local × global bench."""
_TRAIN_CLIPS, _TEST_CLIPS = 3200, 1000


@dataclass(frozen=True, kw_only=True)
class Options(TrainConfig):
    table: tuple[Literal["1", "2", "4", "5", "6", "7", "8"], ...] = ()
    """Tables of the paper (default: all)."""
    rows: tuple[str, ...] = ()
    """Only these rows, as --json names them: 7/peg, or peg where that is enough."""
    clip: str | None = None
    """Frames x height x width for which costs are computed, as 16x64x64 (default: what the model is cut for). Training
    has --frames and --size."""
    run: bool = False
    """Train the rows on --data, each with every seed, by one recipe: the options that `train` has. A call goes on where
    the last one into the same --out stopped. With --data relations: train variants of a small network on the local x
    global bench, which tests the paper's thesis."""
    seeds: int | None = None
    """Runs of each row: seeds --seed, --seed + 1, … (default: 3, with --data relations 5)"""
    tasks: tuple[Literal["local", "global", "both"], ...] = ()
    """With --data relations, only these tasks (default: all)."""
    variants: tuple[str, ...] = ()
    """With --data relations, the networks (default: LG LL GG; more: all of what the paper compares)."""
    train_clips: int = _TRAIN_CLIPS
    """With --data relations, clips that a run is trained on, each seen once."""
    test_clips: int = _TEST_CLIPS
    """With --data relations, clips that all runs are tested on."""
    wavelength: float | None = None
    """With --data relations, how fine the gesture is: pixels from stripe to stripe."""
    radius: tuple[float, float] | None = None
    """With --data relations, how small the gesture is: least and most pixels of its radius."""
    distance: tuple[float, float] | None = None
    """With --data relations, how far it is from the cue: least and most pixels."""
    noise: float | None = None
    """With --data relations, standard deviation of the noise of every pixel, in levels of 255."""
    jobs: int = 0
    """With --data relations, runs side by side (0: one for each core, or four on a GPU)."""
    model: str | None = None
    """Preset that the rows vary (default: dualformer_tiny, the paper's; with --run that of --from, else
    dualformer_nano)."""
    out: str = "runs/ablate"
    """Folder of the results: results.json, and TABLE/ROW/seed-N (TASK/VARIANT/seed-N) for each run."""
    resume: Annotated[bool, tyro.conf.Suppress, tyro.conf.Fixed] = False
    json: bool = False
    """Print one JSON object, and nothing else to standard output."""

    def __post_init__(self) -> None:
        if self.run:
            if self.clip is not None:
                raise ValueError("--clip is for costs; with --run say --frames and --size")
            if self.seeds is not None and self.seeds < 1:
                raise ValueError(f"--seeds must be at least 1, not {self.seeds}")
            super().__post_init__()
            allowed = _OF_THE_BENCH if self.data == RELATIONS else _OF_ROWS
            if said := [name for name in self._said() if name not in allowed]:
                which = "does not go with" if self.data == RELATIONS else "is for"
                raise ValueError(f"{_option(said[0])} {which} --data {RELATIONS}")
            return
        if said := [name for name in self._said() if name not in _ALWAYS]:
            raise ValueError(f"{_option(said[0])} is about training: add --run")

    def _said(self) -> list[str]:
        """Names of what is not as it is by default."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-').replace('start', 'from')}"


_ALWAYS = ("table", "rows", "clip", "run", "model", "json")
_DIALS = ("wavelength", "radius", "distance", "noise")
_ONLY_BENCH = ("tasks", "variants", "train_clips", "test_clips", "jobs", *_DIALS)
_OF_ROWS = {field.name for field in dataclasses.fields(Options)} - {*_ONLY_BENCH}
_OF_THE_BENCH = {
    *_ONLY_BENCH,
    *("run", "data", "out", "seeds", "seed", "model", "frames", "size", "batch_size", "lr", "weight_decay"),
    *("precision", "accelerator", "json"),
}


def run(options: Options) -> int:
    import json

    from dualformer.model.config import parse_clip
    from dualformer.paper.tables import compute, select

    if options.run and options.data == RELATIONS:
        return _relations(options)
    rows = select(options.table, options.rows, model=options.model)
    if (others := len(select(options.table, options.rows)) - len(rows)) and not options.json:
        print(f"left out: {others} rows about other presets than {options.model}")
    if options.run:
        return _train(options, rows)
    clip = parse_clip(options.clip) if options.clip else None
    computed = compute(rows, model=options.model, clip=clip)
    if options.json:
        print(json.dumps({"rows": [_as_json(each) for each in computed]}, indent=2, ensure_ascii=False))
    else:
        _print_costs(computed)
    return 0


def _relations(options: Options) -> int:
    import json
    import sys

    from dualformer.paper.experiment import RESULTS, Experiment, run_experiment
    from dualformer.paper.experiment_report import PICTURE, TABLE, report
    from dualformer.paper.relations import TASKS
    from dualformer.paper.variants import KINDS, VARIANTS
    from dualformer.training.loop import TrainingInterrupted
    from dualformer.training.reporter import Reporter

    given = {name: getattr(options, name) for name in ("seed", "weight_decay", "precision", "accelerator", "jobs")}
    given |= {name: value for name in ("seeds", "model", "batch_size", "lr") if (value := getattr(options, name))}
    clip = Experiment.clip
    size = options.size or clip[1]
    experiment = Experiment(
        **given,
        out=options.out,
        tasks=options.tasks or TASKS,
        variants=tuple(VARIANTS) if options.variants == ("all",) else options.variants or KINDS,
        clip=(options.frames or clip[0], size, size),
        clips=options.train_clips,
        test_clips=options.test_clips,
        scene={name: value for name in _DIALS if (value := getattr(options, name)) is not None},
    )
    reporter = Reporter(sys.stderr if options.json else sys.stdout)
    try:
        runs = run_experiment(experiment, reporter=reporter)
    except TrainingInterrupted:
        reporter.say("the same command goes on from here")
        return 130
    text = report(experiment, runs)
    if options.json:
        print(json.dumps({"runs": runs}, indent=2))
    else:
        print(text, end="")
        reporter.say(f"results: {options.out}/{RESULTS}, {options.out}/{TABLE}, {options.out}/{PICTURE}")
        reporter.say("next: the same command with more --seeds, --tasks or --variants, which keeps the runs there are")
    return 0


def _train(options: Options, rows: list[Row]) -> int:
    import json
    import sys

    from dualformer.paper.ablation_runs import RESULTS, run_rows
    from dualformer.training.loop import TrainingInterrupted
    from dualformer.training.reporter import Reporter

    seeds = options.seeds or 3
    recipe = TrainConfig(**{field.name: getattr(options, field.name) for field in dataclasses.fields(TrainConfig)})
    reporter = Reporter(sys.stderr if options.json else sys.stdout)
    try:
        measured = run_rows(rows, recipe, seeds=seeds, reporter=reporter)
    except TrainingInterrupted:
        reporter.say("the same command goes on from here")
        return 130
    if options.json:
        print(json.dumps({"rows": [_measured_as_json(each) for each in measured]}, indent=2, ensure_ascii=False))
    else:
        _print_measured(measured, seeds)
        reporter.say(f"results: {options.out}/{RESULTS}; curves and weights: {options.out}/TABLE/ROW/seed-N")
        reporter.say("next: the same command with more --seeds, which keeps the runs there are, or other --table")
    return 1 if any(each.failures for each in measured) else 0


def _print_costs(computed: list[Computed]) -> None:
    from rich.table import Table

    from dualformer.paper.tables import TABLES
    from dualformer.weights.keys import times

    console = _console()
    for number in dict.fromkeys(each.row.table for each in computed):
        each_row = [each for each in computed if each.row.table == number]
        print(f"Table {number}: {TABLES[number]}. {_networks(each_row)}")
        table = Table("row", "GFLOPs\npaper", "\nhere", "GMACs\na view", "params M\npaper", "\nhere", "top-1", "top-5")
        for each in each_row:
            published, agrees = each.row.published, each.agrees
            table.add_row(
                each.row.name,
                _figure(published.gflops),
                _figure(each.gflops if each.papers else None) + _mark(agrees.get("gflops")),
                _cost(each.cost.macs / 1e9 if each.cost else None),
                _figure(published.parameters, 1),
                _cost(each.parameters) + _mark(agrees.get("parameters")),
                _figure(published.top1, 1),
                _figure(published.top5, 1),
            )
        console.print(table)
        for each in each_row:
            if each.problem:
                print(f"  {each.row.name}: not at this clip; {each.problem}")
            if each.same_as:
                assert each.config is not None
                print(f"  {each.row.name}: the same network as {each.same_as.name} at {times(each.config.clip)}")
            if each.row.note and each.papers:
                print(f"  {each.row.name}: {each.row.note}")
        print()
    verdicts = [verdict for each in computed for verdict in each.agrees.values()]
    if verdicts:
        print(f"{sum(verdicts)} of {len(verdicts)} published costs come out to the printed digit (≠ marks the others)")
    print("GFLOPs: 10⁹ multiply-adds of a view, rounded, times the views, as the paper counts; accuracies: the paper's")
    print("next: dualformer ablate --run --table 7 --data MY_VIDEOS   (trains the rows and measures the accuracies)")


def _networks(computed: list[Computed]) -> str:
    """``dualformer_tiny, clips of 32x224x224, 4 views``."""
    from dualformer.weights.keys import times

    models = ", ".join(dict.fromkeys(each.model for each in computed))
    clips = ", ".join(dict.fromkeys(times(each.config.clip) for each in computed if each.config))
    views = computed[0].row.published.views
    return f"{models}; clips of {clips or '–'}; {views} view{'s' if views > 1 else ''}"


def _print_measured(measured: list[Measured], seeds: int) -> None:
    from rich.table import Table

    from dualformer.paper.tables import TABLES

    console = _console()
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


def _console() -> Console:
    """Where nobody's terminal sets the width, wide enough that no cell is broken."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=100)


def _notes(measured: Measured) -> list[str]:
    failures = [f"seed {seed} failed; {message}" for seed, message in measured.failures.items()]
    if measured.problem:
        return [f"left out; {measured.problem}"]
    return [*([f"the same network as {measured.same_as}"] if measured.same_as else []), *failures]


def _figure(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _cost(value: float | None) -> str:
    """Two digits after the point for the paper's networks; small ones differ in the third."""
    return _figure(value, 2 if value is None or value >= 10 else 3)


def _mark(agrees: bool | None) -> str:
    return " ≠" if agrees is False else ""


def _spread(values: tuple[float, ...]) -> str:
    from dualformer.paper.ablation_runs import mean_and_spread

    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    return f"{100 * mean:.1f}" + ("" if spread is None else f"±{100 * spread:.1f}")


def _as_json(computed: Computed) -> dict[str, Any]:
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


def _measured_as_json(measured: Measured) -> dict[str, Any]:
    from dualformer.paper.ablation_runs import mean_and_spread

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
