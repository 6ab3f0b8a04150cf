"""Other clips, resolutions and classes: the laws that resampled weights keep, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dualformer.model.config import Config, Function, Position, Scale, Size3, Stage
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, preset_config
from dualformer.model.pyramid import Pyramid, resample_kernel
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.resample import Peg, resample_state
from dualformer.weights.safetensors_file import load_pretrained, save_weights


def saved(path: Path, clip: Size3, labels: tuple[str, ...] = ("a", "b", "c")) -> DualFormer:
    model = create_model("dualformer_nano", clip=clip, num_classes=len(labels), seed=1)
    pre = kinetics(frames=clip[0], size=clip[1])
    card = Card(config=model.config, labels=labels, preprocessing=pre, provenance="", licence="")
    save_weights(path, model, card)
    return model


def network(position: Position = "peg", function: Function = "depthwise", *, clip: Size3 = (8, 40, 48)) -> Config:
    """Two stages with every kind of tensor that follows the clip, small enough for float64."""
    scales = (Scale(grid=(2, 3, 4), function=function), Scale(grid=(2, 2, 2), factorised=function != "average"))
    stages = (
        Stage(channels=8, depth=1, patch=(2, 4, 4), window=(2, 4, 3), scales=scales),
        Stage(channels=16, depth=2, patch=(1, 2, 2), window=(3, 2, 2), scales=scales[:1]),
    )
    return Config(stages=stages, clip=clip, num_classes=5, head_dim=8, position=position)


def strange(config: Config, seed: int = 0) -> DualFormer:
    """A float64 network whose every tensor is far from what it is at the start, in eval mode."""
    model = DualFormer(config, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(drawn.abs() + 0.5 if key.endswith("running_var") else tensor + 0.2 * drawn)
    return model


def refit(model: DualFormer, config: Config, peg: Peg = "middle") -> tuple[DualFormer, list[str]]:
    state, notes = resample_state(model.state_dict(), model.config, config, peg=peg)
    other = DualFormer(config, seed=9).double().eval()
    other.load_state_dict(state)
    return other, notes


@torch.no_grad()
def difference(one: DualFormer, other: DualFormer, video: Tensor) -> float:
    return float((one.forward_features(video) - other.forward_features(video)).abs().max())


@pytest.mark.parametrize("clip", [(16, 64, 64), (3, 33, 47), (5, 20, 90), (1, 16, 16), (2, 40, 48), (9, 7, 1)])
@pytest.mark.parametrize(
    ("position", "function"),
    [("peg", "depthwise"), ("absolute", "depthwise"), ("relative", "full"), ("none", "average"), ("peg", "full")],
)
def test_weights_cut_for_a_clip_give_what_the_network_gives_for_it(
    position: Position, function: Function, clip: Size3
) -> None:
    model = strange(network(position, function))
    cut, notes = refit(model, model.config.replace(clip=clip))
    video = torch.randn(2, 3, *clip, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert difference(model, cut, video) < 1e-10
    assert notes or function == "average"


def test_a_peg_of_one_frame_is_the_exception() -> None:
    model = strange(network(clip=(2, 40, 48)))
    assert model.get_parameter("stages.0.position.conv.weight").shape == (8, 1, 1, 3, 3)
    video = torch.randn(1, 3, 8, 40, 48, dtype=torch.float64)
    middle, notes = refit(model, network())
    assert difference(model, middle, video) < 1e-10
    assert "PEG kernels, put into the middle of three frames: stage 1 1x3x3 → 3x3x3, stage 2 1x3x3 → 3x3x3" in notes
    spread, notes = refit(model, network(), "spread")
    assert difference(model, spread, video) > 1e-3
    assert "PEG kernels, spread over three frames: stage 1 1x3x3 → 3x3x3, stage 2 1x3x3 → 3x3x3" in notes
    _, notes = refit(spread, model.config)
    said = "PEG kernels, the middle of three frames, as maps of one frame have no other: stage 1 3x3x3 → 1x3x3"
    assert any(note.startswith(said) for note in notes)


def test_absolute_tables_are_interpolated() -> None:
    model = strange(network("absolute"))
    cut, notes = refit(model, network("absolute", clip=(16, 40, 96)))
    assert [note for note in notes if note.startswith("absolute")] == [
        "absolute positions in space, interpolated: stage 1 1x10x12 → 1x10x24, stage 2 1x5x6 → 1x5x12",
        "absolute positions in time, interpolated: stage 1 4x1x1 → 8x1x1, stage 2 4x1x1 → 8x1x1",
    ]
    old, new = (each.get_parameter("stages.0.table.time").flatten(1) for each in (model, cut))
    torch.testing.assert_close(new[0], old[0])
    torch.testing.assert_close(new[1], 0.75 * old[0] + 0.25 * old[1])
    torch.testing.assert_close(new[2], 0.25 * old[0] + 0.75 * old[1])
    still, notes = refit(strange(network("absolute", clip=(1, 40, 48))), network("absolute"))
    assert any("absolute positions in time, interpolated: stage 1 1x1x1 → 4x1x1" in note for note in notes)
    table = still.get_parameter("stages.0.table.time")
    assert torch.equal(table, table[:1].expand(4, 1, 1, 8))


def windows(config: Config, *sizes: Size3) -> Config:
    stages = tuple(replace(stage, window=size) for stage, size in zip(config.stages, sizes, strict=True))
    return config.replace(stages=stages)


def test_relative_tables_keep_their_ends_and_their_centre() -> None:
    source = network("relative")
    model = strange(source)
    cut, notes = refit(model, windows(source, (4, 4, 6), (1, 2, 2)))
    assert notes == ["relative positions, interpolated: stage 1 2x4x3 → 4x4x6, stage 2 3x2x2 → 1x2x2"]
    name = "stages.{}.blocks.0.0.attn.bias.table"
    old, new = (each.get_parameter(name.format(0)) for each in (model, cut))
    assert new.shape == (7, 7, 11, 1)
    torch.testing.assert_close(new[0::3, :, 0::5], old[:, :, 0::2])  # the ends and the centre
    torch.testing.assert_close(new[1, :, 0], 2 / 3 * old[0, :, 0] + 1 / 3 * old[1, :, 0])
    torch.testing.assert_close(new[3, :, 1], 0.6 * old[1, :, 0] + 0.4 * old[1, :, 1])
    old, new = (each.get_parameter(name.format(1)) for each in (model, cut))
    assert torch.equal(new, old[2:3])
    longer, _ = refit(cut, windows(source, (4, 4, 6), (3, 2, 2)))
    assert torch.equal(longer.get_parameter(name.format(1)), new.expand(5, 3, 3, 2))


def test_windows_without_tables_need_nothing() -> None:
    source = network()
    model = strange(source)
    other, notes = refit(model, windows(source, (4, 7, 7), (8, 7, 7)))
    assert notes == []
    for key, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor), key


def test_half_precision_is_resampled_exactly() -> None:
    source = network()
    state = {key: t.half() if t.is_floating_point() else t for key, t in strange(source).state_dict().items()}
    fitted, _ = resample_state(state, source, source.replace(clip=(16, 64, 64)))
    key = "stages.0.blocks.0.1.attn.pyramid.scales.0.conv.weight"
    assert torch.equal(fitted[key], resample_kernel(state[key].double(), (4, 5, 4)).half())
    assert all(tensor.dtype == state[key].dtype for key, tensor in fitted.items())


def test_half_the_frames_and_back() -> None:
    source = preset_config("dualformer_nano", clip=(32, 64, 64), num_classes=3, position="none")
    model = strange(source)
    half, _ = refit(model, source.replace(clip=(16, 64, 64)))
    back, _ = refit(half, source)
    changed = {key for key, tensor in back.state_dict().items() if not torch.equal(tensor, model.state_dict()[key])}
    assert changed
    assert all(".pyramid.scales." in key and key.endswith((".conv.weight", ".rest.weight")) for key in changed)
    for key in changed:  # neighbouring frames share what they had together, and no more is lost the next time
        taps = model.state_dict()[key].unflatten(2, (-1, 2))
        torch.testing.assert_close(back.state_dict()[key], taps.mean(3, keepdim=True).expand_as(taps).flatten(2, 3))
    again, _ = refit(refit(back, source.replace(clip=(16, 64, 64)))[0], source)
    image, clip = torch.randn(1, 3, 1, 64, 64, dtype=torch.float64), torch.randn(1, 3, 32, 64, 64, dtype=torch.float64)
    assert difference(again, back, clip) < 1e-10
    assert difference(model, back, image.expand(-1, -1, 32, -1, -1)) < 1e-10
    with torch.no_grad():
        before, after = model(clip), back(clip)
    assert 1e-3 < float((after - before).abs().max() / before.abs().max()) < 1
    there, _ = refit(half, source.replace(clip=(32, 64, 64)))
    assert difference(half, refit(there, half.config)[0], clip) < 1e-10


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
    into.double().load_state_dict(state)
    return into.eval()


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
        (
            "function",
            {"scales": (Scale(grid=(1, 7, 7), function="full"), Scale(grid=(4, 4, 4)))},
            r"stage 1 scales is fine and coarse in the weights and fine \(full\) and fine in the network; choose",
        ),
    ],
)
def test_other_differences_are_named(name: str, change: dict[str, Any], says: str) -> None:
    source = preset_config("dualformer_nano", clip=(4, 32, 32), num_classes=3)
    target = source.replace(stages=(replace(source.stages[0], **change), *source.stages[1:]))
    with pytest.raises(WeightsError, match=says):
        resample_state({}, source, target)


def test_heads_of_another_width_are_refused() -> None:
    source = preset_config("dualformer_nano", clip=(4, 32, 32))
    for change, says in (
        ({"head_dim": 16}, "head_dim is 32"),
        ({"mlp_ratio": 2}, "mlp_ratio is 4"),
        ({"position": "none"}, "position is peg in the weights and none in the network"),
    ):
        with pytest.raises(WeightsError, match=says):
            resample_state({}, source, source.replace(**change))
    with pytest.raises(WeightsError, match="number of stages is 4 in the weights and 3"):
        resample_state({}, source, source.replace(stages=source.stages[:3]))


def test_no_tensor_is_dropped_or_missed() -> None:
    source = network()
    state = strange(source).state_dict()
    target = source.replace(clip=(16, 64, 64), num_classes=0)
    fitted, notes = resample_state(state, source, target)
    assert fitted.keys() == state.keys() - {"head.weight", "head.bias"}
    assert notes[-1] == "classifier: 5 → 0 classes, left out"
    for change, says in (
        ({"extra": torch.zeros(1)}, "1 unexpected: extra"),
        ({"norm.bias": torch.zeros(4)}, "1 of another shape: norm.bias 4 instead of 16"),
    ):
        with pytest.raises(WeightsError, match=says):
            resample_state({**state, **change}, source, target)
    with pytest.raises(WeightsError, match=r"1 missing: norm\.bias"):
        resample_state({key: tensor for key, tensor in state.items() if key != "norm.bias"}, source, target)


def weights_but_head(model: DualFormer) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("head.")}


def test_start_with_other_classes(tmp_path: Path) -> None:
    source = saved(tmp_path / "w", (4, 32, 32))
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=8, seed=2)
    head = model.get_parameter("head.weight").clone()
    assert load_pretrained(model, tmp_path / "w") == ["classifier: 3 → 8 classes, started anew"]
    assert torch.equal(model.get_parameter("head.weight"), head)
    for key, tensor in weights_but_head(source).items():
        assert torch.equal(model.state_dict()[key], tensor), key


def test_start_without_classes(tmp_path: Path) -> None:
    saved(tmp_path / "w", (4, 32, 32))
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=0, seed=2)
    assert load_pretrained(model, tmp_path / "w") == ["classifier: 3 → 0 classes, left out"]


def test_start_with_the_same_classes(tmp_path: Path) -> None:
    source = saved(tmp_path / "w", (4, 32, 32))
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=2)
    assert load_pretrained(model, tmp_path / "w", labels=("a", "b", "c")) == []
    for key, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key


@pytest.mark.parametrize("labels", [("a", "c", "b"), ("x", "y", "z")])
def test_as_many_but_other_classes(tmp_path: Path, labels: tuple[str, ...]) -> None:
    saved(tmp_path / "w", (4, 32, 32))
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=2)
    head = model.get_parameter("head.weight").clone()
    notes = load_pretrained(model, tmp_path / "w", labels=labels)
    assert notes == ["classifier: 3 classes with other names or in another order, started anew"]
    assert torch.equal(model.get_parameter("head.weight"), head)


def test_start_with_another_clip(tmp_path: Path) -> None:
    source = saved(tmp_path / "w", (8, 64, 64))
    model = create_model("dualformer_nano", clip=(16, 112, 112), num_classes=3, seed=2)
    notes = load_pretrained(model, tmp_path / "w")
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
        load_pretrained(tiny, tmp_path / "w")
    with pytest.raises(FileNotFoundError):
        load_pretrained(tiny, tmp_path / "none")
