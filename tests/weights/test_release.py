"""Released checkpoints: recognising the network by its shapes, renaming tensors, refusing what does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dualformer.model.config import Config, Function, Scale, Size3
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, preset_config
from dualformer.video.clip_reader import read_views
from dualformer.video.open_video import open_video
from dualformer.video.sampling import even_clips
from dualformer.weights.errors import WeightsError
from dualformer.weights.release import (
    config_from_release,
    convert_release,
    matching_presets,
    read_release,
    release_card,
    release_key,
    release_state,
)
from dualformer.weights.safetensors_file import load_model, load_weights, save_weights

CLIP = (8, 64, 64)


def released_config(name: str, frames: int) -> Config:
    """The released layout of a full-size preset; the 16-frame one keeps the fine grid (8, 7, 7)."""
    config = preset_config(name, clip=(frames, 224, 224))
    fine, coarse = Scale(grid=(8, 7, 7)), Scale(grid=(4, 4, 4), factorised=True)
    scales = ((fine, coarse), (fine, coarse), (fine,), ())
    stages = tuple(replace(stage, scales=each) for stage, each in zip(config.stages, scales, strict=True))
    return config.replace(stages=stages)


def save_release(path: Path, model: DualFormer, **changes: Tensor | None) -> Path:
    state = release_state(model)
    for key, tensor in changes.items():
        if tensor is None:
            del state[key]
        else:
            state[key] = tensor
    torch.save({"meta": {"epoch": 30}, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def small() -> DualFormer:
    model = create_model("dualformer_nano", clip=CLIP, num_classes=5, seed=0)
    model(torch.randn(2, 3, *CLIP, generator=torch.Generator().manual_seed(0)))  # moves the running statistics
    return model.eval()


@pytest.mark.parametrize("frames", [32, 16])
@pytest.mark.parametrize(
    ("name", "halves"), [("dualformer_tiny", 10), ("dualformer_small", 18), ("dualformer_base", 18)]
)
def test_full_size_files_are_recognised_by_their_shapes(name: str, halves: int, frames: int) -> None:
    config = released_config(name, frames)
    with torch.device("meta"):
        state = release_state(DualFormer(config, seed=0))
    assert config_from_release(state) == config
    assert config_from_release(state, (frames, 224, 224)) == config
    assert matching_presets(config) == [name]
    assert sum(key.startswith("backbone.blocks.2.") and key.endswith("norm1.weight") for key in state) == halves
    fine = state["backbone.blocks.0.1.attn.sr.weight"].shape
    assert fine == (config.stages[0].channels, 1, frames // 16, 8, 8)
    assert state["backbone.blocks.1.1.attn.lr.3.weight"].shape[2:] == (frames // 8, 1, 1)


def test_the_keys_are_the_release_s() -> None:
    for ours, theirs in {
        "stages.0.embed.proj.weight": "backbone.patch_embeds.0.proj.weight",
        "stages.3.embed.norm.bias": "backbone.patch_embeds.3.norm.bias",
        "stages.2.blocks.4.0.attn.qkv.weight": "backbone.blocks.2.8.attn.qkv.weight",
        "stages.2.blocks.4.1.attn.kv.bias": "backbone.blocks.2.9.attn.kv.bias",
        "stages.1.blocks.0.1.attn.proj.bias": "backbone.blocks.1.1.attn.proj.bias",
        "stages.1.blocks.0.1.mlp.fc2.bias": "backbone.blocks.1.1.mlp.fc2.bias",
        "stages.0.blocks.0.1.attn.pyramid.scales.0.conv.weight": "backbone.blocks.0.1.attn.sr.weight",
        "stages.0.blocks.0.1.attn.pyramid.scales.1.space.weight": "backbone.blocks.0.1.attn.lr.0.weight",
        "stages.0.blocks.0.1.attn.pyramid.scales.1.norm.running_var": "backbone.blocks.0.1.attn.lr.1.running_var",
        "stages.0.blocks.0.1.attn.pyramid.scales.1.rest.bias": "backbone.blocks.0.1.attn.lr.3.bias",
        "stages.0.blocks.0.1.attn.pyramid.norm.weight": "backbone.blocks.0.1.attn.norm.weight",
        "stages.0.blocks.0.1.norm2.weight": "backbone.blocks.0.1.norm2.weight",
        "stages.2.position.conv.weight": "backbone.pos_block.2.proj.0.weight",
        "norm.weight": "backbone.norm.weight",
        "head.bias": "cls_head.fc_cls.bias",
    }.items():
        assert release_key(ours) == theirs


def test_the_keys_are_those_of_a_released_file(shared: Path) -> None:
    state = read_release(shared / "golden" / "mini32.pth")
    model = convert_release(shared / "golden" / "mini32.pth").model
    assert release_state(model).keys() == state.keys()
    for key, tensor in release_state(model).items():
        assert torch.equal(tensor, state[key]), key


def test_a_full_size_tiny_converts_to_the_same_network(tmp_path: Path) -> None:
    config = released_config("dualformer_tiny", 16)
    model = DualFormer(config, seed=0).eval()
    path = save_release(tmp_path / "t.pth", model)
    converted, found, _ = convert_release(path, preset="dualformer_tiny", clip=(16, 224, 224))
    assert found == config
    clip = torch.randn(1, 3, 4, 64, 64)
    with torch.no_grad():
        assert torch.equal(converted(clip), model(clip))
    card = release_card(path, found, trained_on="kinetics", licence="apache-2.0")
    save_weights(tmp_path / "t.safetensors", converted, card)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "t.safetensors")(clip), model(clip))


def test_statistics_come_along(tmp_path: Path, small: DualFormer) -> None:
    converted = convert_release(save_release(tmp_path / "a.pth", small)).model
    for key, tensor in small.state_dict().items():
        assert torch.equal(converted.state_dict()[key], tensor), key
    assert not converted.training


def test_batch_counts_may_be_absent(tmp_path: Path, small: DualFormer) -> None:
    counts = [key for key in release_state(small) if key.endswith("num_batches_tracked")]
    assert len(counts) == 2
    converted = convert_release(save_release(tmp_path / "a.pth", small, **dict.fromkeys(counts))).model
    clip = torch.randn(1, 3, *CLIP)
    with torch.no_grad():
        assert torch.equal(converted(clip), small(clip))


def test_a_wrong_preset_is_told_apart(tmp_path: Path, small: DualFormer) -> None:
    path = save_release(tmp_path / "a.pth", small)
    with pytest.raises(WeightsError, match=r"not dualformer_tiny: its width by stage is \(32, 64, 128, 256\) instead"):
        convert_release(path, preset="dualformer_tiny")
    with torch.device("meta"):
        base = release_state(DualFormer(released_config("dualformer_base", 32), seed=0))
    assert matching_presets(config_from_release(base)) == ["dualformer_base"]
    with pytest.raises(ValueError, match="unknown model"):
        convert_release(path, preset="tiny")
    deeper = preset_config("dualformer_nano", clip=CLIP)
    stages = (*deeper.stages[:3], replace(deeper.stages[3], depth=2))
    path = save_release(tmp_path / "b.pth", DualFormer(deeper.replace(stages=stages), seed=0))
    with pytest.raises(WeightsError, match=r"its depth by stage is \(1, 1, 1, 2\) instead of \(1, 1, 1, 1\)"):
        convert_release(path, preset="dualformer_nano")
    assert convert_release(path)[1].stages[3].depth == 2


# The last one has maps of 17x17 tokens: cells of the same size, but the release would not see the last row and column.
@pytest.mark.parametrize("clip", [(16, 64, 64), (8, 128, 128), (8, 68, 68)])
def test_a_wrong_clip_is_told_apart(tmp_path: Path, small: DualFormer, clip: Size3) -> None:
    path = save_release(tmp_path / "a.pth", small)
    with pytest.raises(WeightsError, match=r"pyramid kernel of stage 1.*cut for 8x64x64, so leave `clip` out"):
        convert_release(path, clip=clip)


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path, small: DualFormer) -> None:
    path = save_release(
        tmp_path / "a.pth",
        small,
        **{
            "backbone.norm.bias": None,
            "teacher.weight": torch.zeros(1),
            "backbone.blocks.1.0.attn.qkv.weight": torch.zeros(3, 64),
        },
    )
    with pytest.raises(WeightsError) as caught:
        convert_release(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "1 missing: backbone.norm.bias" in message
    assert "1 unexpected: teacher.weight" in message
    assert "1 of another shape: backbone.blocks.1.0.attn.qkv.weight 3x64 instead of 192x64" in message


def test_files_that_are_no_release(tmp_path: Path, small: DualFormer) -> None:
    path = tmp_path / "a.pth"
    with pytest.raises(FileNotFoundError):
        read_release(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="not a"):
        read_release(path)
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match=r"it holds conv1\.weight and no backbone"):
        read_release(path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="it holds list"):
        read_release(path)
    whole = save_release(path, small).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a readable PyTorch checkpoint"):
        read_release(path)


class Bomb:
    """Pickles to a call that would leave a file behind, if anyone ran it."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.victim,)


