"""How a run that is only planned is shown: as text, or as one JSON object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dualformer.cli.option_names import OptionNames
from dualformer.cli.progress import table_console

if TYPE_CHECKING:
    from dualformer.training.dry_run import Plan


def origins(
    closed: Mapping[str, Any], said: Mapping[str, Any], recipe: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, str]:
    """Who decided each setting: the command line, the recipe, the program by what it found, or nobody (empty)."""
    found: dict[str, str] = {}
    for name, value in closed.items():
        if value != said.get(name):
            found[name] = "decided"
        elif value != recipe.get(name, defaults[name]):
            found[name] = "command line"
        else:
            found[name] = "recipe" if value != defaults[name] else ""
    return found


def plan_as_json(plan: Plan, origin: Mapping[str, str]) -> dict[str, Any]:
    content = dataclasses.asdict(plan)
    content["differs"] = {name: who for name, who in origin.items() if who}
    content["classes"] = len(plan.counts) if plan.counts else None
    return content


def print_settings(settings: Mapping[str, Any], origin: Mapping[str, str], *, names: OptionNames, recipe: str) -> None:
    """Prints a table of all settings and of who decided them; ``recipe`` is the name of the recipe, if there is one."""
    from rich.table import Table

    table = Table("", "option", "value", "by")
    for name, value in settings.items():
        who = {"recipe": recipe}.get(origin[name], origin[name])
        table.add_row("*" if origin[name] else "", names[name], _value(value), who)
    table_console().print(table, markup=False)
    print("* differs from the default; decided: by the program, from the data and the starting weights")


def print_plan(plan: Plan, *, note: str | None) -> None:
    from rich.table import Table

    for line in plan.lines:
        print(line)
    if note:
        print(f"note: {note}")
    console = table_console()
    devices = f" on each of {plan.devices} devices" if plan.devices > 1 else ""
    accumulate = f" x {plan.settings.accumulate} of --accumulate" if plan.settings.accumulate > 1 else ""
    print(
        f"steps: {plan.steps}, {plan.steps_per_epoch} an epoch in {plan.batches} batches; a step takes "
        f"{plan.clips_per_step} clips ({plan.settings.batch_size}{devices}{accumulate})"
    )
    print(f"schedule: {plan.warmup} steps of warm-up, then a cosine to 0")
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
