"""What a network costs: multiply-adds and parameters, counted the way the paper's tables count them.

The network runs once on PyTorch's ``meta`` device, which knows shapes and computes nothing, with a hook on every layer.
Counted are linear layers, convolutions and both matrix products of attention at 1 per multiply-add, LayerNorm at 5,
BatchNorm at 2 and the pooling before the classifier, and before a temporal head, at 1 per element; average pooling of
the pyramid at 1 per element of its priors. Softmax, GELU, biases and residual sums are not: so does the counter behind
the published numbers, which come out exactly.
"""

import dataclasses
import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dualformer.model.attention import Attention, PyramidAttention, WindowAttention
from dualformer.model.config import Config, Size3
from dualformer.model.heads import TemporalPyramid
from dualformer.model.network import DualFormer, StageLayers
from dualformer.model.pyramid import AveragePooling, CellConv3d

_OPERATIONS_PER_ELEMENT = {nn.LayerNorm: 5, nn.BatchNorm3d: 2}


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """How many tokens one stage works on, for one view."""

    size: Size3
    """T H W of the token map."""
    channels: int
    tokens: int
    """N = T·H·W."""
    windows: int
    """G of LW-MSA; 0 if the stage has no L half."""
    pyramid_tokens: int
    """P of GP-MSA, which is N where it attends to all tokens; 0 if the stage has no G half."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Multiply-adds of one view, and parameters."""

    linear: float
    attention: float
    convolution: float
    normalisation: float
    pooling: float
    parameters: int
    """All of them, the classifier's included."""
    classifier: int
    """Parameters of the classifier, which the paper's tables leave out."""
    stages: tuple[StageCost, ...]

    @property
    def macs(self) -> float:
        """Multiply-adds of one view in all; the paper prints 10⁹ of them as "GFLOPs"."""
        return self.linear + self.attention + self.convolution + self.normalisation + self.pooling

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, with the total under ``macs``."""
        return {"macs": self.macs, **dataclasses.asdict(self)}


@functools.cache
def measure_cost(config: Config, clip: Size3 | None = None) -> Cost:
    """The cost of one view of ``clip`` (frames, height, width; default: the config's own).

    Nothing is computed and no weights are allocated: it takes a second for any size. Errors: ``ValueError`` for a clip
    without frames or pixels.
    """
    if clip is not None and min(clip) < 1:
        raise ValueError(f"a clip needs at least 1 frame, row and column, not {clip}")
    with torch.device("meta"):
        model = DualFormer(config, seed=0).eval()
        video = torch.empty((1, 3, *(clip or config.clip)))
    macs: Counter[str] = Counter()
    shapes: dict[nn.Module, torch.Size] = {}

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            macs["linear"] += output.numel() * module.in_features
        elif isinstance(module, CellConv3d):  # the cell may be another than the one that the kernel was cut for
            macs["convolution"] += inputs[0].numel() * output.shape[1] // module.groups
        elif isinstance(module, nn.Conv3d):
            macs["convolution"] += output.numel() * module.weight[0].numel()
        elif isinstance(module, Attention):
            queries, keys = inputs[0], inputs[1]
            macs["attention"] += 2 * queries.numel() * keys.shape[2]
            shapes[module] = keys.shape
        elif isinstance(module, TemporalPyramid):
            macs["pooling"] += sum(x.numel() for x in inputs[0])
        elif isinstance(module, AveragePooling):
            macs["pooling"] += output.numel()
        elif type(module) in _OPERATIONS_PER_ELEMENT:
            macs["normalisation"] += output.numel() * _OPERATIONS_PER_ELEMENT[type(module)]

    for module in model.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        features = model.forward_features(video)
        model.forward_head(features)
    macs["pooling"] += features.numel()

    stages = (
        _stage_cost(layers, channels=stage.channels, size=size, key_shapes=shapes)
        for stage, size, layers in zip(config.stages, config.map_sizes(clip), model.stages, strict=True)
        if isinstance(layers, StageLayers)
    )
    return Cost(
        linear=macs["linear"],
        attention=macs["attention"],
        convolution=macs["convolution"],
        normalisation=macs["normalisation"],
        pooling=macs["pooling"],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        classifier=sum(parameter.numel() for parameter in model.head.parameters()),
        stages=tuple(stages),
    )


def _stage_cost(
    layers: StageLayers, *, channels: int, size: Size3, key_shapes: dict[nn.Module, torch.Size]
) -> StageCost:
    windows = pyramid_tokens = 0
    for module in layers.modules():
        if isinstance(module, WindowAttention):
            windows = key_shapes[module.attention][0]  # windows sit in the batch dimension, and the batch is one clip
        elif isinstance(module, PyramidAttention):
            pyramid_tokens = key_shapes[module.attention][2]
    return StageCost(
        size=size, channels=channels, tokens=size[0] * size[1] * size[2], windows=windows, pyramid_tokens=pyramid_tokens
    )
