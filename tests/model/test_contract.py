"""What programs that build on a backbone rely on, for every preset: the names and meanings that timm's users know."""

import copy
import dataclasses
import math
import pickle
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.block import DropPath
from dualformer.model.config import Config, Scale, Stage
from dualformer.model.features import FeatureExtractor
from dualformer.model.heads import TokenHead
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models, preset_config

CLIP = (4, 64, 64)
CLASSES = 5


@pytest.fixture(scope="module", params=list_models())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def shared_model(name: str) -> DualFormer:
    return create_model(name, clip=CLIP, num_classes=CLASSES, seed=0)


@pytest.fixture
def model(shared_model: DualFormer) -> Iterator[DualFormer]:
    """In eval mode; tests leave it as they find it."""
    yield shared_model.eval()
    shared_model.zero_grad()


@pytest.fixture(scope="module")
def shallow(name: str) -> DualFormer:
    """The preset with no more blocks than Nano has: to compilers, more of them are more of the same."""
    config = preset_config(name, clip=CLIP, num_classes=CLASSES)
    least = preset_config("dualformer_nano").stages
    stages = tuple(
        dataclasses.replace(stage, depth=min(stage.depth, few.depth))
        for stage, few in zip(config.stages, least, strict=True)
    )
    return DualFormer(config.replace(stages=stages), seed=0).eval()


@pytest.fixture(scope="module")
def small() -> Config:
    """Two stages with everything in them, quick to compile."""
    scales = (Scale(grid=(2, 4, 4)), Scale(grid=(2, 2, 2), factorised=True))
    stages = (
        Stage(channels=32, depth=1, patch=(2, 4, 4), window=(2, 3, 3), scales=scales),
        Stage(channels=64, depth=1, patch=(1, 2, 2), window=(2, 3, 3)),
    )
    return Config(stages=stages, clip=(4, 32, 32), num_classes=CLASSES)


