"""Does the runs of the experiment side by side, each in a process of its own.

Each is an ordinary run of the training loop, so that one that was killed goes on where it was; one that is done leaves
its ``result.json`` and its curve, and is not repeated.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from dualformer.errors import DualFormerError
from dualformer.paper.experiment import RESULT, Experiment, Run, open_results, runs_of, write_results
from dualformer.paper.experiment_run import HEARTBEAT, Heartbeat, train_and_test
from dualformer.training.reporter import Reporter, clock
from dualformer.training.signals import TrainingInterrupted

_LOG = "log.txt"


def run_experiment(experiment: Experiment, *, reporter: Reporter | None = None) -> list[dict[str, Any]]:
    """Does the runs that are not done yet; returns the results of all runs in the folder, as `train_and_test` does.

    ``results.json`` is written anew after each. Errors: ``ValueError`` for settings that cannot work;
    ``DualFormerError`` where the folder holds results of other settings, or a run failed (the others go on first).
    Ctrl-C stops all runs after saving them and raises `TrainingInterrupted`.
    """
    reporter = reporter or Reporter()
    out = Path(experiment.out)
    device = Fabric(accelerator=experiment.accelerator, devices=1).device
    experiment = open_results(out, experiment, device)
    jobs = experiment.jobs or (4 if device.type == "cuda" else os.cpu_count() or 1)
    todo = [run for run in runs_of(experiment) if not (out / run.key / RESULT).is_file()]
    jobs = max(1, min(jobs, len(todo)))
    done = len(runs_of(experiment)) - len(todo)
    reporter.say(
        f"{len(todo)} runs to do{f', {done} are done' if done else ''}; {jobs} at a time on {device.type} in "
        f"{experiment.precision}; each {experiment.clips // experiment.batch_size} steps of {experiment.batch_size} "
        f"clips of {'x'.join(map(str, experiment.clip))}; results go to {out}"
    )
    failed = _run_all(experiment, todo, jobs, reporter)
    if failed:
        raise DualFormerError(f"{', '.join(failed)}: failed; see {_LOG} in {out / failed[0]}")
    return write_results(experiment)


def _run_all(experiment: Experiment, todo: Sequence[Run], jobs: int, reporter: Reporter) -> list[str]:
    """Does the runs ``todo``, ``jobs`` at a time; returns the keys of those that failed."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting, running, failed, took = list(todo), {}, [], []
    started = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                process = context.Process(target=_run_process, args=(experiment, run, threads), daemon=True)
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
            reporter.progress(_progress_line(experiment, running, len(waiting), took, jobs, time.monotonic() - started))
    except KeyboardInterrupt:
        for process, _ in running.values():
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGINT)
        for process, _ in running.values():
            process.join()
        raise TrainingInterrupted("Ctrl-C") from None
    return failed


def _progress_line(
    experiment: Experiment, running: dict[Run, Any], waiting: int, took: Sequence[float], jobs: int, elapsed: float
) -> str:
    """Says how many runs are done and how long the rest takes, judged by done runs or by shares of those running."""
    shares = [_share_done(Path(experiment.out) / run.key) for run in running]
    seconds = [time.monotonic() - since for _, since in running.values()]
    whole = sum(took) / len(took) if took else 0.0
    if not took and any(shares):
        whole = max(second / share for second, share in zip(seconds, shares, strict=True) if share)
    done = f"{len(took)} runs done, {len(running)} running, {waiting} waiting; {clock(elapsed)}"
    if not whole:
        return done
    left = sum(max(0.0, whole * (1 - share)) for share in shares) + whole * waiting
    return f"{done}, about {clock(left / jobs)} left"


def _share_done(folder: Path) -> float:
    """Reads what share of a run is done, from 0 to 1."""
    try:
        return float(json.loads((folder / HEARTBEAT).read_text()))
    except (OSError, ValueError):
        return 0.0


def _key(result: dict[str, Any]) -> str:
    return Run(task=result["task"], variant=result["variant"], seed=result["seed"]).key


def _run_process(experiment: Experiment, run: Run, threads: int) -> None:
    folder = Path(experiment.out) / run.key
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    with (folder / _LOG).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            train_and_test(experiment, run, heartbeat=Heartbeat(folder))
        except TrainingInterrupted:
            raise SystemExit(130) from None
