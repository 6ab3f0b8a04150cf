"""Runs that start from ImageNet weights of Twins-SVT, as they are on the hub: both layouts, resumed, and refused."""

import pytest
import torch
from safetensors.torch import save_file

from dualformer.model.presets import create_model, preset_config
from dualformer.training.prepare import plan_network, prepare
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.weights.layouts import is_exact
from dualformer.weights.safetensors_file import load_weights
from dualformer.weights.twins import twins_key
from small_runs import RecordingReporter


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder as the hub has it, of a narrow network."""
    model = create_model("dualformer_nano", clip=(1, 224, 224), num_classes=7, seed=5)
    state = {twins_key(key, "hub"): tensor for key, tensor in model.state_dict().items() if ".scales." not in key}
    state = {key: tensor[:, :, 0].contiguous() if tensor.dim() == 5 else tensor for key, tensor in state.items()}
    for stage, (channels, kernel) in enumerate(((32, 8), (64, 4), (128, 2))):
        state[f"blocks.{stage}.1.attn.sr.weight"] = torch.randn(channels, channels, kernel, kernel) / channels
        state[f"blocks.{stage}.1.attn.sr.bias"] = torch.zeros(channels)
    folder = tmp_path_factory.mktemp("hub") / "twins_svt_small.in1k"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    return str(folder)


def test_the_layout_follows_from_the_model_unless_it_is_said(twins: str) -> None:
    exact, pre = plan_network(TrainConfig(data="videos", start=twins), classes=3)
    assert is_exact(exact) and (exact.clip, exact.norm_eps, pre.frames) == ((1, 224, 224), 1e-6, 1)
    videos, _ = plan_network(TrainConfig(data="videos", start=twins, frames=16), classes=3)
    assert is_exact(videos) and videos.stages[0].scales[0].grid == (4, 7, 7)
    named = TrainConfig(data="videos", start=twins, model="dualformer_nano", frames=16, size=224)
    standard, _ = plan_network(named, classes=3)
    preset = preset_config("dualformer_nano", clip=(16, 224, 224), num_classes=3)
    assert standard == preset.replace(norm_eps=1e-6)
    assert plan_network(named.replace(layout="exact"), classes=3)[0] == videos
    said = TrainConfig(data="videos", start=twins, frames=16, layout="standard")
    assert plan_network(said, classes=3)[0] == standard


def test_clips_of_inflated_weights_show_videos_and_not_the_moment_of_a_picture(
    twins: str, settings: TrainConfig
) -> None:
    settings = settings.replace(start=twins, model=None, stride=None)
    assert plan_network(settings, classes=3)[1].stride == 2  # where the lengths of videos are not known
    assert plan_network(settings.replace(frames=1), classes=3)[1].stride == 1
    planned = prepare(settings, planned=True)
    clip = planned.preprocessing
    assert (clip.sampling, clip.stride, clip.frames) == ("segments", 1, 4) and clip.fps
    assert any("a clip shows all of a video, of usually " in line for line in planned.lines)
    assert prepare(settings.replace(stride=3), planned=True).preprocessing.stride == 3


def test_what_has_no_exact_layout(twins: str) -> None:
    exact = TrainConfig(data="videos", layout="exact")
    for start in ("rendered", "random"):
        with pytest.raises(ValueError, match="`layout=exact` is for starting weights of Twins-SVT"):
            plan_network(exact.replace(start=start), classes=3)
    other = r"has other channels and blocks than .*: 64x1, 128x1, 256x5, 512x2, not 32x1, 64x1, 128x1, 256x1"
    with pytest.raises(ValueError, match=other):
        plan_network(exact.replace(start=twins, model="dualformer_tiny"), classes=3)


@pytest.mark.parametrize("layout", ["exact", "standard"])
def test_a_run_of_videos_starts_and_goes_on(twins: str, settings: TrainConfig, layout: str) -> None:
    reporter = RecordingReporter()
    settings = settings.replace(start=twins, layout=layout, model=None, epochs=1)
    train(settings.replace(max_steps=1), reporter=reporter)
    assert any(f"model: as in the starting weights, {layout} layout" in line for line in reporter.lines)
    made = [line for line in reporter.lines if line.startswith(f"from {twins}: standard layout: ")]
    assert len(made) == (layout == "standard")
    result = train(settings.replace(resume=True), reporter=reporter)
    model, card = load_weights(result.weights)
    assert is_exact(card.config) == (layout == "exact")
    assert (model.config.clip, card.config.norm_eps) == ((4, 32, 32), 1e-6)