def test_code_in_a_file_is_not_run(tmp_path: Path, small: DualFormer) -> None:
    torch.save({"meta": Bomb(tmp_path / "ran"), "state_dict": release_state(small)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="could run code"):
        read_release(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_networks_that_the_release_has_no_names_for() -> None:
    config = preset_config("dualformer_nano", clip=CLIP)
    for change in ({"kinds": "LL"}, {"scales": (Scale(grid=(2, 4, 4)), Scale(grid=(1, 2, 2)))}):
        stages = (replace(config.stages[0], **change), *config.stages[1:])
        with torch.device("meta"):
            model = DualFormer(config.replace(stages=stages), seed=0)
        with pytest.raises(ValueError, match="stage 1: the release has only LG blocks"):
            release_state(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"position": "none"}, "the release has only networks with position='peg', not 'none'"),
        ({"position": "relative"}, "not 'relative'"),
        ({"clip": (16, 112, 112)}, "stage 2: .* the grid 4x4x4 does not divide the map 8x14x14; choose a clip"),
    ],
)
def test_networks_that_the_release_could_not_run(change: dict[str, Any], says: str) -> None:
    config = preset_config("dualformer_nano", **({"clip": CLIP} | change))
    with torch.device("meta"):
        model = DualFormer(config, seed=0)
    with pytest.raises(ValueError, match=says):
        release_state(model)


