"""The loop on a network small enough to compare runs number by number."""

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset

from dualformer.model.config import Config, Stage
from dualformer.model.network import DualFormer
from dualformer.training.loop import Loop, LoopConfig
from dualformer.training.objective import ClipObjective
from dualformer.training.report import SilentReporter
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.native import Card

PRE = Preprocessing(frames=2, resize=8, crop=8, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))
# Without a pyramid there is no BatchNorm, which would see the size of a batch.
CONFIG = Config(stages=(Stage(channels=32, depth=1, patch=(2, 4, 4)),), clip=(2, 8, 8), num_classes=3, dropout=0.0)


class Noise(Dataset[dict[str, Tensor]]):
    """Clips of noise by (epoch, number), or by number as test views."""

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        number = key if isinstance(key, int) else key[1]
        generator = torch.Generator().manual_seed(number)
        clip = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8, generator=generator)
        return {"clip": clip, "views": clip[None], "label": torch.tensor(number % 3)}

    def __len__(self) -> int:
        return 8


def trained(out: Path, **settings: int) -> dict[str, Tensor]:
    model = DualFormer(CONFIG, seed=0)
    out.mkdir()
    Loop(
        ClipObjective(model, PRE),
        Noise(),
        Noise(),
        train_size=8,
        card=Card(config=CONFIG, labels=("a", "b", "c"), preprocessing=PRE, provenance="a test", licence=""),
        config=LoopConfig(epochs=3, lr=1e-2, **settings),  # pyright: ignore[reportArgumentType]
        out=out,
        fabric=Fabric(accelerator="cpu", devices=1),
        reporter=SilentReporter(),
    ).run()
    return model.state_dict()


def test_four_accumulated_batches_of_two_are_one_batch_of_eight(tmp_path: Path):
    small = trained(tmp_path / "small", batch_size=2, accumulate=4)
    large = trained(tmp_path / "large", batch_size=8)
    single = trained(tmp_path / "single", batch_size=2)
    assert all(torch.allclose(small[key], large[key], atol=1e-5) for key in large)
    assert not all(torch.allclose(single[key], large[key], atol=1e-3) for key in large)


def test_batches_that_do_not_fill_a_step_are_left_out(tmp_path: Path):
    model = DualFormer(CONFIG, seed=0)
    loop = Loop(
        ClipObjective(model, PRE),
        Noise(),
        Noise(),
        train_size=8,
        card=Card(config=CONFIG, labels=("a", "b", "c"), preprocessing=PRE, provenance="a test", licence=""),
        config=LoopConfig(epochs=2, lr=1e-2, batch_size=2, accumulate=3),
        out=tmp_path,
        fabric=Fabric(accelerator="cpu", devices=1),
        reporter=SilentReporter(),
    )
    assert (loop.batches, loop.steps_per_epoch, loop.steps) == (3, 1, 2)
