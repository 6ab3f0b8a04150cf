"""One run of the experiment: a variant trained on a task of the local × global bench with one seed, and tested."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from dualformer.files import write_json
from dualformer.model.config import Config, Size3
from dualformer.model.cost import measure_cost
from dualformer.model.network import DualFormer
from dualformer.paper.drift_objective import DriftObjective
from dualformer.paper.experiment import RESULT, Experiment, Run
from dualformer.paper.relation_clips import RelationClips, RelationCurriculum, Relations
from dualformer.training.build import augmentation_fingerprint
from dualformer.training.callbacks import Callback
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.feed import RunClips
from dualformer.training.loop import Loop
from dualformer.training.reporter import SilentReporter
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import FreshClips, OneView
from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import KINETICS_MEAN, KINETICS_STD, Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card

HEARTBEAT = "alive.json"
"""In the folder of a run while it goes on: the share of it that is done."""
TEST_SEED = 2**31 - 2
VAL_SEED = 2**31 - 3
"""Seeds that no run has."""
CONTROLS = ("still", "shuffled")
"""Test clips of which one frame is repeated, and such with their frames in another order."""


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
    loop = Loop(
        objective,
        RunClips(
            train=FreshClips(RelationClips(scene, curriculum.length, seed=run.seed, curriculum=curriculum), per_epoch),
            val=OneView(RelationClips(scene, min(Experiment.VAL_CLIPS, experiment.test_clips), seed=VAL_SEED)),
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
            loop.watch(lambda: [heartbeat.of(loop.schedule.steps)])
        trained = loop.run()
    finally:
        loop.close()
    result = {
        "task": run.task,
        "variant": run.variant,
        "seed": run.seed,
        "steps": loop.schedule.steps,
        "seconds": round(trained.seconds, 1),
        **_cost(network),
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


def _cost(network: Config) -> dict[str, float]:
    cost = measure_cost(network)
    return {"gmacs": cost.macs / 1e9, "parameters": cost.parameters - cost.classifier}


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
