"""Does the runs of the experiment: one in this process, or all side by side, each in a process of its own.

Each is an ordinary run of the training loop, so that one that was killed goes on where it was; one that is done leaves
its ``result.json`` and its curve, and is not repeated.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from dualformer.cores import available_cores
from dualformer.errors import DualFormerError
from dualformer.files import lock_for_writing, write_json
from dualformer.model.config import Size3
from dualformer.model.cost import measure_cost
from dualformer.model.network import DualFormer
from dualformer.paper.drift_objective import DriftObjective
from dualformer.paper.experiment import (
    CONTROLS,
    RESULT,
    TEST_SEED,
    VAL_SEED,
    Experiment,
    Run,
    open_results,
    runs_of,
    write_results,
)
from dualformer.paper.relation_clips import RelationClips, RelationCurriculum, Relations
from dualformer.plurals import counted
from dualformer.training.build import augmentation_fingerprint
from dualformer.training.callbacks import Callback
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.loop import Loop
from dualformer.training.reporter import Reporter, SilentReporter, clock
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.signals import TrainingInterrupted
from dualformer.training.sources import FreshClips, OneView, RunClips
from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import KINETICS_MEAN, KINETICS_STD, Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card

HEARTBEAT = "alive.json"
"""In the folder of a run while it goes on: the share of it that is done."""
_LOG = "log.txt"


def run_experiment(experiment: Experiment, *, reporter: Reporter | None = None) -> list[dict[str, Any]]:
    """Does the runs that are not done yet; returns the results of all runs in the folder, as `train_and_test` does.

    ``results.json`` is written anew after each. Errors: ``ValueError`` for settings that cannot work;
    ``DualFormerError`` where the folder holds results of other settings, or a run failed (the others go on first).
    Ctrl-C stops all runs after saving them and raises `TrainingInterrupted`.
    """
    with lock_for_writing(Path(experiment.out), folder=True):
        return _run_experiment(experiment, reporter or Reporter())


def _run_experiment(experiment: Experiment, reporter: Reporter) -> list[dict[str, Any]]:
    out = Path(experiment.out)
    device = Fabric(accelerator=experiment.accelerator, devices=1).device
    experiment = open_results(out, experiment, device)
    jobs = experiment.jobs or (4 if device.type == "cuda" else available_cores())
    todo = [run for run in runs_of(experiment) if not (out / run.key / RESULT).is_file()]
    jobs = max(1, min(jobs, len(todo)))
    done = len(runs_of(experiment)) - len(todo)
    already = f", {counted(done, 'is', 'are')} done" if done else ""
    reporter.log(
        f"{counted(len(todo), 'run')} to do{already}; {jobs} at a time on "
        f"{device.type} in {experiment.precision}; each "
        f"{counted(experiment.clips // experiment.batch_size, 'step')} of {counted(experiment.batch_size, 'clip')} of "
        f"{'x'.join(map(str, experiment.clip))}; results go to {out}"
    )
    failed = _run_all(experiment, todo, jobs, reporter)
    if failed:
        raise DualFormerError(f"{', '.join(failed)}: failed; see {_LOG} in {out / failed[0]}")
    return write_results(experiment)


def _run_all(experiment: Experiment, todo: Sequence[Run], jobs: int, reporter: Reporter) -> list[str]:
    """Does the runs ``todo``, ``jobs`` at a time; returns the keys of those that failed."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, available_cores() // jobs)
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
                    write_results(experiment)
                    result = json.loads((Path(experiment.out) / run.key / RESULT).read_text(encoding="utf-8"))
                    reporter.log(
                        f"{len(todo) - len(waiting) - len(running)} of {len(todo)}: {run.key}: "
                        f"{result['accuracy']:.1%} in {clock(took[-1])}"
                    )
                else:
                    failed.append(run.key)
                    reporter.log(f"{run.key}: failed; see {Path(experiment.out) / run.key / _LOG}")
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
    done = f"{counted(len(took), 'run')} done, {len(running)} running, {waiting} waiting; {clock(elapsed)}"
    if not whole:
        return done
    left = sum(max(0.0, whole * (1 - share)) for share in shares) + whole * waiting
    return f"{done}, about {clock(left / jobs)} left"