def video(*size: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn((batch, 3, *(size or CLIP)), generator=torch.Generator().manual_seed(seed))


def test_shapes_at_the_presets_own_clip(name: str) -> None:
    config = preset_config(name, num_classes=11)
    with torch.device("meta"):
        model = DualFormer(config, seed=0).eval()
        clip = torch.empty((2, 3, *config.clip))
    features = model.forward_features(clip)
    t, h, w = config.clip
    assert features.shape == (2, model.num_features, t // 2, math.ceil(h / 32), math.ceil(w / 32))
    assert model.num_features == config.stages[-1].channels
    assert model(clip).shape == (2, 11)
    final, maps = model.forward_intermediates(clip)
    assert final.shape == features.shape
    assert [(m.shape[1], tuple(m.shape[2:])) for m in maps] == [
        (stage.channels, size) for stage, size in zip(config.stages, config.map_sizes(), strict=True)
    ]


@torch.no_grad()
def test_intermediates(model: DualFormer) -> None:
    clip = video()
    final, maps = model.forward_intermediates(clip)
    assert torch.equal(final, model.forward_features(clip))
    width = model.num_features
    by_hand = F.layer_norm(maps[3].movedim(1, -1), (width,), model.norm.weight, model.norm.bias).movedim(-1, 1)
    torch.testing.assert_close(final, by_hand)
    for indices, wanted in (([2, -4, 1], [2, 0, 1]), (2, [2, 3]), ((3,), [3])):
        some = model.forward_intermediates(clip, indices, intermediates_only=True)
        assert [torch.equal(got, maps[index]) for got, index in zip(some, wanted, strict=True)] == [True] * len(wanted)
    normed = model.forward_intermediates(clip, [0, -1], norm=True, intermediates_only=True)
    assert torch.equal(normed[0], maps[0])
    assert torch.equal(normed[1], final)
    channels_last = model.forward_intermediates(clip, output_fmt="NTHWC", intermediates_only=True)
    assert all(torch.equal(got.movedim(-1, 1), want) for got, want in zip(channels_last, maps, strict=True))


@torch.no_grad()
def test_stages_after_the_last_one_asked_for_need_not_run(model: DualFormer) -> None:
    ran: list[int] = []
    hooks = [
        stage.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, stage in enumerate(model.stages)
    ]
    early = model.forward_intermediates(video(), [1, 0], stop_early=True, intermediates_only=True)
    assert ran == [0, 1]
    whole = model.forward_intermediates(video(), [1, 0], intermediates_only=True)
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1, 0, 1, 2, 3]
    assert [torch.equal(a, b) for a, b in zip(early, whole, strict=True)] == [True, True]


def test_wrong_requests(model: DualFormer) -> None:
    for indices, says in (
        ([4], "some of the 4 stages"),
        ([-5], "some of the 4 stages"),
        ([], "some of the 4"),
        (5, "last 5"),
        (0, "last 0"),
    ):
        with pytest.raises(ValueError, match=says):
            model.forward_intermediates(video(), indices)
    with pytest.raises(ValueError, match="NCTHW or NTHWC"):
        model.forward_intermediates(video(), output_fmt="NCHW")
    with pytest.raises(ValueError, match="intermediates_only"):
        model.forward_intermediates(video(), [0], stop_early=True)


@torch.no_grad()
def test_feature_info_describes_the_maps(model: DualFormer) -> None:
    clip = video(8, 64, 96)
    _, maps = model.forward_intermediates(clip)
    assert [info.stage for info in model.feature_info] == [0, 1, 2, 3]
    for info, got in zip(model.feature_info, maps, strict=True):
        size = tuple(length // by for length, by in zip(clip.shape[2:], info.reduction, strict=True))
        assert got.shape == (1, info.channels, *size)
    assert model.feature_info[-1].reduction == (2, 32, 32)


@torch.no_grad()
def test_features_only(name: str, model: DualFormer) -> None:
    backbone = create_model(name, clip=CLIP, seed=0, features_only=True, out_indices=[1, 3]).eval()
    assert isinstance(backbone, FeatureExtractor)
    _, maps = model.forward_intermediates(video())
    got = backbone(video())
    assert [torch.equal(a, b) for a, b in zip(got, (maps[1], maps[3]), strict=True)] == [True, True]
    assert [(info.stage, info.channels) for info in backbone.feature_info] == [(i, maps[i].shape[1]) for i in (1, 3)]
    assert not any(key.startswith("model.head") for key in backbone.state_dict())
    with pytest.raises(ValueError, match="features_only"):
        create_model(name, out_indices=[1])


@torch.no_grad()
def test_the_head(name: str, model: DualFormer) -> None:
    features = model.forward_features(video(batch=2))
    pooled = features.mean((2, 3, 4))
    assert torch.equal(model.forward_head(features, pre_logits=True), pooled)
    logits = model.forward_head(features)
    assert logits.shape == (2, CLASSES)
    assert torch.equal(logits, model(video(batch=2)))
    assert torch.equal(logits, model.get_classifier()(pooled))
    # A linear classifier's mean over the tokens is its answer to the mean token.
    scores = model.token_scores(features)
    assert scores.shape == (2, *features.shape[2:], CLASSES)
    torch.testing.assert_close(scores.mean((1, 2, 3)), logits, atol=1e-5, rtol=1e-4)
    student = TokenHead(model.num_features, CLASSES).eval()
    assert student(features).shape == scores.shape
    assert [layer.out_features for layer in student if isinstance(layer, nn.Linear)] == [
        2 * model.num_features,
        4 * model.num_features,
        CLASSES,
    ]


@torch.no_grad()
def test_the_classifier_can_be_replaced_or_left_out(name: str) -> None:
    model = create_model(name, clip=CLIP, num_classes=CLASSES, seed=0).eval()
    clip = video()
    features = model.forward_features(clip)
    pooled = features.mean((2, 3, 4))
    model.reset_classifier(3, seed=5)
    assert model.config.num_classes == 3
    assert model(clip).shape == (1, 3)
    assert torch.equal(model.forward_features(clip), features)
    drawn = model.get_parameter("head.weight")
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    assert torch.equal(model(clip), pooled)
    with pytest.raises(ValueError, match="without classes"):
        model.token_scores(features)
    model.reset_classifier(3, seed=5)
    assert torch.equal(model.get_parameter("head.weight"), drawn)
    headless = create_model(name, clip=CLIP, num_classes=0, seed=0).eval()
    assert torch.equal(headless(clip), pooled)
    half = headless.to(torch.bfloat16)
    half.reset_classifier(3)
    assert half.get_parameter("head.weight").dtype == torch.bfloat16


def test_the_seed_fixes_the_weights(name: str, model: DualFormer) -> None:
    again = create_model(name, clip=CLIP, num_classes=CLASSES, seed=0)
    for (key, one), other in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), key
    other = create_model(name, clip=CLIP, num_classes=CLASSES, seed=1)
    assert not torch.equal(model.get_parameter("head.weight"), other.get_parameter("head.weight"))


def test_weights_drawn_after_the_meta_device_are_the_same(name: str, model: DualFormer) -> None:
    with torch.device("meta"):
        late = create_model(name, clip=CLIP, num_classes=CLASSES)
    assert all(parameter.is_meta for parameter in late.parameters())
    late.to_empty(device="cpu")
    for tensor in late.state_dict().values():
        tensor.fill_(77)
    late.init_weights(seed=0)
    for (key, one), other in zip(model.state_dict().items(), late.state_dict().values(), strict=True):
        assert torch.equal(one, other), key


def test_torch_seeds_count_too() -> None:
    def weights() -> Tensor:
        return torch.cat([p.flatten() for p in create_model("dualformer_nano").parameters()])

    torch.manual_seed(3)
    first, drawn = weights(), torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(weights(), first)
    assert torch.equal(torch.rand(1), drawn)


@pytest.mark.parametrize("position", ["peg", "absolute", "relative"])
def test_what_does_not_decay(position: str) -> None:
    model = create_model("dualformer_nano", position=position, seed=0)
    spared = model.no_weight_decay()
    decays = {key for key, _ in model.named_parameters()} - spared
    assert spared <= {key for key, _ in model.named_parameters()}
    assert all(key.endswith(".weight") for key in decays)
    kinds = {type(model.get_submodule(key.rsplit(".", 1)[0])).__name__ for key in decays}
    assert kinds == {"Linear", "DenseConv3d", "CellConv3d"}
    in_place = {key for key in spared if ".position." in key or ".table" in key}
    assert len(in_place) == {"peg": 8, "absolute": 8, "relative": 4}[position]


def test_layer_numbers_rise_with_depth(name: str, model: DualFormer) -> None:
    numbers = model.layer_numbers()
    assert list(numbers) == [key for key, _ in model.named_parameters()]
    blocks = sum(stage.depth for stage in model.config.stages)
    assert set(numbers.values()) == set(range(blocks + 2))
    assert {key for key, number in numbers.items() if number == 0} == {
        key for key in numbers if key.startswith("stages.0.embed.")
    }
    assert {key for key, number in numbers.items() if number == blocks + 1} == {
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
    }
    first = "branch.0.conv.weight" if model.config.stages[1].kinds[0] == "C" else "norm1.weight"
    assert numbers["stages.1.embed.proj.weight"] == numbers[f"stages.1.blocks.0.0.{first}"] == 2
    depths = [stage.depth for stage in model.config.stages]
    halves = [
        f"{len(stage.kinds) - 1}.{'branch.0.conv' if stage.kinds[-1] == 'C' else 'norm1'}"
        for stage in model.config.stages
    ]
    last = [numbers[f"stages.{i}.blocks.{depth - 1}.{halves[i]}.weight"] for i, depth in enumerate(depths)]
    assert [b - a for a, b in pairwise([0, *last])] == depths


def test_drop_rates_by_argument(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, drop_path=0.34, dropout=0.25)
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.34 * i / (len(rates) - 1) for i in range(len(rates))])
    assert model.dropout.p == 0.25


