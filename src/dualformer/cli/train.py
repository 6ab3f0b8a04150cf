"""``dualformer train``: a data set, or a run to resume, to weights; by a recipe, or by options alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dualformer.cli.option_names import OptionNames
from dualformer.cli.shared_options import only
from dualformer.training.recipes import Recipe, find_recipe
from dualformer.training.settings.train_config import TrainConfig

if TYPE_CHECKING:
    from dualformer.training.reporter import Reporter

_USAGE = (
    "dualformer train [RECIPE] --data DATA [options]. RECIPE is a name that --recipes lists, or a JSON file of "
    "settings: these become the defaults below, and every one can be changed by its option."
)


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
    """The recipe that the first of ``arguments`` names as options, what it says, and the other arguments."""
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
    import json
    import sys

    from dualformer.training.distributed import is_first
    from dualformer.training.reporter import Reporter, SilentReporter

    if options.recipes:
        _list_recipes(as_json=options.json)
        return 0
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
    """The result, None of a run that was stopped."""
    import dataclasses

    import torch

    from dualformer.errors import DualFormerError
    from dualformer.training.distributed import processes
    from dualformer.training.run_folder import summarize
    from dualformer.training.signals import TrainingInterrupted
    from dualformer.training.train import train

    recipe = _recipe(options)
    if recipe and options.batch_size and options.scale_lr == "off":
        world = processes(options.devices, options.nodes, accelerator=options.accelerator).world
        if note := recipe.note_on_batch(options.batch_size * options.accumulate * world):
            reporter.log(f"note: {note}")
    try:
        result = train(TrainConfig(**only(TrainConfig, options)), reporter=reporter)
    except TrainingInterrupted:
        reporter.log(f"go on with: dualformer train --resume --out {options.out}")
        return None
    except torch.cuda.OutOfMemoryError as error:
        raise DualFormerError(
            f"{options.out}: the GPU's memory is too small for the batch; halve --batch-size and double --accumulate, "
            "which keeps the clips of a step, or try --grad-checkpointing, and start anew with another --out"
        ) from error
    for line in summarize(result, recipe=recipe):
        reporter.log(line)
    return dataclasses.asdict(result)


def _plan(options: Options, reporter: Reporter) -> int:
    import json

    from dualformer.cli.dry_run_tables import origins, plan_as_json, print_plan, print_settings
    from dualformer.training.dry_run import dry_run

    standard = only(TrainConfig, Options(data="none"), data="")
    found = find_recipe(options.recipe) if options.recipe else {}
    recipe = found if isinstance(found, Recipe) else None
    by_recipe = found.settings_from(options.start) if isinstance(found, Recipe) else found
    said = only(TrainConfig, options)
    if not options.data and not options.resume:
        origin = origins(said, said, by_recipe, standard)
        if options.json:
            print(json.dumps({"settings": said, "differs": {name: who for name, who in origin.items() if who}}))
        else:
            print_settings(said, origin, names=OptionNames(Options), recipe=options.recipe)
            print("add --data to see videos, steps, learning rates and the time that they take")
        return 0
    reporter.log("measuring with a few batches, which takes up to a minute; nothing is written")
    plan = dry_run(TrainConfig(**said))
    origin = origins(only(TrainConfig, plan.settings), said, by_recipe, standard)
    if options.json:
        print(json.dumps(plan_as_json(plan, origin), default=str))
        return 0
    print_settings(only(TrainConfig, plan.settings), origin, names=OptionNames(Options), recipe=options.recipe)
    print_plan(plan, note=recipe.note_on_batch(plan.clips_per_step) if recipe else None)
    reporter.log("next: the same command without --dry-run")
    return 0


def _list_recipes(*, as_json: bool) -> None:
    import json

    from rich.table import Table

    from dualformer.cli.progress import table_console
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
    """What --from says: of a recipe, random weights change more than the start."""
    for argument, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--from":
            return value
        if argument.startswith("--from="):
            return argument.removeprefix("--from=")
    return None
