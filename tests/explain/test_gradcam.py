"""Grad-CAM against the whole network with gradients and hooks on its own layers."""

import copy
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from dualformer.explain.gradcam import Gradients, gradcam
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models, preset_config

captum = pytest.importorskip("captum", reason="the extra [explain] is not installed")


def naive(model: DualFormer, video: Tensor, target: int, layer: nn.Module, gradients: Gradients) -> Tensor:
    """Features B T H W C of a layer and the gradient of a logit, of the network as it is."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)

    handle = layer.register_forward_hook(keep)
    logit = model(video)[:, target].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(logit, seen[0])
    if gradients == "mean":
        gradient = gradient.mean(dim=(1, 2, 3), keepdim=True)
    return (seen[0] * gradient).sum(-1).relu().detach()


@pytest.mark.parametrize("name", list_models())
def test_it_is_features_times_gradients_at_the_last_half_of_stage_4(name: str) -> None:
    model = create_model(name, clip=(4, 64, 64), num_classes=5, seed=1).eval()
    video = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    layer = model.get_submodule(f"stages.3.blocks.{model.config.stages[3].depth - 1}.1.norm1")
    for gradients in get_args(Gradients):
        expected = naive(model, video, 2, layer, gradients)
        found = gradcam(model, video, 2, gradients=gradients)
        assert found.shape == (2, 2, 2, 2)
        assert expected.max() > 0
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


@pytest.mark.parametrize("kinds", ["C", "L", "G", "LC"])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_last_half_may_be_the_only_one_or_a_convolution(kinds: str, depth: int) -> None:
    config = preset_config("dualformer_nano", clip=(4, 64, 64), num_classes=5)
    last = replace(config.stages[-1], kinds=kinds, depth=depth)
    model = DualFormer(config.replace(stages=(*config.stages[:-1], last)), seed=1).eval()
    video = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    half = model.get_submodule(f"stages.3.blocks.{depth - 1}.{len(kinds) - 1}")
    read: list[Tensor] = []
    # What the convolutions read is the map before them; attention reads it behind its first norm.
    layer = half.get_submodule("branch" if kinds.endswith("C") else "norm1")

    def keep(_: nn.Module, given: tuple[Tensor, ...], *output: Tensor) -> Tensor:
        read.append(output[0] if output else given[0].clone())
        return read[-1]

    _ = layer.register_forward_pre_hook(keep) if kinds.endswith("C") else layer.register_forward_hook(keep)
    for gradients in get_args(Gradients):
        read.clear()
        (gradient,) = torch.autograd.grad(model(video)[:, 2].sum(), read[0])
        features = read[0]
        if kinds.endswith("C"):
            features, gradient = (x.permute(0, 2, 3, 4, 1) for x in (features, gradient))
        if gradients == "mean":
            gradient = gradient.mean(dim=(1, 2, 3), keepdim=True)
        expected = (features * gradient).sum(-1).relu().detach()
        assert expected.max() > 0
        found = gradcam(model, video, 2, gradients=gradients)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


@pytest.mark.parametrize("gradients", ["each", "mean"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_of_an_earlier_stage_it_is_the_map_that_it_hands_on(stage: int, gradients: Gradients) -> None:
    model = create_model("dualformer_nano", clip=(4, 64, 64), num_classes=5, seed=1).eval()
    video = torch.randn(1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(3))
    expected = naive(model, video, 4, model.stages[stage], gradients)
    found = gradcam(model, video, 4, stage=stage, gradients=gradients)
    side = 16 >> stage
    assert found.shape == (1, 2, side, side)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_the_network_stays_as_it_was_and_autocast_changes_nothing() -> None:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=5, seed=1).eval()
    before, modules = copy.deepcopy(model.state_dict()), [type(module) for module in model.modules()]
    video = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(3))
    plain = gradcam(model, video, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gradcam(model, video, 0), plain)
    with torch.inference_mode():
        torch.testing.assert_close(gradcam(model, video.clone(), 0), plain)
    assert [type(module) for module in model.modules()] == modules
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_class_against_which_everything_speaks_has_no_evidence() -> None:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=2, seed=1).eval()
    head = model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.zero_()
    assert not gradcam(model, torch.randn(1, 3, 4, 32, 32), 0).any()
