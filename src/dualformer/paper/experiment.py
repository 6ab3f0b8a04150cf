"""The experiment on the paper's thesis: variants of one small network, trained alike on the local × global bench.

Every run is one variant, one task and one seed, in a process of its own and in a folder of its own,
``OUT/TASK/VARIANT/seed-N``. It is an ordinary run of the training loop, so that one that was killed goes on where it
was; one that is done leaves its ``result.json`` and its curve, and is not repeated. Runs with the same seed see the
same clips in the same order, whatever the variant, and all are tested on the same clips.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from dualformer.errors import DualFormerError
from dualformer.files import write_json
from dualformer.model.config import Config, Size3
from dualformer.paper.relations import TASKS, Relations, Task
from dualformer.paper.variants import KINDS, SCALED_CLIP, VARIANTS, scaled_config
from dualformer.training.loop import TrainingInterrupted
from dualformer.training.precision import choose_precision
from dualformer.training.reporter import Reporter, clock

RESULT = "result.json"
RESULTS = "results.json"
ALIVE = "alive.json"
_LOG = "log.txt"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What all runs have in common, and which there are."""

    out: str = "runs/relations"
    tasks: tuple[Task, ...] = TASKS
    variants: tuple[str, ...] = KINDS
    """Of `model.scaled.VARIANTS`."""
    seeds: int = 5
    seed: int = 0
    """The first."""
    model: str = "dualformer_nano"
    clip: Size3 = SCALED_CLIP
    clips: int = 3200
    """Clips that a run is trained on, each once."""
    batch_size: int = 8
    lr: float = 1.5e-3
    weight_decay: float = 0.02
    truth: float = 1.0
    """What the renderer's truth of what drifts where counts for in the loss, beside the class."""
    test_clips: int = 1000
    jobs: int = 0
    """Runs side by side (0: one for each core, or four on a GPU)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    scene: dict[str, Any] = field(default_factory=dict)
    """Settings of `Relations` that differ from its own."""

    EPOCHS = 8
    """Parts of a run after which a checkpoint is written and the curve gets a point."""
    VAL_CLIPS = 128
    """At most, for the points of the curve."""

    def __post_init__(self) -> None:
        for name in ("seeds", "batch_size", "test_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if self.clips < self.EPOCHS * self.batch_size:
            raise ValueError(f"--train-clips must be at least {self.EPOCHS * self.batch_size}, {self.EPOCHS} batches")
        if self.jobs < 0 or self.seed < 0:
            raise ValueError("--jobs and --seed must be 0 or more")
        if unknown := [name for name in self.variants if name not in VARIANTS]:
            raise ValueError(f"there is no variant {unknown[0]}; there are {', '.join(VARIANTS)}")
        if not self.variants or not self.tasks:
            raise ValueError("name at least one variant and one task")
        for task in self.tasks:
            self.relations(task)

    def relations(self, task: Task) -> Relations:
        return Relations(task=task, size=self.clip[1], frames=self.clip[0], **self.scene)

    @property
    def train_length(self) -> int:
        """Clips that a run is trained on: `clips`, less what makes no whole batches in every part."""
        batches = self.clips // self.EPOCHS // self.batch_size
        return batches * self.batch_size * self.EPOCHS

    def network(self, variant: str) -> Config:
        return VARIANTS[variant](scaled_config(self.model, clip=self.clip))

    def replace(self, **changes: Any) -> Experiment:
        return dataclasses.replace(self, **changes)

    def binding(self) -> dict[str, Any]:
        """What must be the same for all runs that lie in one folder."""
        free = ("out", "tasks", "variants", "seeds", "seed", "jobs", "accelerator")
        plain = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: value for name, value in plain.items() if name not in free}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training."""

    task: Task
    variant: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.task}/{self.variant}/seed-{self.seed}"


def runs_of(experiment: Experiment) -> list[Run]:
    """Seed by seed, so that an experiment that is stopped early has something of everything."""
    return [
        Run(task=task, variant=variant, seed=seed)
        for seed in range(experiment.seed, experiment.seed + experiment.seeds)
        for task in experiment.tasks
        for variant in experiment.variants
    ]


def run_experiment(experiment: Experiment, *, reporter: Reporter | None = None) -> list[dict[str, Any]]:
    """Does the runs that are not done yet, and returns what all runs in the folder gave (`RESULT`).

    ``results.json`` is written anew after each. Errors: ``ValueError`` for settings that cannot work;
    ``DualFormerError`` where the folder holds results of other settings, or a run failed (the others go on first).
    Ctrl-C stops all runs after saving them and raises `TrainingInterrupted`.
    """
    reporter = reporter or Reporter()
    out = Path(experiment.out)
    device = Fabric(accelerator=experiment.accelerator, devices=1).device
    experiment = _claim(out, experiment, device)
    jobs = experiment.jobs or (4 if device.type == "cuda" else os.cpu_count() or 1)
    todo = [run for run in runs_of(experiment) if not (out / run.key / RESULT).is_file()]
    jobs = max(1, min(jobs, len(todo)))
    done = len(runs_of(experiment)) - len(todo)
    reporter.say(
        f"{len(todo)} runs to do{f', {done} are done' if done else ''}; {jobs} at a time on {device.type} in "
        f"{experiment.precision}; each {experiment.clips // experiment.batch_size} steps of {experiment.batch_size} "
        f"clips of {'x'.join(map(str, experiment.clip))}; results go to {out}"
    )
    failed = _side_by_side(experiment, todo, jobs, reporter)
    if failed:
        raise DualFormerError(f"{', '.join(failed)}: failed; see {_LOG} in {out / failed[0]}")
    return write_results(experiment)


