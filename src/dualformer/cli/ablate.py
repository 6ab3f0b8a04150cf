"""``dualformer ablate``: the paper's tables of variants, published beside computed, and trained on one's own data."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dualformer.cli.progress import table_console
from dualformer.cli.shared_options import Json, arguments, only
from dualformer.plurals import counted
from dualformer.text_encoding import json_text
from dualformer.training.settings.train_config import TrainConfig

if TYPE_CHECKING:
    from dualformer.paper.paper_tables import Row
    from dualformer.training.reporter import Reporter

PARAMETERS = {"clips": "train_clips"}
"""What the experiment calls otherwise."""

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
    json: Json = False

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
                raise ValueError(f"`{said[0]}` {which} --data {RELATIONS}")
            return
        if said := [name for name in self._said() if name not in _ALWAYS]:
            raise ValueError(f"`{said[0]}` is about training: add --run")

    def _said(self) -> list[str]:
        """Names of what is not as it is by default."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]


_ALWAYS = ("table", "rows", "clip", "run", "model", "json")
_SCENE = ("wavelength", "radius", "distance", "noise")
_ONLY_BENCH = ("tasks", "variants", "train_clips", "test_clips", "jobs", *_SCENE)
_OF_ROWS = {field.name for field in dataclasses.fields(Options)} - {*_ONLY_BENCH}
_OF_THE_BENCH = {
    *_ONLY_BENCH,
    *("run", "data", "out", "seeds", "seed", "model", "frames", "size", "batch_size", "lr", "weight_decay"),
    *("precision", "accelerator", "json"),
}


def run(options: Options) -> int:
    from dualformer.model.config import parse_clip
    from dualformer.paper.ablation_tables import costs_as_json, print_costs
    from dualformer.paper.paper_tables import compute_costs, select

    if options.run and options.data == RELATIONS:
        return _until_interrupted(_relations, options)
    rows = select(options.table, options.rows, model=options.model)
    if (others := len(select(options.table, options.rows)) - len(rows)) and not options.json:
        print(f"left out: {counted(others, 'row')} about other presets than {options.model}")
    if options.run:
        return _until_interrupted(_train, options, rows)
    clip = parse_clip(options.clip) if options.clip else None
    computed = compute_costs(rows, model=options.model, clip=clip)
    if options.json:
        print(json_text({"rows": [costs_as_json(each) for each in computed]}, indent=2, stream=sys.stdout))
    else:
        print_costs(computed, table_console(100))
    return 0


def _until_interrupted(work: Callable[..., int], options: Options, *more: Any) -> int:
    from dualformer.training.reporter import Reporter
    from dualformer.training.signals import TrainingInterrupted

    reporter = Reporter(sys.stderr if options.json else sys.stdout)
    try:
        return work(options, *more, reporter=reporter)
    except TrainingInterrupted:
        reporter.log("the same command goes on from here")
        return 130


def _relations(options: Options, *, reporter: Reporter) -> int:
    from dualformer.paper.experiment import RESULTS, Experiment
    from dualformer.paper.experiment_report import PICTURE, TABLE, report
    from dualformer.paper.relation_clips import TASKS
    from dualformer.paper.run_experiment import run_experiment
    from dualformer.paper.scaled_variants import ATTENTION_KINDS, VARIANTS

    given = arguments(options, "seed", "weight_decay", "precision", "accelerator", "jobs", "test_clips", "out")
    given |= {name: value for name in ("seeds", "model", "batch_size", "lr") if (value := getattr(options, name))}
    clip = Experiment.clip
    size = options.size or clip[1]
    experiment = Experiment(
        **given,
        tasks=options.tasks or TASKS,
        variants=tuple(VARIANTS) if options.variants == ("all",) else options.variants or ATTENTION_KINDS,
        clip=(options.frames or clip[0], size, size),
        clips=options.train_clips,
        scene={name: value for name in _SCENE if (value := getattr(options, name)) is not None},
    )
    runs = run_experiment(experiment, reporter=reporter)
    text = report(experiment, runs)
    if options.json:
        print(json.dumps({"runs": runs}, indent=2))
    else:
        print(text, end="")
        reporter.log(f"results: {options.out}/{RESULTS}, {options.out}/{TABLE}, {options.out}/{PICTURE}")
        reporter.log("next: the same command with more --seeds, --tasks or --variants, which keeps the runs there are")
    return 0


def _train(options: Options, rows: list[Row], *, reporter: Reporter) -> int:
    from dualformer.paper.ablation_runs import RESULTS, run_rows
    from dualformer.paper.ablation_tables import measured_as_json, print_measured

    seeds = options.seeds or 3
    measured = run_rows(rows, TrainConfig(**only(TrainConfig, options)), seeds=seeds, reporter=reporter)
    if options.json:
        print(json_text({"rows": [measured_as_json(each) for each in measured]}, indent=2, stream=sys.stdout))
    else:
        print_measured(measured, table_console(100), seeds=seeds)
        reporter.log(f"results: {options.out}/{RESULTS}; curves and weights: {options.out}/TABLE/ROW/seed-N")
        reporter.log("next: the same command with more --seeds, which keeps the runs there are, or other --table")
    return 1 if any(each.failures for each in measured) else 0
