"""Trains rows of the paper's tables by one recipe on one data set, with several seeds.

Every run lies in its own folder, ``OUT/TABLE/ROW/seed-N``, and is an ordinary run of `train`. ``OUT/results.json`` says
what they gave. A call goes on where the last one stopped: runs that are done are not repeated, and one that was
interrupted is resumed. Rows that are the same network at the recipe's clip are trained once.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from dualformer.errors import DualFormerError
from dualformer.files import write_json
from dualformer.model.config import Config, Size3
from dualformer.model.cost import Cost, measure_cost
from dualformer.paper.paper_tables import ROWS, Row, effective
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.distributed import processes
from dualformer.training.open_source import open_source
from dualformer.training.precision import choose_precision
from dualformer.training.prepare import plan_network, preset_of
from dualformer.training.propose import propose
from dualformer.training.reporter import Reporter, read_metrics
from dualformer.training.run_folder import CONFIG
from dualformer.training.settings.network_settings import RANDOM
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import Source
from dualformer.training.train import train
from dualformer.weights.locate import SHIPPED

RESULTS = "results.json"

_MAY_DIFFER = (
    *("data", "out", "resume", "seed", "workers", "cache_gb", "shard_cache", "shard_cache_gb", "save_minutes"),
    *("keep", "tensorboard", "confusion_every"),
)
"""Settings that may differ from call to call. The data may move; another data set is noticed by its contents."""


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """A row and what its training takes."""

    row: Row
    settings: TrainConfig
    network: Config
    cost: Cost

    @property
    def clip(self) -> Size3:
        return self.network.clip

    @property
    def effective_run(self) -> tuple[Config, int | None]:
        """Network and stride: equal for rows that are the same run."""
        return effective(self.network), self.settings.stride


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """The results of a row, one entry a seed: shares from 0 to 1 on the validation videos after the last epoch.

    No epoch is chosen by its accuracy, which would flatter all rows, and those with more noise the most.
    """

    row: Row
    planned: PlannedRow | None = None
    problem: str = ""
    """Why the row cannot be trained: what it needs and the clip or the preset has not."""
    same_as: str = ""
    """Key of the row that is the same network, if its runs are the ones below."""
    steps: int = 0
    top1: tuple[float, ...] = ()
    top5: tuple[float, ...] = ()
    """Empty where there are 5 classes or fewer."""
    failures: dict[int, str] = field(default_factory=dict)
    """Messages by seed."""


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean, and the sample standard deviation where there are two values or more."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def run_rows(
    rows: Sequence[Row], recipe: TrainConfig, *, seeds: int = 3, reporter: Reporter | None = None
) -> list[RowResult]:
    """Trains every row with ``recipe`` and each of the ``seeds`` that follow ``recipe.seed``; results lie in
    ``recipe.out``.

    A row whose training fails is reported and the others go on. Errors: ``ValueError`` for settings that cannot work;
    ``DualFormerError`` where ``recipe.out`` holds results of other settings, or data that cannot be read. Ctrl-C saves
    and raises `TrainingInterrupted`.
    """
    reporter = _ReporterWithoutRepeats(reporter or Reporter())
    if seeds < 1:
        raise ValueError(f"`seeds` must be at least 1, not {seeds}")
    if not rows:
        raise ValueError("there are no rows to train")
    if processes(recipe.devices, recipe.nodes, accelerator=recipe.accelerator).world > 1:
        raise ValueError("rows are trained on one device each: leave `devices` and `nodes` out")
    if recipe.resume:
        raise ValueError("resume has no place here: finished runs are kept and others go on by themselves")
    # What is drawn for validation where the data has no split of its own follows the seed, and this must not.
    source = open_source(recipe.replace(seed=0))
    recipe = _resolve_recipe(rows, recipe, source)
    plans, problems = _plan_rows(rows, recipe, classes=len(source.classes))
    results = _ResultsFile(Path(recipe.out), recipe, data=source.fingerprint)
    recipe = results.recipe
    owners = {plan.row.key: results.owner(plan) for plan in plans}
    trained = list(dict.fromkeys(owners.values()))
    wanted = range(recipe.seed, recipe.seed + seeds)
    reporter.log(
        f"networks to train: {len(trained)}, each in {recipe.precision} with seeds {', '.join(map(str, wanted))}; "
        f"results go to {results.path}, each run to a folder beside it"
    )
    for row in rows:
        if problem := problems.get(row.key):
            reporter.log(f"{row.key}: left out; {problem}")
        elif owners[row.key] != row.key:
            reporter.log(f"{row.key}: the same network as {owners[row.key]} at these clips; trained once")
    by_key = {plan.row.key: plan for plan in plans}
    for number, key in enumerate(trained, 1):
        # The row that owns the runs may be one of an earlier call.
        plan = by_key.get(key) or next(plan for plan in plans if owners[plan.row.key] == key)
        for seed in wanted:
            if not results.has(key, seed):
                reporter.log(f"row {number} of {len(trained)}, seed {seed}: {key}")
                _train(results, key, plan.settings.replace(seed=seed, precision=recipe.precision), reporter)
    return [
        results.result_of(row, by_key.get(row.key), owners.get(row.key, ""), problems.get(row.key, ""), wanted)
        for row in rows
    ]


def _resolve_recipe(rows: Sequence[Row], recipe: TrainConfig, source: Source) -> TrainConfig:
    """Returns ``recipe`` with model, start, clip, flip and steps filled in, whether given or left to the defaults.

    Rows start from random weights, which suit one network as well as another, and have the paper's 30 epochs. They vary
    nano, where neither they nor weights of the user's say otherwise.
    """
    own = rows[0].model if all(row.model for row in rows) else None
    nano = "dualformer_nano" if recipe.start in (None, RANDOM, *SHIPPED) else None
    recipe = recipe.replace(model=recipe.model or own or nano, start=recipe.start or RANDOM, epochs=recipe.epochs or 30)
    recipe, _ = propose(recipe, source)
    network, preprocessing = plan_network(recipe, classes=len(source.classes))
    return recipe.replace(
        model=recipe.model or preset_of(network),
        frames=preprocessing.frames,
        stride=preprocessing.stride,
        fps=preprocessing.fps,
        size=preprocessing.crop,
        sampling=preprocessing.sampling,
        crop_mode=preprocessing.crop_mode,
        flip="off" if recipe.overfit else recipe.flip_for(source.classes),
    )


def _plan_rows(rows: Sequence[Row], recipe: TrainConfig, *, classes: int) -> tuple[list[PlannedRow], dict[str, str]]:
    """Returns the rows that can be trained, and by key why the others cannot."""
    plans: list[PlannedRow] = []
    problems: dict[str, str] = {}
    all_have_presets = all(row.model for row in rows)
    for row in rows:
        if row.model and not all_have_presets and row.model != recipe.model:
            problems[row.key] = f"it is about {row.model}, and the recipe about {recipe.model}"
            continue
        settings = recipe.replace(model=row.model or recipe.model)
        assert settings.frames is not None and settings.size is not None and settings.stride is not None
        try:
            if row.half_frames:
                frames = row.halved((settings.frames, settings.size, settings.size))[0]
                settings = settings.replace(frames=frames, stride=2 * settings.stride)
            network, _ = plan_network(settings, classes=classes, variant=row.change)
        except ValueError as error:
            problems[row.key] = str(error)
            continue
        plans.append(PlannedRow(row=row, settings=settings, network=network, cost=measure_cost(network)))
    return plans, problems


def _train(results: _ResultsFile, key: str, settings: TrainConfig, reporter: Reporter) -> None:
    out = results.path.parent / key / f"seed-{settings.seed}"
    network = results.network(key)
    goes_on = (out / CONFIG).is_file() and has_checkpoint(out)
    results.write()
    try:
        result = train(settings.replace(out=str(out), resume=goes_on), reporter=reporter, variant=lambda _: network)
    except RuntimeError as error:  # of this row alone: no memory for its windows, a loss that is infinite
        message = " ".join(str(error).split()) or type(error).__name__
        reporter.log(f"{key}, seed {settings.seed}: failed; {message}")
        results.add_failure(key, settings.seed, message)
        return
    except ValueError:  # of the recipe, and every row would meet it: it must not bind the next call
        results.remove_if_empty()
        raise
    last = read_metrics(out)[-1]
    figures = {"top1": last["val_top1"], "top5": last.get("val_top5"), "steps": last["step"]}
    results.add(key, settings.seed, figures | {"best_top1": result.best_top1, "best_epoch": result.best_epoch})


class _ReporterWithoutRepeats(Reporter):
    """Reports a line that is the same for every run only once."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(reporter.stream)
        self._reporter = reporter
        self._reported: set[str] = set()

    def log(self, line: str) -> None:
        if line not in self._reported:
            self._reported.add(line)
            self._reporter.log(line)

    def progress(self, line: str, *, last: bool = False) -> None:
        self._reporter.progress(line, last=last)