def gradients(model: DualFormer, clips: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(0)
    model(clips).square().sum().backward()
    return {key: parameter.grad.clone() for key, parameter in model.named_parameters() if parameter.grad is not None}


def test_checkpointing_changes_no_gradient_and_no_statistic(name: str) -> None:
    plain = create_model(name, clip=CLIP, num_classes=CLASSES, drop_path=0.3, seed=0)
    frugal = copy.deepcopy(plain)
    frugal.set_grad_checkpointing()
    clips = video(batch=3)
    one, other = gradients(plain, clips), gradients(frugal, clips)
    assert list(one) == list(other) == [key for key, _ in plain.named_parameters()]
    for key in one:
        assert torch.equal(one[key], other[key]), key
    buffers = dict(plain.named_buffers())
    assert any(key.endswith("num_batches_tracked") for key in buffers)
    for key, buffer in frugal.named_buffers():
        assert torch.equal(buffer, buffers[key]), key


def saved_bytes(model: DualFormer, clips: Tensor) -> int:
    """What the forward pass keeps for the backward pass, without the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(clips)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(("name", "times"), [("dualformer_nano", 4), ("dualformer_nano_conv", 3.9)])
def test_checkpointing_keeps_less(name: str, times: float) -> None:
    model = create_model(name, num_classes=CLASSES, seed=0)
    clips = video(8, 64, 64)
    plain = saved_bytes(model, clips)
    model.set_grad_checkpointing()
    assert saved_bytes(model, clips) < plain / times
    model.set_grad_checkpointing(False)
    assert saved_bytes(model, clips) == plain


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision(name: str, model: DualFormer, dtype: torch.dtype) -> None:
    exact = model(video())
    half = copy.deepcopy(model).to(dtype)(video().to(dtype))
    assert half.dtype == dtype
    assert float((half.float() - exact).abs().max()) < (2e-3 if dtype == torch.float16 else 2e-2)


@torch.no_grad()
def test_copies_and_pickles(name: str, model: DualFormer) -> None:
    expected = model(video())
    assert torch.equal(copy.deepcopy(model)(video()), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(video()), expected)


@torch.no_grad()
def test_compiles_without_graph_breaks(shallow: DualFormer) -> None:
    torch._dynamo.reset()  # pyright: ignore[reportPrivateImportUsage]
    clips = video(batch=2)
    compiled = torch.compile(shallow, fullgraph=True, backend="eager")
    # Compilers are given the plain graph, and what is not compiled runs in tiles.
    torch.testing.assert_close(compiled(clips), shallow(clips), atol=1e-5, rtol=1e-4)


def test_training_compiles_without_graph_breaks(small: Config) -> None:
    torch._dynamo.reset()  # pyright: ignore[reportPrivateImportUsage]
    model = DualFormer(small.replace(dropout=0.0), seed=0)
    clips = video(5, 39, 50, batch=2)  # windows and cells that do not fit
    expected = gradients(copy.deepcopy(model), clips)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    compiled(clips).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[key], atol=1e-5, rtol=1e-4, msg=key)


@torch.no_grad()
def test_compiled_code_gives_the_same(small: Config) -> None:
    torch._dynamo.reset()  # pyright: ignore[reportPrivateImportUsage]
    model = DualFormer(small, seed=0).eval()
    clips = video(4, 32, 32, batch=2)
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(clips), model(clips), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_exports_for_any_batch(shallow: DualFormer) -> None:
    program = torch.export.export(shallow, (video(batch=2),), dynamic_shapes={"video": {0: torch.export.Dim.DYNAMIC}})
    clips = video(batch=3, seed=1)
    torch.testing.assert_close(program.module()(clips), shallow(clips), atol=1e-6, rtol=1e-5)
