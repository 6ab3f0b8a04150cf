"""The stem and the C half: costs by hand, folding, and everything that asks what a network is made of."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dualformer.model.block import DropPath
from dualformer.model.config import Config, Scale, Size3, Stage
from dualformer.model.convolution import ConvNorm, ConvolutionSubBlock, stem_strides
from dualformer.model.cost import measure_cost
from dualformer.model.maps import watch_attention
from dualformer.model.network import DualFormer
from dualformer.weights.errors import WeightsError
from dualformer.weights.release import release_state
from dualformer.weights.resample import resample_state

SCALES = (Scale(grid=(2, 2, 2)), Scale(grid=(1, 1, 1), factorised=True))


def config(clip: Size3 = (4, 32, 32), **changes: Any) -> Config:
    """A stem and a stage CG of full convolutions, then patches and a stage CC of depth-wise ones."""
    frames = 2 if clip[0] > 1 else 1
    stages = (
        Stage(channels=32, depth=1, patch=(frames, 4, 4), embedding="convolutions", kinds="CG", scales=SCALES),
        Stage(channels=64, depth=2, patch=(1, 2, 2), kinds="CC", convolution="depthwise"),
    )
    return Config(stages=stages, clip=clip, num_classes=5, dropout=0.0).replace(**changes)


def one_half(clip: Size3 = (4, 32, 32), **changes: Any) -> Config:
    """Blocks of one half: a stem and two C of full convolutions, then one C of depth-wise ones, then L."""
    stages = (
        Stage(channels=32, depth=2, patch=(2 if clip[0] > 1 else 1, 4, 4), embedding="convolutions", kinds="C"),
        Stage(channels=64, depth=1, patch=(1, 2, 2), kinds="C", convolution="depthwise"),
        Stage(channels=64, depth=1, patch=(1, 2, 2), kinds="L"),
    )
    return Config(stages=stages, clip=clip, num_classes=5, dropout=0.0).replace(**changes)


BOTH = pytest.mark.parametrize("make", [config, one_half])


def network(of: Config | None = None) -> DualFormer:
    """With statistics and weights of norms that are not those of a fresh network."""
    model = DualFormer(of or config(), seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5, generator=generator)
    return model


def clips(size: Size3 = (4, 32, 32), count: int = 2) -> Tensor:
    return torch.randn((count, 3, *size), generator=torch.Generator().manual_seed(2))


def test_costs_by_hand() -> None:
    cost = measure_cost(config())
    c, n = 32, 2 * 8 * 8
    first, second = (4 * 16 * 16) * 24 * 3 * 27, n * 48 * 24 * 27
    stem = first + second + n * c * 48
    half = 2 * n * c * c * 27
    pyramid = 8 * c * (2 // 2) * 4 * 4 + 2 * c * 8 * 8 + c * 2
    position = n * c * 27
    wide, m = 64, 2 * 4 * 4
    merging = m * wide * c * 4
    depthwise = 4 * (2 * m * wide * 4 * wide + m * 4 * wide * 27) + m * wide * 27
    assert cost.convolution == stem + half + pyramid + position + merging + depthwise
    priors = 2 * 2 * 2 + 1
    assert cost.linear == n * 2 * c * c + priors * 2 * c * c + n * 8 * c * c + 5 * wide
    batch_norms = 2 * (4 * 16 * 16 * 24 + n * 48 + 2 * n * c + 2 * c) + 2 * 4 * m * wide * (4 + 4 + 1)
    assert cost.normalisation == 5 * (n * c * 3 + priors * c + 2 * m * wide) + batch_norms
    assert cost.stages[0].windows == 0
    assert cost.stages[0].pyramid_tokens == priors
    assert cost.stages[1].pyramid_tokens == 0


def test_costs_of_one_half_by_hand() -> None:
    cost = measure_cost(one_half())
    c, n, wide, m, k = 32, 2 * 8 * 8, 64, 2 * 4 * 4, 2 * 2 * 2
    stem = (4 * 16 * 16) * 24 * 3 * 27 + n * 48 * 24 * 27 + n * c * 48
    full = 2 * (2 * n * c * c * 27)
    depthwise = 2 * m * wide * 4 * wide + m * 4 * wide * 27
    merging = m * wide * c * 4 + k * wide * wide * 4
    assert cost.convolution == stem + full + depthwise + merging + 27 * (n * c + m * wide + k * wide)
    assert cost.linear == k * 12 * wide * wide + 5 * wide
    assert cost.attention == 2 * k * k * wide
    batch_norms = 2 * (4 * 16 * 16 * 24 + n * 48 + 4 * n * c + m * wide * (4 + 4 + 1))
    assert cost.normalisation == 5 * (n * c + m * wide + 4 * k * wide) + batch_norms
    assert [stage.windows for stage in cost.stages] == [0, 0, 1]
    assert [stage.pyramid_tokens for stage in cost.stages] == [0, 0, 0]


@pytest.mark.parametrize(
    ("patch", "strides"),
    [
        ((2, 4, 4), [(1, 2, 2), (2, 2, 2)]),
        ((1, 4, 4), [(1, 2, 2), (1, 2, 2)]),
        ((2, 8, 4), [(1, 2, 2), (2, 4, 2)]),
        ((1, 2, 2), [(1, 2, 2)]),
        ((2, 3, 1), [(2, 3, 1)]),
    ],
)
def test_the_strides_of_the_stem_are_the_patch_together(patch: Size3, strides: list[Size3]) -> None:
    assert stem_strides(patch) == strides
    stage = Stage(channels=32, depth=1, patch=patch, embedding="convolutions", kinds="CC")
    model = DualFormer(Config(stages=(stage,), clip=(5, 21, 30), num_classes=0), seed=0).eval()
    (features,) = model.forward_intermediates(clips((5, 21, 30)), intermediates_only=True)
    assert features.shape[2:] == model.config.map_sizes()[0]


@BOTH
def test_folded_it_gives_the_same_with_no_batch_norm(make: Callable[[], Config]) -> None:
    model = network(make()).double()
    folded = copy.deepcopy(model).fold()
    with torch.no_grad():
        torch.testing.assert_close(folded(clips().double()), model(clips().double()), atol=1e-12, rtol=1e-12)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.modules())
    assert any(isinstance(module, ConvNorm) for module in folded.modules())


@BOTH
def test_inference_and_training_compute_the_same(make: Callable[[], Config]) -> None:
    model = network(make())
    with torch.no_grad():
        fast = model(clips())
    torch.testing.assert_close(fast, model(clips()).detach(), atol=1e-5, rtol=1e-5)


@BOTH
def test_checkpoints_give_the_same_gradients_and_statistics(make: Callable[[], Config]) -> None:
    results: list[dict[str, Tensor]] = []
    for checkpointed in (False, True):
        model = network(make()).double().train()
        model.set_grad_checkpointing(checkpointed)
        model(clips().double()).square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append(gradients | {name: buffer.double() for name, buffer in model.named_buffers()})
    assert results[0].keys() == results[1].keys()
    for name, one in results[0].items():
        torch.testing.assert_close(one, results[1][name], atol=1e-10, rtol=1e-10)


@BOTH
def test_bfloat16_stays_near(make: Callable[[], Config]) -> None:
    model = network(make())
    with torch.no_grad():
        exact = model(clips())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(clips())
    assert (rounded.float() - exact).abs().max() <= 0.05 * exact.abs().max()


def test_drop_path_leaves_out_the_convolutions_of_some_clips() -> None:
    half = ConvolutionSubBlock(8, "full", ratio=4, in_time=True, drop_path=0.5).train()
    x = torch.randn(64, 2, 3, 3, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    left_out = (half(x) == x).flatten(1).all(1)
    assert 16 < int(left_out.sum()) < 48


def test_drop_path_grows_from_half_to_half_however_many_a_block_has() -> None:
    def rates(of: Config) -> list[list[float]]:
        model = DualFormer(of.replace(drop_path=0.5), seed=0)
        return [[m.rate for m in stage.modules() if isinstance(m, DropPath)] for stage in model.stages]

    assert rates(one_half()) == [[0.0, pytest.approx(0.5 / 3)], [pytest.approx(1 / 3)], [0.5]]
    assert rates(config()) == [[0.0, 0.1], [0.2, pytest.approx(0.3), 0.4, 0.5]]


def test_norms_of_convolutions_do_not_decay_and_kernels_do() -> None:
    model = network()
    kept = model.no_weight_decay()
    assert "stages.0.embed.convs.0.norm.weight" in kept
    assert "stages.0.blocks.0.0.branch.0.norm.bias" in kept
    assert "stages.0.blocks.0.0.branch.0.conv.weight" not in kept
    assert "stages.0.embed.convs.0.conv.weight" not in kept


def test_the_stem_is_the_first_layer_and_a_c_half_is_of_its_block() -> None:
    numbers = network().layer_numbers()
    assert numbers["stages.0.embed.convs.2.conv.weight"] == 0
    assert numbers["stages.0.blocks.0.0.branch.0.conv.weight"] == 1
    assert numbers["stages.1.blocks.1.1.branch.2.conv.weight"] == 3
    assert numbers["head.weight"] == 4


def test_a_block_of_one_half_is_a_layer() -> None:
    numbers = network(one_half()).layer_numbers()
    halves = [f"stages.{place}" for place in ("0.blocks.0.0", "0.blocks.1.0", "1.blocks.0.0", "2.blocks.0.0")]
    found = [{number for name, number in numbers.items() if name.startswith(f"{half}.")} for half in halves]
    assert found == [{1}, {2}, {3}, {4}]
    assert numbers["stages.0.position.conv.weight"] == 1
    assert numbers["norm.weight"] == numbers["head.weight"] == 5


@BOTH
def test_a_network_of_images_gives_every_frame_what_it_gives_the_image(make: Callable[..., Config]) -> None:
    images, videos = make(clip=(1, 32, 32)), make(clip=(4, 32, 32))
    model = network(images).double()
    fitted, notes = resample_state(dict(model.state_dict()), images, videos)
    inflated = DualFormer(videos, seed=0).double().eval()
    inflated.load_state_dict(fitted)
    assert any("kernels of convolutions, put into the middle of three frames" in note for note in notes)
    image = clips((1, 32, 32)).double()
    with torch.no_grad():
        expected = model.stages[0].get_submodule("embed")(image)
        found = inflated.stages[0].get_submodule("embed")(image.expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(found, expected.expand_as(found), atol=1e-12, rtol=1e-12)


def test_weights_of_patches_do_not_fit_a_stem() -> None:
    patches = config()
    stages = (replace(patches.stages[0], embedding="patches"), patches.stages[1])
    with pytest.raises(
        WeightsError, match="stage 1 embedding is convolutions in the weights and patches in the network"
    ):
        resample_state(dict(network().state_dict()), config(), config().replace(stages=stages))


def test_weights_of_two_halves_do_not_fit_one() -> None:
    two = one_half()
    stages = (replace(two.stages[0], kinds="CC"), *two.stages[1:])
    with pytest.raises(WeightsError, match="stage 1 kinds is C in the weights and CC in the network"):
        resample_state(dict(network(two).state_dict()), two, two.replace(stages=stages))


def test_attention_is_watched_where_there_is_some() -> None:
    model = network()
    with torch.no_grad(), watch_attention(model) as watched:
        model(clips())
    assert [(found.stage, found.block, found.half, found.kind) for found in watched.maps] == [(0, 0, 1, "G")]
    model = network(one_half())
    with torch.no_grad(), watch_attention(model) as watched:
        model(clips())
    assert [(found.stage, found.block, found.half, found.kind) for found in watched.maps] == [(2, 0, 0, "L")]
    with (
        pytest.raises(ValueError, match="the stages and blocks asked for have none of kinds 'LG'"),
        watch_attention(model, stages=[0, 1]),
    ):
        pass


def test_the_release_has_no_name_for_it() -> None:
    with pytest.raises(ValueError, match="stage 1: the release has only embedding='patches', not 'convolutions'"):
        release_state(network())
    patches = one_half().stages[2]
    with pytest.raises(ValueError, match="stage 1: the release has only LG blocks"):
        release_state(DualFormer(one_half(stages=(patches,)), seed=0))


def test_as_json_it_comes_back_and_networks_without_it_are_written_as_before() -> None:
    for made in (config(), one_half()):
        assert Config.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    plain = Config(stages=(Stage(channels=32, depth=1, patch=(1, 4, 4)),), clip=(4, 32, 32))
    assert set(plain.to_dict()["stages"][0]) == {"channels", "depth", "patch", "kinds", "window", "scales"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": "pixels"}, "embedding must be one of patches, convolutions, not 'pixels'"),
        ({"channels": 1, "embedding": "convolutions"}, "three quarters of its stage's channels at first: 1 is too few"),
        ({"convolution": "half"}, "convolution must be one of full, depthwise, not 'half'"),
        *(
            ({"kinds": kinds}, f"kinds must be one or two of L, G and C, .* each half of a block, not '{kinds}'")
            for kinds in ("CX", "X", "", "LGC")
        ),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stage(**({"channels": 32, "depth": 1, "patch": (2, 4, 4)} | change))
