"""Other clips, resolutions and classes: the laws that resampled kernels keep, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dualformer.model.config import Scale, Size3
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, preset_config
from dualformer.model.pyramid import Pyramid
from dualformer.video.preprocessing import kinetics
from dualformer.weights.native import Card, WeightsError, save_weights
from dualformer.weights.resample import resample_kernel, resample_state, start_from


def saved(path: Path, clip: Size3, labels: tuple[str, ...] = ("a", "b", "c")) -> DualFormer:
    model = create_model("dualformer_nano", clip=clip, num_classes=len(labels), seed=1)
    pre = kinetics(frames=clip[0], size=clip[1])
    card = Card(config=model.config, labels=labels, preprocessing=pre, provenance="", licence="")
    save_weights(path, model, card)
    return model


@pytest.mark.parametrize("size", [(1, 8, 8), (4, 8, 8), (2, 7, 9), (3, 16, 16), (1, 1, 1), (2, 8, 8)])
def test_sums_stay(size: Size3) -> None:
    weight = torch.randn(5, 1, 2, 8, 8)
    new = resample_kernel(weight, size)
    assert new.shape == (5, 1, *size)
    torch.testing.assert_close(new.sum((1, 2, 3, 4)), weight.sum((1, 2, 3, 4)))


def test_longer_and_back_is_the_same() -> None:
    weight = torch.randn(5, 1, 2, 4, 4)
    torch.testing.assert_close(resample_kernel(resample_kernel(weight, (4, 12, 4)), (2, 4, 4)), weight)
    assert torch.equal(resample_kernel(weight, (2, 4, 4)), weight)


def test_by_hand() -> None:
    weight = torch.tensor([3.0, 6.0, 9.0])[None, None, :, None, None]
    assert resample_kernel(weight, (1, 1, 1)).flatten().tolist() == [18.0]
    assert resample_kernel(weight, (2, 1, 1)).flatten().tolist() == pytest.approx([6.0, 12.0])
    assert resample_kernel(weight, (6, 1, 1)).flatten().tolist() == pytest.approx([1.5, 1.5, 3.0, 3.0, 4.5, 4.5])


def resampled(pyramid: Pyramid, into: Pyramid) -> Pyramid:
    """What `resample_state` does to a pyramid, by hand."""
    wanted = into.state_dict()
    state = {
        key: resample_kernel(tensor, tuple(wanted[key].shape[2:])) if tensor.dim() == 5 else tensor
        for key, tensor in pyramid.state_dict().items()
    }
    into.load_state_dict(state)
    return into.double().eval()


SCALES = (Scale(grid=(2, 4, 4)), Scale(grid=(2, 2, 2), factorised=True))


@pytest.mark.parametrize("target", [(16, 28, 28), (4, 28, 28), (8, 56, 28), (8, 32, 32)])
def test_a_constant_map_gives_the_same_priors(target: Size3) -> None:
    source = Pyramid(6, (8, 28, 28), SCALES).double().eval()
    other = resampled(source, Pyramid(6, target, SCALES))
    token = torch.randn(6, dtype=torch.float64)
    with torch.no_grad():
        before = source(token.expand(1, 8, 28, 28, 6))
        after = other(token.expand(1, *target, 6))
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 2, 2), (3, 2, 1)])
def test_a_map_with_repeated_tokens_gives_the_same_fine_priors(repeat: Size3) -> None:
    source = Pyramid(6, (8, 28, 28), SCALES[:1]).double().eval()
    t, h, w = repeat
    other = resampled(source, Pyramid(6, (8 * t, 28 * h, 28 * w), SCALES[:1]))
    x = torch.randn(1, 8, 28, 28, 6, dtype=torch.float64)
    longer = x.repeat_interleave(t, 1).repeat_interleave(h, 2).repeat_interleave(w, 3)
    with torch.no_grad():
        torch.testing.assert_close(other(longer), source(x))


def test_a_clip_played_at_half_speed_gives_the_same_coarse_priors() -> None:
    source = Pyramid(6, (8, 28, 28), SCALES[1:]).double().eval()
    other = resampled(source, Pyramid(6, (16, 28, 28), SCALES[1:]))
    x = torch.randn(1, 8, 28, 28, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(other(x.repeat_interleave(2, 1)), source(x))


def test_only_kernels_change() -> None:
    source = preset_config("dualformer_nano", clip=(16, 112, 112), num_classes=3)
    target = preset_config("dualformer_nano", clip=(32, 112, 112), num_classes=3, drop_path=0.2)
    # Same grids, so that the kernels are twice as long.
    stages = tuple(replace(new, scales=old.scales) for new, old in zip(target.stages, source.stages, strict=True))
    target = target.replace(stages=stages)
    state = DualFormer(source, seed=0).state_dict()
    fitted, notes = resample_state(state, source, target)
    wanted = DualFormer(target, seed=0).state_dict()
    assert {k: v.shape for k, v in fitted.items()} == {k: v.shape for k, v in wanted.items()}
    changed = [
        key for key in state if not torch.equal(fitted[key], state[key]) or fitted[key].shape != state[key].shape
    ]
    assert changed
    assert all(".pyramid.scales." in key and key.endswith((".conv.weight", ".rest.weight")) for key in changed)
    assert notes == [
        "fine pyramid kernels, resampled: stage 1 2x4x4 → 4x4x4, stage 2 2x2x2 → 4x2x2, stage 3 2x1x1 → 4x1x1",
        "coarse pyramid kernels, rest, resampled: stage 1 2x1x1 → 4x1x1, stage 2 2x1x1 → 4x1x1",
    ]


def test_the_same_config_changes_nothing() -> None:
    config = preset_config("dualformer_nano", clip=(4, 32, 32), num_classes=3)
    state = DualFormer(config, seed=0).state_dict()
    fitted, notes = resample_state(state, config, config)
    assert notes == []
    assert all(fitted[key] is state[key] for key in state)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("channels", {"channels": 64}, "stage 1 channels is 32 in the weights and 64 in the network"),
        ("depth", {"depth": 2}, "stage 1 depth is 1"),
        ("patch", {"patch": (4, 4, 4)}, "stage 1 patch"),
        ("kinds", {"kinds": "LL"}, "stage 1 kinds is LG"),
        ("scales", {"scales": ()}, "stage 1 scales is fine and coarse in the weights and none in the network"),
    ],
)
def test_other_differences_are_named(name: str, change: dict[str, Any], says: str) -> None:
    source = preset_config("dualformer_nano", clip=(4, 32, 32), num_classes=3)
    target = source.replace(stages=(replace(source.stages[0], **change), *source.stages[1:]))
    with pytest.raises(WeightsError, match=says):
        resample_state({}, source, target)


def test_heads_of_another_width_are_refused() -> None:
    source = preset_config("dualformer_nano", clip=(4, 32, 32))
    for change, says in (({"head_dim": 16}, "head_dim is 32"), ({"mlp_ratio": 2}, "mlp_ratio is 4")):
        with pytest.raises(WeightsError, match=says):
            resample_state({}, source, source.replace(**change))
    with pytest.raises(WeightsError, match="number of stages is 4 in the weights and 3"):
        resample_state({}, source, source.replace(stages=source.stages[:3]))


def weights_but_head(model: DualFormer) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("head.")}


def test_start_with_other_classes(tmp_path: Path) -> None:
    source = saved(tmp_path / "w", (4, 32, 32))
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=8, seed=2)
    head = model.get_parameter("head.weight").clone()
    assert start_from(model, tmp_path / "w") == ["classifier: 3 → 8 classes, started anew"]
    assert torch.equal(model.get_parameter("head.weight"), head)
    for key, tensor in weights_but_head(source).items():
        assert torch.equal(model.state_dict()[key], tensor), key


def test_start_without_classes(tmp_path: Path) -> None:
    saved(tmp_path / "w", (4, 32, 32))
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=0, seed=2)
    assert start_from(model, tmp_path / "w") == ["classifier: 3 → 0 classes, left out"]


def test_start_with_the_same_classes(tmp_path: Path) -> None:
    source = saved(tmp_path / "w", (4, 32, 32))
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=2)
    assert start_from(model, tmp_path / "w", labels=("a", "b", "c")) == []
    for key, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key


@pytest.mark.parametrize("labels", [("a", "c", "b"), ("x", "y", "z")])
def test_as_many_but_other_classes(tmp_path: Path, labels: tuple[str, ...]) -> None:
    saved(tmp_path / "w", (4, 32, 32))
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=2)
    head = model.get_parameter("head.weight").clone()
    notes = start_from(model, tmp_path / "w", labels=labels)
    assert notes == ["classifier: 3 classes with other names or in another order, started anew"]
    assert torch.equal(model.get_parameter("head.weight"), head)


def test_start_with_another_clip(tmp_path: Path) -> None:
    source = saved(tmp_path / "w", (8, 64, 64))
    model = create_model("dualformer_nano", clip=(16, 112, 112), num_classes=3, seed=2)
    notes = start_from(model, tmp_path / "w")
    assert len(notes) == 3
    assert notes[0].startswith("fine pyramid kernels, resampled: stage 1 2x2x2 → 2x4x4")
    key = "stages.0.blocks.0.1.attn.pyramid.scales.0.conv.weight"
    torch.testing.assert_close(
        model.state_dict()[key].sum((1, 2, 3, 4)), source.state_dict()[key].sum((1, 2, 3, 4)), atol=1e-6, rtol=1e-5
    )
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, 16, 112, 112)).isfinite().all()


def test_errors_name_the_file(tmp_path: Path) -> None:
    saved(tmp_path / "w", (4, 32, 32))
    with torch.device("meta"):
        tiny = create_model("dualformer_tiny", clip=(4, 32, 32), seed=0)
    with pytest.raises(WeightsError, match=r"w: the weights do not fit the network: stage 1 channels is 32"):
        start_from(tiny, tmp_path / "w")
    with pytest.raises(FileNotFoundError):
        start_from(tiny, tmp_path / "none")
