"""Twins-SVT checkpoints: the library's numbers, the names of three families of files, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualformer.model.config import Config, Scale
from dualformer.model.network import DualFormer
from dualformer.model.presets import preset_config
from dualformer.weights.errors import WeightsError
from dualformer.weights.layouts import is_exact, standard_config, standard_layout
from dualformer.weights.release import release_state
from dualformer.weights.resize_clip import inflate
from dualformer.weights.safetensors_file import load_pretrained, load_weights, read_card
from dualformer.weights.twins import Style, config_from_twins, is_twins, twins_card, twins_key, twins_network

SIZES = {"small": ("dualformer_tiny", 24.06), "base": ("dualformer_small", 56.07), "large": ("dualformer_base", 99.27)}
STYLES: tuple[Style, ...] = ("hub", "mmpretrain")


def exact_config(preset: str, classes: int = 1000) -> Config:
    """The network of images that a published Twins-SVT file is of."""
    config = preset_config(preset, clip=(1, 224, 224), num_classes=classes, norm_eps=1e-6)
    stages = (
        replace(stage, scales=tuple(Scale(grid=scale.grid, function="full") for scale in stage.scales[:1]))
        for stage in config.stages
    )
    return config.replace(stages=tuple(stages))


def twins_tensors(config: Config, style: Style, *, seed: int | None = None) -> dict[str, Tensor]:
    """Tensors of a Twins-SVT file: random with a seed, else one number each, which takes no memory."""
    with torch.device("meta" if seed is None else "cpu"):
        own = DualFormer(config, seed=seed or 0).state_dict()
    state: dict[str, Tensor] = {}
    for key, tensor in own.items():
        plain = tensor[:, :, 0] if tensor.dim() == 5 else tensor
        state[twins_key(key, style)] = torch.zeros(()).expand(plain.shape) if seed is None else plain.contiguous()
    return state


@pytest.fixture(scope="module")
def mini() -> dict[str, Tensor]:
    return twins_tensors(exact_config("dualformer_nano", classes=5), "hub", seed=1)


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "twins_mini.safetensors"


@pytest.fixture(scope="module")
def outputs(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "golden" / "twins_mini_outputs.safetensors")


def largest(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max())


def test_the_library_s_numbers(golden: Path, outputs: dict[str, Tensor]) -> None:
    model, card = load_weights(golden)
    assert (card.config.clip, card.config.num_classes, card.config.norm_eps) == ((1, 224, 224), 10, 1e-6)
    assert [stage.depth for stage in card.config.stages] == [1, 1, 2, 1]
    picture = outputs["image"][:, :, None]
    with torch.inference_mode():
        features, maps = model.forward_intermediates(picture)
        logits = model.forward_head(features)
    assert largest(logits, outputs["logits"]) < 1e-5
    assert largest(features[:, :, 0].flatten(2).transpose(1, 2), outputs["features"]) < 1e-5
    for number, each in enumerate(maps, 1):
        assert largest(each[:, :, 0], outputs[f"stage{number}"]) < 1e-5


def test_a_picture_and_a_video_of_it_give_the_same(golden: Path, outputs: dict[str, Tensor]) -> None:
    images, _ = load_weights(golden)
    videos = inflate(images, (16, 224, 224))
    assert is_exact(videos.config)
    picture = outputs["image"][:1, :, None]
    with torch.inference_mode():
        features = images.forward_features(picture)
        still = videos.forward_features(picture.expand(-1, -1, 16, -1, -1))
        assert largest(still, features.expand_as(still)) < 1e-5  # every frame
        assert largest(videos.forward_head(still), outputs["logits"][:1]) < 1e-5


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", SIZES)
def test_full_size_files_are_recognised_by_their_shapes(size: str, style: Style) -> None:
    preset, millions = SIZES[size]
    state = twins_tensors(exact_config(preset), style)
    assert is_twins(size, state)
    assert config_from_twins(state) == exact_config(preset)
    model, card = twins_network(size, state), twins_card(size, state)
    assert f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f}" == f"{millions}"
    assert (card.labels[0], card.labels[207], card.labels[999]) == ("tench", "golden retriever", "toilet tissue")
    assert standard_config(card.config).replace(norm_eps=1e-5) == preset_config(
        preset, clip=(1, 224, 224), num_classes=1000
    )


def test_every_style_gives_the_same_network(mini: dict[str, Tensor]) -> None:
    other = twins_tensors(exact_config("dualformer_nano", classes=5), "mmpretrain", seed=1)
    assert {
        "backbone.patch_embeds.1.projection.weight",
        "backbone.stages.2.1.ffn.layers.0.0.bias",
        "backbone.stages.0.1.attn.sr.weight",
        "backbone.position_encodings.3.proj.weight",
        "backbone.norm_after_stage3.bias",
        "head.fc.weight",
    } <= set(other)
    assert {"blocks.0.1.attn.sr.weight", "pos_block.3.proj.0.weight", "norm.bias", "head.weight"} <= set(mini)
    wrapped = {f"module.{key}": tensor for key, tensor in other.items()}
    networks = [twins_network("w", state) for state in (mini, other, wrapped)]
    for key, tensor in networks[0].state_dict().items():
        assert all(torch.equal(tensor, each.state_dict()[key]) for each in networks), key


def test_half_precision_and_a_network_without_classifier(mini: dict[str, Tensor]) -> None:
    state = {key: tensor.half() for key, tensor in mini.items() if not key.startswith("head.")}
    model = twins_network("w", state)
    assert model.config.num_classes == 0
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("style", STYLES)
def test_missing_extra_and_misshaped_tensors_are_listed(style: Style) -> None:
    state = twins_tensors(exact_config("dualformer_nano", classes=5), style, seed=1)
    names = {
        own: twins_key(own, style)
        for own in (
            "stages.0.embed.proj.weight",
            "stages.1.blocks.0.1.attn.pyramid.scales.0.conv.weight",
            "stages.0.blocks.0.0.attn.qkv.weight",
            "stages.2.blocks.0.0.norm1.weight",
            "stages.3.blocks.0.1.mlp.fc2.bias",
        )
    }
    for own, name in names.items():
        if own != "stages.1.blocks.0.1.attn.pyramid.scales.0.conv.weight":
            with pytest.raises(WeightsError, match=rf"w: .*\(1 missing: {name}\); it is of another network"):
                without = {key: tensor for key, tensor in state.items() if key != name}
                assert is_twins("w", without)
                twins_network("w", without)
    sr, bias = names["stages.1.blocks.0.1.attn.pyramid.scales.0.conv.weight"], names["stages.3.blocks.0.1.mlp.fc2.bias"]
    del state[names["stages.0.embed.proj.weight"]]
    state |= {sr: torch.zeros(64, 1, 4, 4), bias: torch.zeros(7), "ema.decay": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        twins_network("w", state)
    missing = names["stages.0.embed.proj.weight"]
    assert f"1 missing: {missing}; 1 unexpected: ema.decay; 2 of another shape: " in str(caught.value)
    assert f"{sr} 64x1x4x4 instead of 64x64x4x4" in str(caught.value)
    assert f"{bias} 7 instead of 256" in str(caught.value)
    assert "\n" not in str(caught.value)


def pcpvt(state: dict[str, Tensor], style: Style) -> dict[str, Tensor]:
    """The same names as a Twins-PCPVT file has: no block attends within windows."""
    first = "backbone.stages" if style == "mmpretrain" else "blocks"
    changed = dict(state)
    for kind in ("weight", "bias"):
        qkv = changed.pop(f"{first}.0.0.attn.qkv.{kind}")
        changed |= {f"{first}.0.0.attn.q.{kind}": qkv[:32], f"{first}.0.0.attn.kv.{kind}": qkv[32:]}
    return changed


@pytest.mark.parametrize("style", STYLES)
def test_its_relatives_are_told_apart(style: Style) -> None:
    state = twins_tensors(exact_config("dualformer_nano", classes=5), style, seed=1)
    with pytest.raises(WeightsError, match=r"^w: a Twins-PCPVT checkpoint, whose blocks all attend globally"):
        is_twins("w", pcpvt(state, style))
    segmentation = {f"backbone.{key.removeprefix('backbone.')}": tensor for key, tensor in state.items()}
    segmentation["decode_head.conv_seg.weight"] = torch.zeros(150, 256, 1, 1)
    with pytest.raises(WeightsError, match=r"^w: a segmentation checkpoint \(decode_head\.conv_seg\.weight\)"):
        is_twins("w", segmentation)
    with pytest.raises(WeightsError, match="a detection checkpoint"):
        is_twins("w", {**state, "roi_head.bbox_head.fc_cls.weight": torch.zeros(81, 8)})


def test_dualformer_tensors_are_none_of_twins(tmp_path: Path) -> None:
    model = DualFormer(preset_config("dualformer_nano", clip=(8, 64, 64), num_classes=3), seed=0)
    released = {key: tensor.contiguous() for key, tensor in release_state(model).items()}
    assert not is_twins("w", released)
    assert not is_twins("w", model.state_dict())
    assert not is_twins("w", {"conv1.weight": torch.zeros(3)})
    save_file(released, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="with the tensors of a released DualFormer checkpoint"):
        read_card(tmp_path / "w.safetensors")
    save_file(pcpvt(twins_tensors(exact_config("dualformer_nano"), "hub", seed=1), "hub"), tmp_path / "p.safetensors")
    with pytest.raises(WeightsError, match="a Twins-PCPVT checkpoint"):
        load_weights(tmp_path / "p.safetensors")


def test_a_folder_of_the_hub(mini: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(mini, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "twins_svt_small", "num_classes": 5}))
    model, card = load_weights(tmp_path)
    assert card == read_card(tmp_path / "model.safetensors")
    assert (card.labels, card.licence) == (("0", "1", "2", "3", "4"), "Apache-2.0")
    assert card.provenance == "Twins-SVT checkpoint twins_svt_small"
    assert (card.preprocessing.frames, card.preprocessing.resize, card.preprocessing.crop) == (1, 248, 224)
    assert torch.equal(model.state_dict()["head.weight"], mini["head.weight"])
    (tmp_path / "config.json").write_text("[not json")
    assert load_weights(tmp_path)[1].licence == "unknown"


def test_a_repository_in_the_hub_s_cache(
    mini: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached_repository(tmp_path, "timm/twins_svt_small.in1k", mini)
    model, card = load_weights("timm/twins_svt_small.in1k")
    assert card.provenance == "Twins-SVT checkpoint twins_svt_small"
    assert torch.equal(model.norm.weight, mini["norm.weight"])
    with pytest.raises(WeightsError, match=r"of https://huggingface\.co/timm/twins_svt_base\.in1k elsewhere"):
        load_weights("timm/twins_svt_base.in1k")


def test_a_folder_of_the_hubs_cache_is_read_by_its_snapshot(mini: dict[str, Tensor], tmp_path: Path) -> None:
    cached_repository(tmp_path, "timm/twins_svt_small.in1k", mini)
    folder = tmp_path / "models--timm--twins_svt_small.in1k"
    _, card = load_weights(folder)
    assert card.provenance == "Twins-SVT checkpoint twins_svt_small"
    (own,) = (folder / "snapshots").iterdir()
    shutil.copytree(own, own.with_name("zero"))
    with pytest.raises(
        WeightsError, match=rf"there is no model\.safetensors in it; name one of its snapshots, as {own}"
    ):
        load_weights(folder)


def cached_repository(cache: Path, hub_id: str, state: dict[str, Tensor]) -> None:
    """Lays tensors and a config out as ``huggingface_hub`` keeps what it has fetched."""
    repository, commit = cache / f"models--{hub_id.replace('/', '--')}", "0123456789abcdef0123456789abcdef01234567"
    snapshot = repository / "snapshots" / commit
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    save_file(state, repository / "blobs" / "tensors")
    (repository / "blobs" / "config").write_text(json.dumps({"architecture": "twins_svt_small"}))
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/tensors"))
    (snapshot / "config.json").symlink_to(Path("../../blobs/config"))


def test_the_standard_layout(mini: dict[str, Tensor]) -> None:
    model = twins_network("w", mini)
    state, config, [note] = standard_layout(model.state_dict(), model.config, seed=4)
    assert config.replace(norm_eps=1e-5) == preset_config("dualformer_nano", clip=(1, 224, 224), num_classes=5)
    fresh = sum(
        parameter.numel()
        for name, parameter in DualFormer(config, seed=0).named_parameters()
        if ".pyramid.scales." in name and not name.endswith(".conv.bias")
    )
    assert f"{fresh:,} parameters of pyramids made anew" in note
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items() if "scales" not in key)
    kernel, full = state["stages.1.blocks.0.1.attn.pyramid.scales.0.conv.weight"], mini["blocks.1.1.attn.sr.weight"]
    assert all(torch.equal(kernel[channel, 0, 0], full[channel, channel]) for channel in range(64))
    with pytest.raises(ValueError, match="of Twins-SVT weights"):
        standard_layout(state, config)


def test_a_network_of_the_standard_layout_starts_from_the_exact_one(mini: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(mini, tmp_path / "w.safetensors")
    model = DualFormer(preset_config("dualformer_nano", clip=(16, 224, 224), num_classes=5, norm_eps=1e-6), seed=9)
    notes = load_pretrained(model, tmp_path / "w.safetensors")
    assert any(note.startswith("standard layout: ") for note in notes)
    assert any(note.startswith("patch kernels, resampled: stage 1 1x4x4 → 2x4x4") for note in notes)
    own = model.state_dict()
    assert torch.equal(own["stages.2.blocks.0.1.attn.kv.weight"], mini["blocks.2.1.attn.kv.weight"])
    other = DualFormer(model.config.replace(norm_eps=1e-5), seed=9)
    assert "LayerNorm's epsilon: 1e-06 in the weights, 1e-05 in the network" in load_pretrained(
        other, tmp_path / "w.safetensors"
    )