@pytest.mark.parametrize("function", ["full", "average"])
def test_other_pyramid_functions_are_not_the_release_s(function: Function) -> None:
    config = preset_config("dualformer_nano", clip=CLIP)
    scales = (Scale(grid=(2, 4, 4), function=function),)
    stages = (*config.stages[:2], replace(config.stages[2], scales=scales), config.stages[3])
    with torch.device("meta"):
        model = DualFormer(config.replace(stages=stages), seed=0)
    with pytest.raises(ValueError, match=f"stage 3: the release has only depthwise pyramids, not '{function}'"):
        release_state(model)


def test_released_kernels_that_do_not_tile_their_maps_are_refused() -> None:
    config = preset_config("dualformer_nano", clip=CLIP)
    with torch.device("meta"):
        state = release_state(DualFormer(config, seed=0))
        state["backbone.blocks.2.1.attn.sr.weight"] = torch.empty(128, 1, 1, 3, 3)  # 3 does not divide a map of 4x4
    with pytest.raises(WeightsError, match="fine pyramid kernel of stage 3, 1x3x3, is not one for clips of 8x64x64"):
        config_from_release(state)


def test_the_card_of_a_release(tmp_path: Path, small: DualFormer) -> None:
    path = save_release(tmp_path / "a.pth", small)
    config = small.config
    card = release_card(path, config, trained_on="kinetics", labels=list("abcde"))
    assert card.labels == ("a", "b", "c", "d", "e")
    assert card.provenance.startswith("released checkpoint a.pth, sha256 ")
    assert (card.preprocessing.frames, card.preprocessing.crop) == (8, 64)
    assert release_card(path, config, trained_on="kinetics").labels == ("0", "1", "2", "3", "4")
    with pytest.raises(ValueError, match="2 labels do not fit a classifier of 5 classes"):
        release_card(path, config, trained_on="kinetics", labels=["a", "b"])
    for frames, kinetics, transfer in ((32, 2, 4), (16, 4, 4)):
        full = released_config("dualformer_tiny", frames)
        assert release_card(path, full, trained_on="kinetics").preprocessing.stride == kinetics
        assert release_card(path, full, trained_on="transfer").preprocessing.stride == transfer
    assert release_card(path, full, trained_on="transfer").preprocessing.mean == (104.0, 117.0, 128.0)
    views = card.preprocessing
    assert (views.placement, views.short_video, views.antialias) == ("middles", "loop", False)
    own = release_card(path, config, trained_on="kinetics", labels=list("abcde"), released=False).preprocessing
    assert (own.placement, own.short_video, own.antialias) == ("ends", "repeat", True)
    with pytest.raises(ValueError, match="not square"):
        release_card(path, config.replace(clip=(8, 64, 32)), trained_on="kinetics")


def test_a_converted_golden_file_keeps_its_outputs(shared: Path, tmp_path: Path) -> None:
    path = shared / "golden" / "mini16.pth"
    model, config, _ = convert_release(path)
    save_weights(tmp_path / "m.safetensors", model, release_card(path, config, trained_on="kinetics"))
    loaded, card = load_weights(tmp_path / "m.safetensors")
    assert (card.preprocessing.frames, card.preprocessing.stride) == (16, 4)
    clip = torch.randn(1, 3, 4, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(clip), model(clip))


@pytest.mark.parametrize("name", ["kinetics_arm_wrestling", "kinetics_cleaning_pool", "ucf101_SoccerJuggling_g23_c01"])
def test_a_converted_card_gives_the_views_of_the_release(shared: Path, tmp_path: Path, name: str) -> None:
    golden = load_file(shared / "golden" / "release_views.safetensors")
    [video] = (shared / "videos").glob(f"{name}.*")
    card = release_card(shared / "golden" / "mini32.pth", released_config("dualformer_tiny", 32), trained_on="kinetics")
    with open_video(str(video)) as reader:
        assert len(reader) == int(golden[f"{name}.count"])
        clips = even_clips(reader.times, card.preprocessing, 4)
    assert np.array_equal(clips, golden[f"{name}.frames"].numpy())
    views = read_views(str(video), card.preprocessing, clips=4)
    wanted = golden[f"{name}.views_0_15_31"].int()
    assert (views[:, [0, 15, 31]].int() - wanted).abs().max() <= 1