class _ResultsFile:
    """``results.json``: the recipe, and for every row its network, its cost and what each seed gave.

    It is written after every run, in an order of its own: how often a call was interrupted does not show in it.
    """

    def __init__(self, out: Path, recipe: TrainConfig, *, data: str) -> None:
        self.path = out / RESULTS
        self.rows: dict[str, dict[str, Any]] = {}
        earlier: dict[str, Any] = {}
        if self.path.is_file():
            try:
                content = json.loads(self.path.read_text(encoding="utf-8"))
                earlier, self.rows = content["settings"], content["rows"]
            except (ValueError, TypeError, KeyError) as error:
                raise DualFormerError(f"{self.path}: not the results of ablations; choose another `out`") from error
        precision = recipe.precision
        if precision == "auto":
            # Measured once, for all rows: two number formats would be two recipes.
            device = Fabric(accelerator=recipe.accelerator, devices=1).device
            precision = earlier["precision"] if earlier else choose_precision("auto", device).name
        self.recipe = recipe.replace(precision=precision)
        asked = {name: value for name, value in dataclasses.asdict(self.recipe).items() if name not in _MAY_DIFFER}
        self.settings = {**asked, "data": data}
        if earlier and (changed := [name for name in self.settings if earlier.get(name) != self.settings[name]]):
            changes = ", ".join(
                name if name == "data" else f"`{name}` ({earlier.get(name)}, not {self.settings[name]})"
                for name in changed
            )
            raise DualFormerError(
                f"{self.path}: these results are of another {changes}; all rows have one recipe: ask for the same, or "
                "choose another `out`"
            )

    def network(self, key: str) -> Config:
        return Config.from_dict(self.rows[key]["network"])

    def owner(self, plan: PlannedRow) -> str:
        """Returns the key of the row whose runs these are: the first with this network, in this call or an earlier one.

        Errors: ``DualFormerError`` if the row has results of another network.
        """
        own = self.rows.get(plan.row.key, {})
        if "network" in own and self.network(plan.row.key) != plan.network:
            raise DualFormerError(f"{self.path}: {plan.row.key} was trained as another network; choose another `out`")
        for key, entry in self.rows.items():
            if "network" in entry and (effective(self.network(key)), entry["stride"]) == plan.effective_run:
                if key != plan.row.key:
                    self.rows[plan.row.key] = {"same_as": key}
                return key
        published = plan.row.published
        self.rows[plan.row.key] = {
            "published": {"top1": published.top1, "top5": published.top5},
            "gmacs": plan.cost.macs / 1e9,
            "parameters": plan.cost.parameters - plan.cost.classifier,
            "stride": plan.settings.stride,
            "network": plan.network.to_dict(),
            "seeds": {},
            "failed": {},
        }
        return plan.row.key

    def has(self, key: str, seed: int) -> bool:
        return str(seed) in self.rows[key]["seeds"]

    def add(self, key: str, seed: int, result: dict[str, Any]) -> None:
        entry = self.rows[key]
        entry["seeds"][str(seed)] = result
        entry["failed"].pop(str(seed), None)
        self.write()

    def add_failure(self, key: str, seed: int, message: str) -> None:
        self.rows[key]["failed"][str(seed)] = message
        self.write()

    def remove_if_empty(self) -> None:
        """Removes the file if it has no results yet."""
        if not any(entry.get("seeds") or entry.get("failed") for entry in self.rows.values()):
            self.path.unlink(missing_ok=True)

    def write(self) -> None:
        order = {row.key: number for number, row in enumerate(ROWS)}
        rows = dict(sorted(self.rows.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))
        for entry in rows.values():
            if "seeds" in entry:
                entry["seeds"] = dict(sorted(entry["seeds"].items(), key=lambda item: int(item[0])))
                entry |= {name: _summary(entry["seeds"], name) for name in ("top1", "top5")}
        write_json(self.path, {"settings": self.settings, "rows": rows}, ensure_ascii=True)

    def result_of(
        self, row: Row, plan: PlannedRow | None, owner: str, problem: str, wanted: Sequence[int]
    ) -> RowResult:
        """Returns the results of ``row`` for the ``wanted`` seeds."""
        if plan is None:
            return RowResult(row=row, problem=problem)
        entry = self.rows[owner]
        runs = [entry["seeds"][str(seed)] for seed in wanted if str(seed) in entry["seeds"]]
        return RowResult(
            row=row,
            planned=plan,
            same_as="" if owner == row.key else owner,
            steps=max((run["steps"] for run in runs), default=0),
            top1=tuple(run["top1"] for run in runs),
            top5=tuple(run["top5"] for run in runs if run["top5"] is not None),
            failures={seed: entry["failed"][str(seed)] for seed in wanted if str(seed) in entry["failed"]},
        )


def _summary(seeds: dict[str, dict[str, Any]], name: str) -> dict[str, Any] | None:
    values = [run[name] for run in seeds.values() if run[name] is not None]
    if not values:
        return None
    mean, spread = mean_and_spread(values)
    return {"mean": mean, "spread": spread, "seeds": len(values)}
