"""Computes Grad-CAM: the evidence of every token for a class.

A token's evidence is its features times the gradient of the class's score with respect to them, summed over channels.
Two choices follow measurements with `check_deletion` (docs/experiments.md):

* In the last stage, features are taken where its last sub-block reads them, behind the first LayerNorm of one with
  attention. After it is the worse place: attention to all tokens has then passed on what each token knew, and a token's
  features say little about the pixels that it stands for. Of an earlier stage it is the map that it hands on.
* The gradient is kept for every token. The original averages it over all of them first, which is the same where nothing
  but pooling and one linear layer follow. Where attention follows it is not, and in the last stage the maps of real
  videos were then no better than chance.

captum computes both; it wants channels first, so it is shown the tokens that way.
"""

import copy
import importlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dualformer.errors import DualFormerError
from dualformer.model.block import SubBlock
from dualformer.model.convolution import ConvolutionSubBlock
from dualformer.model.network import DualFormer, StageLayers

Gradients = Literal["each", "mean"]
"""Every token's own gradient, or the mean over all tokens, as in the original Grad-CAM."""


class _Permuted(nn.Module):
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class _NetworkFromStage(nn.Module):
    """The part of a network from one stage on, which turns B C T H W before that stage into B classes.

    It is a copy, so that other threads may use the network meanwhile. The features whose evidence is computed pass
    through ``probe`` as B C T H W. ``earlier``: the maps B C T H W of the stages before, which a temporal head reads.
    """

    def __init__(self, model: DualFormer, stage: int, earlier: Sequence[Tensor]) -> None:
        super().__init__()
        self.temporal, self.earlier = copy.deepcopy(model.temporal), earlier
        self.stages = nn.ModuleList(copy.deepcopy(layers) for layers in list(model.stages)[stage:])
        self.norm, self.head = copy.deepcopy(model.norm), copy.deepcopy(model.head)
        self.requires_grad_(False).eval()  # gradients of what passes, not of weights
        self.probe = nn.Identity()
        if len(self.stages) == 1:
            stage_layers = self.stages[0]
            assert isinstance(stage_layers, StageLayers)
            last = list(stage_layers.blocks[-1].children())[-1]  # a PEG may be behind it
            if isinstance(last, ConvolutionSubBlock):
                last.branch = nn.Sequential(self.probe, *last.branch)
            else:
                assert isinstance(last, SubBlock)
                around = _Permuted(0, 4, 1, 2, 3), self.probe, _Permuted(0, 2, 3, 4, 1)
                last.add_module("norm1", nn.Sequential(last.norm1, *around))

    def forward(self, x: Tensor) -> Tensor:
        first, *later = self.stages
        x = first(x).permute(0, 4, 1, 2, 3)
        if later:
            x = self.probe(x)
        maps = [*self.earlier, x]
        for stage in later:
            x = stage(x).permute(0, 4, 1, 2, 3)
            maps.append(x)
        features = self.norm(x.permute(0, 2, 3, 4, 1))
        if self.temporal is not None:
            features = self.temporal([each.permute(0, 2, 3, 4, 1) for each in maps], features)
        return self.head(features.mean((1, 2, 3)))


class CaptumMissingError(DualFormerError):
    """captum, of the extra ``explain``, is not installed."""


def gradcam(
    model: DualFormer, video: Tensor, target: int, *, stage: int | None = None, gradients: Gradients = "each"
) -> Tensor:
    """Returns the evidence for class ``target`` in a ``stage`` (from 0; None: the last): B T' H' W' of B 3 T H W.

    It is 0 where there is none, and in no unit. The network before the stage runs without gradients, and so needs no
    more memory than for a prediction. Works in float32, whatever autocast says.
    Errors: `CaptumMissingError` where captum is not installed.
    """
    try:
        captum = importlib.import_module("captum.attr")
    except ImportError as error:
        raise CaptumMissingError(f"captum cannot be imported ({error}); pip install 'dualformer[explain]'") from error
    stage = len(model.stages) - 1 if stage is None else stage
    with torch.inference_mode(False), torch.autocast(video.device.type, enabled=False):
        earlier: list[Tensor] = []
        if stage:
            with torch.no_grad():
                earlier = model.forward_intermediates(
                    video, indices=range(stage), intermediates_only=True, stop_early=True
                )
        before = earlier[-1] if earlier else video
        tail = _NetworkFromStage(model, stage, earlier)
        with torch.enable_grad():
            method = captum.LayerGradientXActivation if gradients == "each" else captum.LayerGradCam
            # A clone, as what was computed for inference alone cannot be asked for gradients.
            evidence = method(tail, tail.probe).attribute(before.clone().requires_grad_(), target=target)
        return evidence.detach().sum(1).relu()
