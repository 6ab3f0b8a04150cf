"""Parts of a network that stay as they are while the rest is trained."""

from __future__ import annotations

from typing import Literal

from torch import nn

from dualformer.model.network import DualFormer


def frozen_parts(model: DualFormer, freeze: Literal["nothing", "backbone"], stages: int) -> list[nn.Module]:
    """Everything but the classifier, or the first ``stages``."""
    if freeze == "backbone":
        return [model.stages, model.norm]
    return list(model.stages[:stages])


def freeze(parts: list[nn.Module]) -> None:
    """No gradients for these parts."""
    for part in parts:
        part.requires_grad_(False)


def keep_still(parts: list[nn.Module]) -> None:
    """To be called whenever the network is put into training mode: BatchNorm keeps its statistics, and nothing is
    dropped from features that do not learn to do without it."""
    for part in parts:
        part.eval()