def _share_done(folder: Path) -> float:
    """Reads what share of a run is done, from 0 to 1."""
    try:
        return float(json.loads((folder / HEARTBEAT).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return 0.0


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


class Heartbeat(Callback):
    """A callback that writes how far a run is, and ends it if its parent process has gone: otherwise it would go on
    beside its successor."""

    def __init__(self, folder: Path) -> None:
        self._path, self._parent, self._written_at, self._steps = folder / HEARTBEAT, os.getppid(), 0.0, 1

    def of(self, steps: int) -> Heartbeat:
        self._steps = steps
        return self

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        if os.getppid() != self._parent:
            os._exit(1)
        if time.monotonic() - self._written_at > 2:
            self._written_at = time.monotonic()
            self._path.write_text(json.dumps(step / self._steps))

    def close(self) -> None:
        self._path.unlink(missing_ok=True)


def train_and_test(experiment: Experiment, run: Run, *, heartbeat: Heartbeat | None = None) -> dict[str, Any]:
    """Trains and tests one run in this process, going on where an earlier call stopped; returns its ``result.json``."""
    folder = Path(experiment.out) / run.key
    scene = experiment.relations(run.task)
    network = experiment.network(run.variant)
    fabric = Fabric(accelerator=experiment.accelerator, devices=1)
    preprocessing = preprocessing_of(experiment.clip)
    model = DualFormer(network, seed=run.seed)
    # From the classes alone it takes thousands of clips until the network learns anything.
    objective = DriftObjective(model, preprocessing, weight=experiment.truth)
    objective.place(fabric.device)
    curriculum = RelationCurriculum(experiment.train_length)
    per_epoch = curriculum.length // Experiment.EPOCHS
    assert experiment.precision != "auto"
    settings = TrainConfig(
        data=run.task,
        out=str(folder),
        epochs=Experiment.EPOCHS,
        batch_size=experiment.batch_size,
        lr=experiment.lr,
        backbone_lr=1.0,
        weight_decay=experiment.weight_decay,
        warmup_epochs=Experiment.EPOCHS / 12,
        precision=experiment.precision,
        seed=run.seed,
        workers=0,
        save_minutes=1.0,
        keep=1,
    )
    val_clips = min(Experiment.VAL_CLIPS, experiment.test_clips)
    loop = Loop(
        objective,
        RunClips(
            train=FreshClips(RelationClips(scene, curriculum.length, seed=run.seed, curriculum=curriculum), per_epoch),
            val=OneView(RelationClips(scene, val_clips, seed=VAL_SEED), val_clips),
            size=per_epoch,
        ),
        settings,
        card=Card(
            config=network,
            labels=scene.classes,
            preprocessing=preprocessing,
            provenance=f"{run.key} of an experiment",
            licence="",
        ),
        fabric=fabric,
        reporter=SilentReporter(),
        fingerprint={
            "experiment": experiment.shared_settings(),
            "network": network.to_dict(),
            "augmentation": augmentation_fingerprint(Augmentation(flip=0.0), settings),
        },
    )
    try:
        if has_checkpoint(folder):
            loop.resume()
        if heartbeat:
            loop.add_callbacks(lambda: [heartbeat.of(loop.schedule.steps)])
        trained = loop.run()
    finally:
        loop.close()
    cost = measure_cost(network)
    result = {
        "task": run.task,
        "variant": run.variant,
        "seed": run.seed,
        "steps": loop.schedule.steps,
        "seconds": round(trained.seconds, 1),
        "gmacs": cost.macs / 1e9,
        "parameters": cost.parameters - cost.classifier,
        **measure_accuracy(model, scene, experiment, device=fabric.device),
    }
    write_json(folder / RESULT, result, indent=None, ensure_ascii=True)
    # Only the figures are wanted; weights and checkpoints of all runs would take gigabytes.
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    return result


def preprocessing_of(clip: Size3) -> Preprocessing:
    return Preprocessing(frames=clip[0], stride=1, resize=clip[1], crop=clip[1], mean=KINETICS_MEAN, std=KINETICS_STD)


@torch.no_grad()
def measure_accuracy(
    model: torch.nn.Module, scene: Relations, experiment: Experiment, *, device: torch.device
) -> dict[str, Any]:
    """Measures ``accuracy`` on the test clips, from 0 to 1, and that of each of `CONTROLS` on a quarter of them.

    ``right`` has a letter for each clip: 1 where the network was right, else 0.
    """
    model.eval()
    preprocessing = preprocessing_of(experiment.clip)
    clips = RelationClips(scene, experiment.test_clips, seed=TEST_SEED)
    right: dict[str, list[int]] = {name: [] for name in ("", *CONTROLS)}
    for start in range(0, len(clips), 32):
        numbers = range(start, min(start + 32, len(clips)))
        items = [clips[i] for i in numbers]
        frames, labels = torch.stack([item["clip"] for item in items]), torch.stack([item["label"] for item in items])
        for name in right:
            if name and start >= len(clips) // 4:
                continue
            shown = normalize(_control(frames, name, numbers).to(device), preprocessing)
            with torch.autocast(device.type, torch.bfloat16, enabled=experiment.precision == "bfloat16"):
                predicted = model(shown).argmax(1).cpu()
            right[name] += (predicted == labels).int().tolist()
    return {
        "accuracy": sum(right[""]) / len(clips),
        "right": "".join(map(str, right[""])),
        **{name: sum(right[name]) / len(right[name]) for name in CONTROLS},
    }


def _control(frames: Tensor, name: str, numbers: Sequence[int]) -> Tensor:
    """Returns clips B T H W 3 as they are, or one frame of each repeated, or each with its frames in a random order."""
    if not name:
        return frames
    orders = []
    for number in numbers:
        rng = np.random.default_rng((TEST_SEED, number, 2))
        length = frames.shape[1]
        orders.append(np.full(length, rng.integers(length)) if name == "still" else rng.permutation(length))
    return torch.stack([clip[torch.from_numpy(order)] for clip, order in zip(frames, orders, strict=True)])