def _claim(out: Path, experiment: Experiment, device: torch.device) -> Experiment:
    """The experiment with its number format, which is that of the results that lie there already, if any do."""
    path = out / RESULTS
    then: dict[str, Any] = {}
    if path.is_file():
        try:
            then = json.loads(path.read_text())["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise DualFormerError(f"{path}: not the results of this experiment; choose another --out") from error
    if experiment.precision == "auto":
        # Measured once: two number formats would be two recipes.
        experiment = experiment.replace(precision=then.get("precision") or choose_precision("auto", device).name)
    now = experiment.binding()
    if then and (changed := [name for name in now if then.get(name) != now[name]]):
        said = ", ".join(f"{name} ({then.get(name)}, not {now[name]})" for name in changed)
        raise DualFormerError(f"{path}: these results are of another {said}; choose the same, or another --out")
    if not then:
        write_json(path, {"settings": now, "runs": []}, indent=None, ensure_ascii=True)
    return experiment


def write_results(experiment: Experiment) -> list[dict[str, Any]]:
    """All runs in the folder, in a fixed order, whichever call did them."""
    out = Path(experiment.out)
    runs = [json.loads(path.read_text()) for path in out.glob(f"*/*/seed-*/{RESULT}")]
    order = {name: number for number, name in enumerate((*TASKS, *VARIANTS))}  # other networks follow, by name
    runs.sort(key=lambda run: (order[run["task"]], order.get(run["variant"], len(order)), run["variant"], run["seed"]))
    write_json(out / RESULTS, {"settings": experiment.binding(), "runs": runs}, indent=1, ensure_ascii=True)
    return runs


def _side_by_side(experiment: Experiment, todo: Sequence[Run], jobs: int, reporter: Reporter) -> list[str]:
    """Does runs, ``jobs`` at a time; returns the keys of those that failed."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting, running, failed, took = list(todo), {}, [], []
    started = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                process = context.Process(target=_in_a_process, args=(experiment, run, threads), daemon=True)
                process.start()
                running[run] = (process, time.monotonic())
            time.sleep(0.5)
            for run, (process, since) in list(running.items()):
                if process.is_alive():
                    continue
                del running[run]
                if process.exitcode == 0 and (Path(experiment.out) / run.key / RESULT).is_file():
                    took.append(time.monotonic() - since)
                    result = next(r for r in write_results(experiment) if _key(r) == run.key)
                    reporter.say(
                        f"{len(todo) - len(waiting) - len(running)} of {len(todo)}: {run.key}: "
                        f"{result['accuracy']:.1%} in {clock(took[-1])}"
                    )
                else:
                    failed.append(run.key)
                    reporter.say(f"{run.key}: failed; see {Path(experiment.out) / run.key / _LOG}")
            reporter.progress(_outlook(experiment, running, len(waiting), took, jobs, time.monotonic() - started))
    except KeyboardInterrupt:
        for process, _ in running.values():
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGINT)
        for process, _ in running.values():
            process.join()
        raise TrainingInterrupted("Ctrl-C") from None
    return failed


def _outlook(
    experiment: Experiment, running: dict[Run, Any], waiting: int, took: Sequence[float], jobs: int, elapsed: float
) -> str:
    """How far all is, and how long it will take, by the runs that are done, or by the parts of those that are not."""
    parts = [_part(Path(experiment.out) / run.key) for run in running]
    seconds = [time.monotonic() - since for _, since in running.values()]
    whole = sum(took) / len(took) if took else 0.0
    if not took and any(parts):
        whole = max(second / part for second, part in zip(seconds, parts, strict=True) if part)
    done = f"{len(took)} runs done, {len(running)} running, {waiting} waiting; {clock(elapsed)}"
    if not whole:
        return done
    left = sum(max(0.0, whole * (1 - part)) for part in parts) + whole * waiting
    return f"{done}, about {clock(left / jobs)} left"


def _part(folder: Path) -> float:
    """What part of a run is done."""
    try:
        return float(json.loads((folder / ALIVE).read_text()))
    except (OSError, ValueError):
        return 0.0


def _key(result: dict[str, Any]) -> str:
    return Run(task=result["task"], variant=result["variant"], seed=result["seed"]).key


def _in_a_process(experiment: Experiment, run: Run, threads: int) -> None:
    from dualformer.paper.experiment_run import Alive, do_run  # which knows what an experiment is

    folder = Path(experiment.out) / run.key
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    with (folder / _LOG).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            do_run(experiment, run, alive=Alive(folder))
        except TrainingInterrupted:
            raise SystemExit(130) from None
