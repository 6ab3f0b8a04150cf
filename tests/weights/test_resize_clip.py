"""Images to videos, and the same network for other clips: what a static video gives, and what the new card says."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Config, Function, Position, Scale, Size3
from dualformer.model.kernels.depthwise import DepthwiseConv3d
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models, preset_config
from dualformer.video.preprocessing import Preprocessing, kinetics
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.resample import is_image_network, resample_state
from dualformer.weights.resize_clip import inflate, resize_clip, video_config
from dualformer.weights.safetensors_file import load_pretrained, load_weights, read_card, save_weights

CLIP = (16, 64, 64)


def strange(config: Config, seed: int = 0) -> DualFormer:
    """A float64 network whose every tensor is far from what it is at the start, in eval mode."""
    model = DualFormer(config, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(drawn.abs() + 0.5 if key.endswith("running_var") else tensor + 0.05 * drawn)
    return model


def of_functions(config: Config, function: Function) -> Config:
    """``config`` with another pyramid function in every scale."""

    def changed(scale: Scale) -> Scale:
        return replace(scale, function=function, factorised=scale.factorised and function != "average")

    stages = tuple(replace(stage, scales=tuple(map(changed, stage.scales))) for stage in config.stages)
    return config.replace(stages=stages)


def images(position: Position = "peg", function: Function = "depthwise", *, size: int = 64) -> DualFormer:
    config = preset_config("dualformer_nano", clip=(1, size, size), num_classes=3, position=position)
    return strange(of_functions(config, function))


@torch.no_grad()
def by_frame(image_model: DualFormer, video_model: DualFormer, clip: Size3) -> Tensor:
    """How far the features of a static video's frames are from the image's, as part of their largest value: T'."""
    image = torch.randn(1, 3, 1, *clip[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = image_model.forward_features(image)
    found = video_model.forward_features(image.expand(1, 3, *clip))
    return (found - wanted).abs().amax(dim=(0, 1, 3, 4)) / wanted.abs().max()


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("clip", [(2, 32, 32), (5, 48, 48), (16, 112, 112), (32, 224, 224)])
def test_presets_of_images_become_presets_of_videos(name: str, clip: Size3) -> None:
    config = preset_config(name, clip=(1, *clip[1:]), num_classes=7, drop_path=0.1)
    assert is_image_network(config)
    assert video_config(config, clip) == preset_config(name, clip=clip, num_classes=7, drop_path=0.1)
    assert not is_image_network(video_config(config, clip))


def test_other_patches_and_windows_keep_their_size_in_space() -> None:
    base = preset_config("dualformer_nano", clip=(1, 64, 64))
    stages = [replace(stage, window=(1, 4, 2)) for stage in base.stages]
    stages[0] = replace(stages[0], patch=(1, 8, 8), scales=(Scale(grid=(1, 2, 3), function="average"),))
    config = video_config(base.replace(stages=tuple(stages)), (16, 64, 64))
    assert [stage.window for stage in config.stages] == [(8, 4, 2)] * 4
    assert [stage.patch for stage in config.stages] == [(2, 8, 8), *[(1, 2, 2)] * 3]
    assert config.stages[0].scales == (Scale(grid=(4, 2, 3), function="average"),)


@pytest.mark.parametrize("clip", [CLIP, (16, 96, 80)])
@pytest.mark.parametrize(
    ("position", "function"),
    [("peg", "depthwise"), ("peg", "full"), ("absolute", "depthwise"), ("relative", "average"), ("none", "full")],
)
def test_a_static_video_gives_the_image_s_features(position: Position, function: Function, clip: Size3) -> None:
    model = images(position, function)
    assert by_frame(model, inflate(model, clip), clip).max() < 1e-10


@pytest.mark.parametrize("clip", [(32, 64, 64), (6, 64, 64), (14, 32, 48)])
def test_it_does_for_every_length_if_the_scales_have_as_many_cells_in_time(clip: Size3) -> None:
    model = images()
    preset = inflate(model, clip)
    assert by_frame(model, preset, clip).max() > 1e-4  # stages 1 and 2 count one scale's priors more often
    config = preset.config
    stages = tuple(
        replace(stage, scales=tuple(replace(scale, grid=(3, *scale.grid[1:])) for scale in stage.scales))
        for stage in config.stages
    )
    even = DualFormer(config.replace(stages=stages), seed=0).double().eval()
    even.load_state_dict(resample_state(model.state_dict(), model.config, even.config)[0])
    assert by_frame(model, even, clip).max() < 1e-10


def test_a_spread_peg_gives_it_where_time_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model = images()
    video = inflate(model, CLIP, peg="spread")
    apart = by_frame(model, video, CLIP)
    assert apart[0] > 0.05 and apart[-1] > 0.05  # the PEG sees padding there
    assert 1e-4 < apart[3:5].max() < 0.2 * apart[0]  # and GP-MSA tells the others of it

    def repeating(conv: DepthwiseConv3d, x: Tensor) -> Tensor:
        if conv.kernel_size[0] == 3:
            x = F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")
        return F.conv3d(x, conv.weight, conv.bias, padding=(0, 1, 1), groups=conv.groups)

    monkeypatch.setattr(DepthwiseConv3d, "forward", repeating)
    assert by_frame(model, video, CLIP).max() < 1e-10


def test_a_spread_peg_changes_only_the_first_and_last_frame_before_anything_is_global() -> None:
    model = images()
    maps: list[Tensor] = []
    image = torch.randn(1, 3, 1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for network, clip in ((model, image), (inflate(model, CLIP, peg="spread"), image.expand(-1, -1, 16, -1, -1))):

        def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], out: Tensor) -> None:
            maps.append(out)

        handle = network.get_submodule("stages.0.position").register_forward_hook(keep)
        with torch.no_grad():
            network(clip)
        handle.remove()
    apart = (maps[1] - maps[0]).abs().amax(dim=(0, 2, 3, 4))
    assert apart[1:-1].max() < 1e-10
    assert min(apart[0], apart[-1]) > 0.01


def test_inflated_kernels_by_hand() -> None:
    model = images()
    before, after = model.state_dict(), inflate(model, CLIP, peg="spread").state_dict()
    assert before.keys() == after.keys()
    attn = "stages.0.blocks.0.1.attn.pyramid.scales"
    for name, frames in {
        "stages.0.embed.proj.weight": 2,
        "stages.1.embed.proj.weight": 1,
        "stages.0.position.conv.weight": 3,
        f"{attn}.0.conv.weight": 2,
        f"{attn}.1.space.weight": 1,
        f"{attn}.1.rest.weight": 2,
    }.items():
        assert before[name].shape[2] == 1
        torch.testing.assert_close(after[name], before[name].expand(-1, -1, frames, -1, -1) / frames)
    for name in (f"{attn}.1.norm.running_mean", f"{attn}.1.norm.running_var", "head.weight"):
        assert torch.equal(after[name], before[name])
    middle = inflate(model, CLIP).state_dict()["stages.0.position.conv.weight"]
    assert torch.equal(middle[:, :, 1], before["stages.0.position.conv.weight"][:, :, 0])
    assert not middle[:, :, ::2].any()


def test_an_inflated_network_is_its_own() -> None:
    model = images().float().train()
    video = inflate(model, CLIP)
    assert video.training and not inflate(model.eval(), CLIP).training
    assert video.norm.weight.dtype == torch.float32 and video.norm.weight.requires_grad
    with torch.no_grad():
        video.norm.weight.zero_()
    assert model.norm.weight.all()


def test_what_cannot_be_inflated() -> None:
    with torch.device("meta"):
        video = create_model("dualformer_nano", clip=CLIP, seed=0)
        image = create_model("dualformer_nano", clip=(1, 64, 64), seed=0)
    with pytest.raises(ValueError, match="only a network of images is inflated, and this one is cut for clips of 16x"):
        inflate(video, (32, 64, 64))
    with pytest.raises(ValueError, match="at least 2 frames, not 1"):
        inflate(image, (1, 64, 64))


def card_of(model: DualFormer, pre: Preprocessing, provenance: str = "a test", **metrics: float) -> Card:
    labels = tuple("abcdefgh"[: model.config.num_classes])
    return Card(
        config=model.config,
        labels=labels,
        preprocessing=pre,
        provenance=provenance,
        licence="mit",
        metrics=metrics,
    )


def test_the_card_of_an_inflated_network() -> None:
    model = images().float()
    pre = replace(kinetics(frames=1, stride=1, size=64), resize=80, std=(50.0, 51.0, 52.0))
    video, card, notes = resize_clip(model, card_of(model, pre, top1=0.5), (16, 128, 128))
    assert card.config == video.config == video_config(model.config, (16, 128, 128))
    assert card.preprocessing == replace(pre, frames=16, stride=2, crop=128, resize=160)
    assert (card.labels, card.licence, card.metrics) == (("a", "b", "c"), "mit", {})
    assert card.provenance == "inflated from a network of images of 1x64x64: a test"
    assert notes == [
        "a network of images, inflated to one of videos",
        "patch kernels, resampled: stage 1 1x4x4 → 2x4x4",
        "fine pyramid kernels, resampled: stage 1 1x2x2 → 2x4x4, stage 2 1x1x1 → 2x2x2, stage 3 1x1x1 → 2x2x2",
        "coarse pyramid kernels, space, resampled: stage 1 1x4x4 → 1x8x8, stage 2 1x2x2 → 1x4x4",
        "coarse pyramid kernels, rest, resampled: stage 1 1x1x1 → 2x1x1, stage 2 1x1x1 → 2x1x1",
        "PEG kernels, put into the middle of three frames: "
        + ", ".join(f"stage {number} 1x3x3 → 3x3x3" for number in (1, 2, 3, 4)),
        "preprocessing: 16 frames, one in 2, short side 160, crop 128 (it was 1 frame, short side 80, crop 64)",
        "figures left out, as they were measured with clips of 1x64x64",
    ]


def test_the_card_of_a_resampled_network() -> None:
    model = strange(preset_config("dualformer_nano", clip=CLIP, num_classes=3))
    old = card_of(model, kinetics(frames=16, stride=4, size=64), "")
    cut, card, notes = resize_clip(model, old, (8, 48, 48))
    assert card.config == model.config.replace(clip=(8, 48, 48))
    assert card.preprocessing == kinetics(frames=8, stride=4, size=48)
    assert card.provenance == "resampled from a network for clips of 16x64x64"
    assert not any("inflated" in note or "figures" in note for note in notes)
    clip = torch.randn(1, 3, 8, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(cut(clip), model(clip), atol=1e-10, rtol=0)
    assert resize_clip(model, old, (8, 48, 48), stride=7)[1].preprocessing.stride == 7
    assert resize_clip(model, old, CLIP) == (model, old, [])
    with pytest.raises(ValueError, match="8x48x64 is not square"):
        resize_clip(model, old, (8, 48, 64))
    with pytest.raises(ValueError, match="stride must be a whole number of at least 1, not 0"):
        resize_clip(model, old, (8, 48, 48), stride=0)
    with pytest.raises(ValueError, match="clip must be whole numbers of at least 1"):
        resize_clip(model, old, (0, 48, 48))


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    model = images().float()
    save_weights(tmp_path / "images.safetensors", model, card_of(model, kinetics(frames=1, stride=1, size=64)))
    return tmp_path / "images.safetensors"


def test_starting_videos_from_images(image_file: Path) -> None:
    model = create_model("dualformer_nano", clip=CLIP, num_classes=8, seed=1)
    notes = load_pretrained(model, image_file)
    assert notes[0] == "a network of images, inflated to one of videos"
    assert notes[-1] == "classifier: 3 → 8 classes, started anew"
    wanted = inflate(load_weights(image_file)[0], CLIP).state_dict()
    for key, tensor in model.state_dict().items():
        assert key.startswith("head.") or torch.equal(tensor, wanted[key]), key


def test_videos_do_not_start_images(tmp_path: Path) -> None:
    model = create_model("dualformer_nano", clip=CLIP, num_classes=3, seed=1)
    save_weights(tmp_path / "v", model, card_of(model, kinetics(frames=16, size=64)))
    image = create_model("dualformer_nano", clip=(1, 64, 64), num_classes=3, seed=1)
    with pytest.raises(WeightsError, match=r"v: .*stage 1 patch is \(2, 4, 4\) in the weights and \(1, 4, 4\) in"):
        load_pretrained(image, tmp_path / "v")


def test_loading_for_another_clip_says_what_it_did(image_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="dualformer"):
        model, card = load_weights(image_file, clip=CLIP)
    assert model.config == card.config == preset_config("dualformer_nano", clip=CLIP, num_classes=3)
    assert not model.training
    assert f"{image_file}: patch kernels, resampled: stage 1 1x4x4 → 2x4x4" in caplog.messages
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="dualformer"):
        assert load_weights(image_file, clip=(1, 64, 64))[1] == read_card(image_file)
    assert caplog.messages == []
