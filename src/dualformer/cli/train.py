"""``dualformer train``: a data set, or a run to resume, to weights; by a recipe, or by options alone."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dualformer.cli.option_names import OptionNames
from dualformer.cli.progress import table_console
from dualformer.cli.shared_options import only
from dualformer.plurals import counted
from dualformer.training.recipes import Recipe, find_recipe
from dualformer.training.settings.train_config import TrainConfig

if TYPE_CHECKING:
    from dualformer.training.dry_run import Plan
    from dualformer.training.reporter import Reporter

_USAGE = (
    "dualformer train [RECIPE] --data DATA [options]. RECIPE is a name that --recipes lists, or a JSON file of "
    "settings: these become the defaults below, and every one can be changed by its option."
)


HELP = {
    "what most need first": (
        *("data", "val_on", "out", "resume", "start", "flip", "group", "folds", "epochs", "dry_run"),
    ),
    "data": (
        *(
            "train_on",
            "val_fraction",
            "fold",
            "frames_per_second",
            "manifest",
            "multi_label",
            "background",
            "background_share",
            "class_weights",
            "workers",
            "cache_gb",
            "overfit",
        ),
        *("rendered_clips", "motions", "shard_cache", "shard_cache_gb", "shuffle"),
    ),
    "start and network": (
        *("model", "head", "layout", "freeze", "freeze_stages", "backbone_lr", "layer_decay", "dropout", "drop_path"),
        "grad_checkpointing",
    ),
    "clips": ("frames", "stride", "fps", "sampling", "size", "crop_mode"),
    "length and steps": (
        *("batch_size", "accumulate", "lr", "scale_lr", "weight_decay", "warmup_epochs", "clip_grad", "ema", "seed"),
        *("max_steps", "patience"),
    ),
    "augmentation and mixing": (
        *(
            "flip_map",
            "min_area",
            "scale_jitter",
            "colour_jitter",
            "randaugment",
            "randaugment_until",
            "erasing",
            "mixup",
            "cutmix",
        ),
        *("mix_prob", "switch_prob", "label_smoothing", "repeats"),
    ),
    "teacher": (
        *("teacher", "teacher_scores", "distill", "distill_weight", "temperature", "teacher_topk", "teacher_rest"),
    ),
    "machine": ("precision", "accelerator", "devices", "nodes", "strategy", "compile"),
    "output and validation": (
        *(
            "select",
            "val_views",
            "val_every",
            "save_minutes",
            "keep",
            "tensorboard",
            "confusion_every",
            "licence",
            "recipes",
        ),
        "json",
    ),
}
"""The groups of `dualformer train --help`: titles, and fields of ``Options``."""


@dataclass(frozen=True, kw_only=True)
class Options(TrainConfig):
    recipes: bool = False
    """List the recipes and stop."""
    dry_run: bool = False
    """Print what would be done: settings, data, steps, learning rates, and how long it takes, measured with a few
    batches. Nothing is written."""
    json: bool = False
    """Print the result as one JSON object at the end, and nothing else to standard output."""
    recipe: Annotated[str, tyro.conf.Suppress, tyro.conf.Fixed] = ""

    def __post_init__(self) -> None:
        if self.data or self.resume or not (self.recipes or self.dry_run):
            super().__post_init__()
        else:  # nothing is read, but numbers must make sense all the same
            TrainConfig(**only(TrainConfig, self, data="none"))


def defaults(arguments: list[str]) -> tuple[Options | None, str, list[str]]:
    """Returns the recipe that the first of ``arguments`` names as options, its text, and the other arguments."""
    if not arguments or arguments[0].startswith("-"):
        return None, _USAGE, arguments
    name, *rest = arguments
    if "--resume" in rest:
        raise ValueError(f"--resume goes on with the settings of the run in --out: leave {name} out")
    found = find_recipe(name)
    settings = found.settings_from(_start(rest)) if isinstance(found, Recipe) else found
    unplanned = "--data" not in rest and "--dry-run" in rest
    if isinstance(found, Recipe) and not unplanned and not {"-h", "--help"} & set(rest):
        found.check_given([_field(argument) for argument in rest if argument.startswith("--")])
    # tyro asks for what is missing. A dry run does without data: then its default, which was said anyway, is True.
    missing = {"data": "", "dry_run": True} if unplanned else {"data": tyro.MISSING}
    # A blank line before each heading, or tyro makes one paragraph of them all.
    text = re.sub(r"\n(?=\S)", "\n\n", found.text) if isinstance(found, Recipe) else f"Settings of {name}."
    return Options(**(missing | settings), recipe=name), text, rest


def run(options: Options) -> int:
    if options.recipes:
        _list_recipes(as_json=options.json)
        return 0
    if options.data or options.resume:
        options.check_files()  # before what takes long to import

    from dualformer.training.distributed import is_first
    from dualformer.training.reporter import Reporter, SilentReporter

    # With several devices each of their processes runs this; one speaks.
    reporter = Reporter(sys.stderr if options.json else sys.stdout) if is_first() else SilentReporter()
    if options.dry_run:
        return _plan(options, reporter)
    result = _train(options, reporter)
    if result is None:
        return 130
    if options.json and is_first():
        print(json.dumps(result, default=str))
    return 0


def _train(options: Options, reporter: Reporter) -> dict[str, Any] | None:
    """Returns the result, None of a run that was stopped."""
    import torch

    from dualformer.errors import DualFormerError
    from dualformer.training.distributed import processes
    from dualformer.training.folds import TABLE, cross_validate, is_cross_validation
    from dualformer.training.run_folder import CONFIG, summarize
    from dualformer.training.signals import TrainingInterrupted
    from dualformer.training.train import train

    recipe = _recipe(options)
    if recipe and options.batch_size and options.scale_lr == "off":
        world = processes(options.devices, options.nodes, accelerator=options.accelerator).world
        if note := recipe.note_on_batch(options.batch_size * options.accumulate * world):
            reporter.log(f"note: {note}")
    config = TrainConfig(**only(TrainConfig, options))
    try:
        if is_cross_validation(config):
            found = cross_validate(config, reporter=reporter)
            for line in found.summary():
                reporter.log(line)
            reporter.log(f"table: {found.out / TABLE}; for one recogniser from all videos, train without --folds")
            judge = shlex.join(["dualformer", "evaluate", str(found.out)])
            reporter.log(f"next: {judge}   (confusion matrix and predictions, of weights that have not seen the video)")
            return found.to_dict()
        result = train(config, reporter=reporter)
    except KeyboardInterrupt as stop:
        if isinstance(stop, TrainingInterrupted) or (Path(options.out) / CONFIG).is_file():
            reporter.log(f"go on with: {shlex.join(['dualformer', 'train', '--resume', '--out', options.out])}")
        else:
            reporter.log("interrupted before there was anything to go on with: start it again by the same command")
        return None
    except torch.cuda.OutOfMemoryError as error:
        raise DualFormerError(
            f"{options.out}: the GPU's memory is too small for the batch; halve --batch-size and double --accumulate, "
            "which keeps the clips of a step, or try --grad-checkpointing, and start anew with another --out"
        ) from error
    for line in summarize(result, recipe=recipe):
        reporter.log(line)
    return asdict(result)


def _plan(options: Options, reporter: Reporter) -> int:
    from dualformer.training.checkpoint import has_begun
    from dualformer.training.dry_run import dry_run
    from dualformer.training.folds import is_cross_validation
    from dualformer.training.reporter import clock

    standard = only(TrainConfig, Options(data="none"), data="")
    found = find_recipe(options.recipe) if options.recipe else {}
    recipe = found if isinstance(found, Recipe) else None
    by_recipe = found.settings_from(options.start) if isinstance(found, Recipe) else found
    said = only(TrainConfig, options)
    plan, folds = None, 0
    if options.data or options.resume:
        reporter.log("measuring with a few batches, which takes up to a minute; nothing is written")
        config = TrainConfig(**said)
        folds = config.folds if is_cross_validation(config) else 0
        if folds:
            reporter.log(f"fold 1 of {folds}; the others are like it")
        plan = dry_run(config.replace(fold=1) if folds else config)
    settings = only(TrainConfig, plan.settings) | {"fold": options.fold} if plan else said
    origin = _origins(settings, said, by_recipe, standard)
    if options.json:
        content = ({} if plan is None else asdict(plan)) | {"settings": settings}
        content["differs"] = {name: who for name, who in origin.items() if who}
        if plan is not None:
            content["classes"] = len(plan.counts) if plan.counts else None
        print(json.dumps(content, default=str))
        return 0
    _print_settings(settings, origin, names=OptionNames(Options), recipe=options.recipe)
    if plan is None:
        print("add --data to see videos, steps, learning rates and the time that they take")
        return 0
    _print_plan(plan, note=recipe.note_on_batch(plan.clips_per_step) if recipe else None)
    if folds:
        reporter.log(f"all {folds} folds: {clock(folds * plan.seconds)}")
    held = f", with another --out than {options.out}, which holds a run" if has_begun(Path(options.out)) else ""
    reporter.log(f"next: the same command without --dry-run{held}")
    return 0


def _origins(
    closed: Mapping[str, Any], said: Mapping[str, Any], recipe: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, str]:
    """Returns who decided each setting: the command line, the recipe, ``decided`` by the program, or nobody (empty)."""
    found: dict[str, str] = {}
    for name, value in closed.items():
        if value != said.get(name):
            found[name] = "decided"
        elif value != recipe.get(name, defaults[name]):
            found[name] = "command line"
        else:
            found[name] = "recipe" if value != defaults[name] else ""
    return found


def _print_settings(settings: Mapping[str, Any], origin: Mapping[str, str], *, names: OptionNames, recipe: str) -> None:
    """Prints a table of all settings and of who decided them; ``recipe`` is the name of the recipe, if there is one."""
    from rich.table import Table

    table = Table("", "option", "value", "by")
    for name, value in settings.items():
        who = {"recipe": recipe}.get(origin[name], origin[name])
        table.add_row("*" if origin[name] else "", names[name], _value(value), who)
    table_console().print(table, markup=False)
    print("* differs from the default; decided: by the program, from the data and the starting weights")


def _print_plan(plan: Plan, *, note: str | None) -> None:
    from rich.table import Table

    for line in plan.lines:
        print(line)
    if note:
        print(f"note: {note}")
    console = table_console()
    devices = f" on each of {plan.devices} devices" if plan.devices > 1 else ""
    accumulate = f" x {plan.settings.accumulate} of --accumulate" if plan.settings.accumulate > 1 else ""
    print(
        f"steps: {plan.steps}, {plan.steps_per_epoch} an epoch in {counted(plan.batches, 'batch')}; a step takes "
        f"{counted(plan.clips_per_step, 'clip')} ({plan.settings.batch_size}{devices}{accumulate})"
    )
    print(f"schedule: {plan.course}")
    table = Table("of the run", "step", "learning rate")
    for tenth, (step, rate) in enumerate(plan.rates):
        table.add_row(f"{10 * tenth} %", str(step), f"{rate:.3g}")
    console.print(table)
    table = Table("parameters", "number", "peak learning rate", "weight decay")
    for group in plan.groups:
        table.add_row(group.name, f"{group.parameters:,}", f"{group.lr:.3g}", f"{group.weight_decay:g}")
    console.print(table)
    _print_time(plan)


def _print_time(plan: Plan) -> None:
    from dualformer.training.reporter import clock

    timing, size, workers = plan.timing, plan.settings.batch_size, plan.settings.workers
    assert size
    scaled = f", reckoned from {timing.clips}" if timing.clips != size else ""
    reading = f"{workers} worker{'s' if workers != 1 else ''}" if workers else "no worker beside"
    print(
        f"measured for a batch of {size}: {timing.read:.2f} s to read it ({reading}), {timing.step:.2f} s for a "
        f"training step, {timing.judge:.2f} s to judge as many{scaled}"
    )
    if timing.memory is not None:
        of_how_many = f" with {timing.clips} of {size} clips" if timing.clips != size else ""
        print(f"memory: at most {timing.memory / 2**30:.2f} GiB of the GPU's{of_how_many}")
    epochs = plan.settings.epochs
    assert epochs
    rate = plan.steps * plan.clips_per_step / max(1e-9, plan.seconds)
    slower = "reading" if timing.read > timing.step else "computing"
    print(
        f"estimated time: {clock(plan.seconds)} in all, {clock(plan.seconds / epochs)} an epoch with validation "
        "and without writing weights, "
        f"{rate:.3g} clips/s; {slower} takes longer"
        + (f"; as if {plan.devices} devices were each as fast as this one" if plan.devices > 1 else "")
    )


def _value(value: Any) -> str:
    words: dict[Any, str] = {None: "–", "": "–"}
    if isinstance(value, bool):
        return "yes" if value else "no"
    return words.get(value, f"{value:g}" if isinstance(value, float) else str(value))


def _list_recipes(*, as_json: bool) -> None:
    from rich.table import Table

    from dualformer.training.recipes import recipes

    if as_json:
        fields = ("name", "data", "expected", "views", "text")
        print(json.dumps([{f: getattr(r, f) for f in fields} | {"settings": dict(r.settings)} for r in recipes()]))
        return
    table = Table("recipe", "data", "expected, %", "test views", "epochs", "batch")
    for each in recipes():
        table.add_row(*(each.name, each.data, each.expected, each.views, str(each.settings["epochs"]), str(each.batch)))
    table_console().print(table)
    print("expected: top-1, or top-1 / top-5, as the paper states it; a dash where nobody has measured it")
    print("more: dualformer train RECIPE --help   (data, hardware, time, command, and every setting)")


def _recipe(options: Options) -> Recipe | None:
    found = find_recipe(options.recipe) if options.recipe else None
    return found if isinstance(found, Recipe) else None


def _field(option: str) -> str:
    name = option.partition("=")[0].removeprefix("--").replace("-", "_")
    return "start" if name == "from" else name


def _start(arguments: list[str]) -> str | None:
    """Returns what --from says: of a recipe, random weights change more than the start."""
    for argument, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--from":
            return value
        if argument.startswith("--from="):
            return argument.removeprefix("--from=")
    return None
