"""A run on a network small enough to compare runs number by number; as a script, runs that two processes share.

python made_runs.py FOLDER '{"name": {"batch_size": 2}}'
"""

import json
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset

from dualformer.errors import DualFormerError
from dualformer.model.block import SubBlock
from dualformer.model.config import Config, Scale, Stage
from dualformer.model.convolution import ConvolutionSubBlock
from dualformer.model.network import DualFormer
from dualformer.training import loop as loop_room
from dualformer.training import run_folder
from dualformer.training.callbacks import Callback
from dualformer.training.distributed import Processes, is_first, open_fabric
from dualformer.training.loop import Loop
from dualformer.training.losses import ClipLoss
from dualformer.training.objective import ClipObjective, DistillationObjective
from dualformer.training.reporter import Reporter, SilentReporter
from dualformer.training.run_folder import TrainResult
from dualformer.training.settings.teacher_settings import TeacherSettings
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import RunClips
from dualformer.training.teacher import open_teacher
from dualformer.video.container import VideoError
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.card import Card

PRE = Preprocessing(frames=2, resize=16, crop=16, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))
SCALES = (Scale(grid=(1, 2, 2), function="depthwise"), Scale(grid=(1, 2, 2), function="depthwise", factorised=True))
CONFIG = Config(
    stages=(
        Stage(channels=32, depth=1, patch=(2, 2, 2), embedding="convolutions", kinds="C"),
        Stage(channels=32, depth=1, patch=(1, 2, 2), window=(1, 2, 2), scales=SCALES),
        Stage(channels=64, depth=1, patch=(1, 2, 2), window=(1, 2, 2), scales=SCALES[:1]),
    ),
    clip=(2, 16, 16),
    num_classes=3,
    dropout=0.0,
    drop_path=0.0,
)
"""The first stage is convolutional, and the pyramid of the second has a BatchNorm."""
PLAIN = Config(
    stages=(Stage(channels=32, depth=1, patch=(2, 4, 4)),), clip=(2, 16, 16), num_classes=3, dropout=0.0, drop_path=0.0
)
"""Without a pyramid there is no BatchNorm, which would see the size of a batch."""

SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "lr": 1e-3,
    "backbone_lr": 1.0,
    "warmup_epochs": 0.0,
    "precision": "float32",
    "workers": 0,
}
"""What a run settles before its loop begins."""


class Noise(Dataset[dict[str, Tensor]]):
    """Clips of noise by (epoch, number), or by number as test views. ``broken`` ones cannot be read."""

    def __init__(self, length: int, *, broken: Sequence[int] = ()) -> None:
        self.length, self.broken = length, broken

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        number = key if isinstance(key, int) else key[1]
        if number in self.broken:
            raise VideoError(f"clip-{number}.mp4", "it is noise")
        generator = torch.Generator().manual_seed(number)
        clip = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8, generator=generator)
        return {"clip": clip, "views": clip[None], "label": torch.tensor(number % 3), "index": torch.tensor(number)}

    def __len__(self) -> int:
        return self.length


