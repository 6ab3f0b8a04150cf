"""Small networks, their cards, clips for them, and every way to export them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dualformer.export.export_weights import ExportReport
from dualformer.model.config import Config, Scale, Stage
from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.card import Card
from dualformer.weights.exported.export_card import ExportFormat, ExportPrecision

LABELS = ("blink", "down", "left", "right", "round", "up")
PRE = Preprocessing(frames=4, stride=2, resize=40, crop=36, mean=(100.0, 110.0, 120.0), std=(50.0, 51.0, 52.0))
WAYS: tuple[tuple[ExportFormat, ExportPrecision], ...] = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)


def small_network(seed: int = 3) -> DualFormer:
    """Two stages; windows that stick out of the map, a pyramid, full attention."""
    scales = (Scale(grid=(2, 3, 3)), Scale(grid=(1, 2, 2), factorised=True))
    stages = (
        Stage(channels=32, depth=1, patch=(2, 4, 4), scales=scales),
        Stage(channels=64, depth=1, patch=(1, 2, 2)),
    )
    model = DualFormer(Config(stages=stages, clip=(4, 36, 36), num_classes=len(LABELS)), seed=seed)
    model.state_dict()["head.weight"].mul_(30)  # so that clips differ in what the random network says of them
    return model.eval()


def convolutional_network() -> DualFormer:
    """A stem, full convolutions in the only half of a block, and depth-wise ones beside full attention.

    Norms and statistics are random: those of a fresh network would hide that they are folded.
    """
    stages = (
        Stage(channels=32, depth=1, patch=(2, 4, 4), embedding="convolutions", kinds="C"),
        Stage(channels=64, depth=1, patch=(1, 2, 2), kinds="CG", convolution="depthwise"),
    )
    model = DualFormer(Config(stages=stages, clip=(4, 36, 36), num_classes=len(LABELS)), seed=3)
    generator = torch.Generator().manual_seed(1)
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm3d)):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            assert tensor is not None
            tensor.uniform_(0.5, 1.5, generator=generator)
    model.state_dict()["head.weight"].mul_(30)
    return model.eval()


def card_of(model: DualFormer, *, multi_label: bool = False) -> Card:
    return Card(
        config=model.config,
        labels=LABELS,
        preprocessing=PRE,
        provenance="a test",
        licence="mit",
        multi_label=multi_label,
    )


def noise(count: int, *, seed: int = 0) -> torch.Tensor:
    """Views that a random network tells apart: blocks of random colours."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 4, 6, 6, 3), dtype=np.uint8)
    return torch.from_numpy(blocks.repeat(6, axis=2).repeat(6, axis=3))


@dataclass(frozen=True, kw_only=True)
class Made:
    model: DualFormer
    card: Card
    weights: Path
    reports: dict[tuple[ExportFormat, ExportPrecision], ExportReport]
