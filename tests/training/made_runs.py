"""A run on a network small enough to compare runs number by number; as a script, runs that two processes share.

python made_runs.py FOLDER '{"name": {"batch_size": 2}}'
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dualformer.errors import DualFormerError
from dualformer.model.config import Config, Scale, Stage
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
        assert confusion is None or int(confusion.sum()) == 7

    def close(self) -> None:
        self.path.write_text(json.dumps(self.steps))


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
    plain: bool = False,
    checkpointing: bool = False,
    class_weights: Sequence[float] | None = None,
    teacher: str | None = None,
    clips: Dataset[dict[str, Tensor]] | None = None,
    model: DualFormer | None = None,
    **settings: Any,
) -> TrainResult:
    """26 clips to train on, 7 to validate on: neither can be dealt evenly to two or four.

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
            val=Noise(7, broken=broken_val),
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
        with patch.object(run_folder, "draw_curves"), patch.object(loop_room, "draw_schedule"):  # longer than the runs
            if resume:
                loop.resume()
            return loop.run()
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