class Losses(Callback):
    """A watcher that keeps every step's numbers, across the parts of a run that was resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: list[dict[str, float]] = json.loads(path.read_text()) if path.is_file() else []

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        self.steps = [*self.steps[: step - 1], {**values}]

    def on_epoch(self, epoch: Mapping[str, Any], confusion: Tensor | None) -> None:
        assert (confusion is not None) == ("val_loss" in epoch)

    def close(self) -> None:
        self.path.write_text(json.dumps(self.steps))


class WholeWeights:
    """Counts the numbers of sharded weights that this process has whole at a time, at most: while the network computes
    without training, and where single tensors are put together, as for saving."""

    def __init__(self, objective: nn.Module) -> None:
        self._objective = objective
        self._gathered: list[weakref.ref[Tensor]] = []
        self.computing, self.gathered, self.passes = 0, 0, 0
        for module in objective.modules():
            if isinstance(module, SubBlock | ConvolutionSubBlock):
                module.register_forward_pre_hook(self._count)
        full_tensor = DTensor.full_tensor

        def noted(tensor: DTensor, **options: Any) -> Tensor:
            whole = full_tensor(tensor, **options)
            self._gathered.append(weakref.ref(whole))
            living = [each for found in self._gathered if (each := found()) is not None]
            self.gathered = max(self.gathered, sum(each.numel() for each in living))
            return whole

        self._patch = patch.object(DTensor, "full_tensor", noted)

    def __enter__(self) -> "WholeWeights":
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def _count(self, module: nn.Module, _: object) -> None:
        if not module.training:
            parameters = [each for each in self._objective.parameters() if not isinstance(each, DTensor)]
            self.computing = max(self.computing, sum(each.numel() for each in parameters))
            self.passes += 1


def card(network: Config) -> Card:
    return Card(config=network, labels=("a", "b", "c"), preprocessing=PRE, provenance="a test", licence="")


def run(
    out: Path,
    *,
    devices: int = 1,
    strategy: str = "auto",
    resume: bool = False,
    reporter: Reporter | None = None,
    broken: Sequence[int] = (),
    broken_val: Sequence[int] = (),
    val_clips: int = 7,
    plain: bool = False,
    checkpointing: bool = False,
    class_weights: Sequence[float] | None = None,
    teacher: str | None = None,
    clips: Dataset[dict[str, Tensor]] | None = None,
    model: DualFormer | None = None,
    **settings: Any,
) -> TrainResult:
    """26 clips to train on, 7 to validate on: neither can be dealt evenly to two or four. Beside ``out`` every process
    of a sharded run writes what `WholeWeights` counts.

    A ``teacher`` scores clips and their tokens; their head has no dropout, which draws by processes.
    """
    network = model.config if model else PLAIN if plain else CONFIG
    model = model or DualFormer(network, seed=0)
    model.set_grad_checkpointing(checkpointing)
    fabric = open_fabric(Processes(devices, 1), accelerator="cpu", strategy=strategy)  # pyright: ignore[reportArgumentType]
    weights = torch.tensor(class_weights) if class_weights else None
    loss = ClipLoss(classes=network.num_classes, class_weights=weights)
    objective = ClipObjective(model, PRE, loss=loss)
    if teacher:
        scoring = open_teacher(teacher, classes=("a", "b", "c"), clips=PRE, tokens=True)
        objective = DistillationObjective(model, PRE, TeacherSettings(distill="both"), teacher=scoring, loss=loss)
        for layer in objective.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
    loop = Loop(
        objective,
        RunClips(
            train=clips or Noise(26, broken=broken),
            val=Noise(val_clips, broken=broken_val),
            size=26,
            name=lambda index: f"clip-{index}.mp4",
        ),
        TrainConfig(**(SETTINGS | settings), data="noise", out=str(out)),
        card=card(network),
        fabric=fabric,
        reporter=(reporter or Reporter()) if is_first() else SilentReporter(),
        fingerprint={},
    )
    loop.add_callbacks(lambda: [Losses(out.with_name(f"{out.name}.json"))])
    try:
        with (
            WholeWeights(objective) as whole,
            patch.object(run_folder, "draw_curves"),  # longer than the runs
            patch.object(loop_room, "draw_schedule"),
        ):
            if resume:
                loop.resume()
            result = loop.run()
        if strategy == "fsdp":
            counts = {name: getattr(whole, name) for name in ("computing", "gathered", "passes")}
            out.with_name(f"{out.name}-whole-{fabric.global_rank}.json").write_text(json.dumps(counts))
        return result
    finally:
        loop.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for name, settings in json.loads(sys.argv[2]).items():
        try:
            run(folder / name, devices=2, **settings)
        except DualFormerError as error:
            (folder / f"{name}-rank-{os.environ['LOCAL_RANK']}.txt").write_text(str(error))
