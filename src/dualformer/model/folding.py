"""Folding for inference: BatchNorm goes into the convolution before it, the scale of attention into the queries."""

import torch
from torch import nn

from dualformer.model.attention import PyramidAttention, WindowAttention
from dualformer.model.convolution import ConvNorm
from dualformer.model.pyramid import FactorisedPooling


@torch.no_grad()
def fold_layers(model: nn.Module) -> None:
    """Changes the layers of ``model`` in place so that they compute the same in eval mode with fewer steps."""
    for module in model.modules():
        if isinstance(module, FactorisedPooling):
            _fold_norm(module, module.space)
        elif isinstance(module, ConvNorm):
            _fold_norm(module, module.conv)
        elif isinstance(module, WindowAttention):
            _fold_scale(module, module.qkv)
        elif isinstance(module, PyramidAttention):
            _fold_scale(module, module.q)


def _fold_norm(module: FactorisedPooling | ConvNorm, conv: nn.Conv3d) -> None:
    """Multiplies what the BatchNorm of ``module`` does, by its running statistics, into the ``conv`` before it."""
    norm = module.norm
    if not isinstance(norm, nn.BatchNorm3d):
        return
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    if conv.bias is None:
        conv.bias = nn.Parameter(torch.zeros_like(norm.bias))
    conv.bias.copy_((conv.bias - norm.running_mean) * factor + norm.bias)
    conv.weight.mul_(factor[:, None, None, None, None])
    module.norm = nn.Identity()


def _fold_scale(attention: WindowAttention | PyramidAttention, layer: nn.Linear) -> None:
    """Multiplies the scale of scores into the weights of the queries, the first C outputs of ``layer``."""
    channels, core = attention.proj.in_features, attention.attention
    scale = (channels // attention.heads) ** -0.5 if core.scale is None else core.scale
    layer.weight[:channels] *= scale
    layer.bias[:channels] *= scale
    core.scale = 1.0
