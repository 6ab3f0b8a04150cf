"""Folding for inference: BatchNorm goes into the convolution before it, the scale of attention into the queries."""

import torch
from torch import nn

from dualformer.model.attention import PyramidAttention, WindowAttention
from dualformer.model.pyramid import FactorisedPooling


@torch.no_grad()
def fold_layers(model: nn.Module) -> None:
    """Changes the layers of ``model`` in place so that they compute the same in eval mode with fewer steps."""
    for module in model.modules():
        if isinstance(module, FactorisedPooling):
            _fold_norm(module)
        elif isinstance(module, WindowAttention):
            _fold_scale(module, module.qkv)
        elif isinstance(module, PyramidAttention):
            _fold_scale(module, module.q)


def _fold_norm(pooling: FactorisedPooling) -> None:
    """Multiplies what BatchNorm does, by its running statistics, into the convolution before it."""
    norm, space = pooling.norm, pooling.space
    if not isinstance(norm, nn.BatchNorm3d):
        return
    assert norm.running_mean is not None and norm.running_var is not None and space.bias is not None
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    space.bias.copy_((space.bias - norm.running_mean) * factor + norm.bias)
    space.weight.mul_(factor[:, None, None, None, None])
    pooling.norm = nn.Identity()


def _fold_scale(attention: WindowAttention | PyramidAttention, layer: nn.Linear) -> None:
    """Multiplies the scale of scores into the weights of the queries, the first C outputs of ``layer``."""
    channels, core = attention.proj.in_features, attention.attention
    scale = (channels // attention.heads) ** -0.5 if core.scale is None else core.scale
    layer.weight[:channels] *= scale
    layer.bias[:channels] *= scale
    core.scale = 1.0
