"""The head that answers at every moment: its steps, its start, and what the rest of the network makes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.explain.gradcam import gradcam
from dualformer.model.config import Config, Stage
from dualformer.model.heads import at_steps
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, preset_config
from dualformer.training.optimizer import parameter_groups
from dualformer.training.settings.train_config import TrainConfig
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.plain_state import config_from_state
from dualformer.weights.release import release_state
from dualformer.weights.resample import resample_state
from dualformer.weights.safetensors_file import load_pretrained, load_weights, save_weights

CLIP = (8, 64, 64)
CLASSES = 5


def temporal(**changes: Any) -> DualFormer:
    """Nano with a head that has learnt something: its last convolution is no longer zero."""
    model = create_model("dualformer_nano", clip=CLIP, num_classes=CLASSES, seed=0, head="temporal", **changes)
    assert model.temporal is not None
    torch.nn.init.trunc_normal_(model.temporal.conv.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return model.eval()


def coarse_in_time() -> Config:
    """Two stages, the second with half as many steps."""
    stages = (
        Stage(channels=32, depth=1, patch=(1, 4, 4), kinds="L"),
        Stage(channels=64, depth=1, patch=(2, 2, 2), kinds="L"),
    )
    return Config(stages=stages, clip=(8, 32, 32), num_classes=CLASSES, head="temporal")


def video(*size: int, batch: int = 1) -> Tensor:
    return torch.randn((batch, 3, *(size or CLIP)), generator=torch.Generator().manual_seed(0))


def test_a_fresh_head_changes_nothing() -> None:
    plain = create_model("dualformer_nano", clip=CLIP, num_classes=CLASSES, seed=0).eval()
    model = create_model("dualformer_nano", clip=CLIP, num_classes=CLASSES, seed=0, head="temporal").eval()
    with torch.no_grad():
        assert torch.equal(model(video()), plain(video()))
    assert {key for key in model.state_dict() if key not in plain.state_dict()} == {
        key for key in model.state_dict() if key.startswith("temporal.")
    }


@torch.no_grad()
def test_a_clip_is_the_mean_of_its_steps() -> None:
    model = temporal()
    features = model.forward_features(video(batch=2))
    steps = model.step_scores(features)
    assert steps.shape == (2, 4, CLASSES)
    assert model.config.time_steps() == 4
    assert steps.std(dim=1).max() > 1e-3
    torch.testing.assert_close(steps.mean(dim=1), model(video(batch=2)))


@torch.no_grad()
def test_steps_are_those_of_the_finest_stage() -> None:
    model = DualFormer(coarse_in_time(), seed=0).eval()
    assert model.config.time_steps() == 8
    assert model.config.time_steps((12, 32, 32)) == 12
    assert coarse_in_time().replace(head="pooled").time_steps() == 4
    assert model.step_scores(model.forward_features(video(8, 32, 32))).shape == (1, 8, CLASSES)
    assert model.step_scores(model.forward_features(video(12, 32, 32))).shape == (1, 12, CLASSES)


def test_steps_between_are_interpolated() -> None:
    rows = torch.tensor([0.0, 4.0]).reshape(1, 2, 1).expand(1, 2, 3)
    assert at_steps(rows, 4)[0, :, 0].tolist() == [0.0, 1.0, 3.0, 4.0]
    assert at_steps(rows, 4).shape == (1, 4, 3)
    assert at_steps(rows, 2) is rows


def test_the_head_learns_moments_that_the_last_map_does_not_tell() -> None:
    """One step of eight is another class: the pyramid alone learns which, with everything before it frozen."""
    model = DualFormer(coarse_in_time().replace(dropout=0.0), seed=0)
    for part in (model.stages, model.norm, model.head):
        part.requires_grad_(False)
    clip = torch.zeros((1, 3, 8, 32, 32))
    clip[:, :, 5] = 1
    target = torch.zeros(1, 8, dtype=torch.long)
    target[0, 5] = 1
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(60):
        scores = model.step_scores(model.forward_features(clip))
        loss = F.cross_entropy(scores.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(model.step_scores(model.forward_features(clip)).argmax(-1), target)


def test_it_learns_at_the_rate_of_the_classifier() -> None:
    model, config = temporal(), TrainConfig(data="x", backbone_lr=0.1, layer_decay=0.5)
    groups = {group["name"]: group for group in parameter_groups(model, config, lr=1.0)}
    assert model.temporal is not None
    assert any(each is model.temporal.conv.weight for each in groups["head"]["params"])
    assert any(each is model.temporal.norms[0].weight for each in groups["head, no decay"]["params"])
    numbers = model.layer_numbers()
    assert numbers["temporal.conv.weight"] == numbers["head.weight"] == max(numbers.values())


def test_configs_with_and_without(tmp_path: Path) -> None:
    config = preset_config("dualformer_nano", clip=CLIP)
    assert "head" not in config.to_dict()
    assert Config.from_dict(config.replace(head="temporal").to_dict()).head == "temporal"
    with pytest.raises(ValueError, match="head must be one of pooled, temporal, not 'x'"):
        config.replace(head="x")
    with pytest.raises(ValueError, match="one frame has none"):
        preset_config("dualformer_nano", clip=(1, 64, 64), head="temporal")


def test_weights_files_keep_it_and_others_start_without(tmp_path: Path) -> None:
    model = temporal()
    pre = kinetics(frames=8, stride=1, size=64)
    card = Card(config=model.config, labels=tuple("abcde"), preprocessing=pre, provenance="a test", licence="MIT")
    save_weights(tmp_path / "with.safetensors", model, card)
    loaded, _ = load_weights(tmp_path / "with.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded(video()), model(video()))
        assert torch.allclose(loaded.fold()(video()), model(video()), atol=1e-5)

    plain = create_model("dualformer_nano", clip=CLIP, num_classes=CLASSES, seed=3).eval()
    assert load_pretrained(plain, tmp_path / "with.safetensors") == ["temporal head: left out"]
    save_weights(tmp_path / "without.safetensors", plain, replace(card, config=plain.config))
    fresh = create_model("dualformer_nano", clip=CLIP, num_classes=CLASSES, seed=4, head="temporal").eval()
    assert load_pretrained(fresh, tmp_path / "without.safetensors") == ["temporal head: started anew"]
    with torch.no_grad():
        assert torch.equal(fresh(video()), plain(video()))


def test_other_clips_and_classes_keep_the_head() -> None:
    model = temporal()
    target = preset_config("dualformer_nano", clip=(16, 64, 64), num_classes=2, head="temporal")
    state, notes = resample_state(model.state_dict(), model.config, target)
    assert torch.equal(state["temporal.conv.weight"], model.state_dict()["temporal.conv.weight"])
    assert "head.weight" not in state
    assert any("classifier: 5 → 2 classes" in note for note in notes)
    assert config_from_state(model.state_dict(), clip=CLIP) == model.config.replace(dropout=0.5)


def test_the_release_has_no_such_head() -> None:
    with pytest.raises(ValueError, match="only networks with head='pooled'"):
        release_state(temporal())
    with pytest.raises(WeightsError, match="temporal"):
        resample_state(
            temporal().state_dict(), preset_config("dualformer_nano", clip=CLIP, num_classes=5), temporal().config
        )


@pytest.mark.parametrize("stage", [None, 1])
def test_evidence_passes_through_it(stage: int | None) -> None:
    """Evidence is of the score that the network gives: it follows the head's own weights."""
    pytest.importorskip("captum")
    model = temporal()
    with_head = gradcam(model, video(), 1, stage=stage)
    assert model.temporal is not None
    torch.nn.init.zeros_(model.temporal.conv.weight)
    assert with_head.shape == gradcam(model, video(), 1, stage=stage).shape
    assert stage is None or not torch.allclose(with_head, gradcam(model, video(), 1, stage=stage))
