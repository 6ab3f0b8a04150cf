"""The network against the naive one of `oracle.py`, and the laws that every variant of it keeps.

`pytest --hypothesis-profile=full` draws more cases, and new ones each time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, example, given, note, settings
from hypothesis import strategies as st
from oracle import dualformer, pyramid
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dualformer.model import attention as attention_module
from dualformer.model.attention import Attention
from dualformer.model.config import Config, Position, Scale, Size3, Stage
from dualformer.model.kernels import attention as attention_kernel
from dualformer.model.kernels import depthwise
from dualformer.model.network import DualFormer
from dualformer.model.pyramid import Pyramid
from dualformer.weights.resample import resample_state

POSITIONS: tuple[Position, ...] = get_args(Position)
WITH_WINDOWS = ("LG", "LL", "GL", "CL", "L")
KINDS = (*WITH_WINDOWS, "GG", "CG", "CC", "C", "G")
MOST = settings().max_examples
FEWER = settings(max_examples=max(10, MOST // 4), deadline=None)
"""For the laws: the cases are the same, and each runs the network more than once."""


@dataclass(frozen=True)
class Case:
    config: Config
    size: Size3
    """Of the clips, which need not be the config's."""
    batch: int = 1
    seed: int = 0


@st.composite
def sizes(draw: st.DrawFn, patch: Size3) -> Size3:
    """A clip whose first map has up to 6 × 14 × 14 tokens; its last patches may stick out of it."""
    frames, side = st.sampled_from((1, 2, 3, 4, 5, 6)), st.sampled_from((1, 3, 5, 6, 7, 8, 9, 11, 12, 13, 14, 14))
    tokens = zip((frames, side, side), patch, strict=True)
    t, h, w = (draw(count) * step - draw(st.integers(0, step - 1)) for count, step in tokens)
    return t, h, w


def triples(*most: int) -> st.SearchStrategy[Size3]:
    return st.tuples(*(st.integers(1, bound) for bound in most))


@st.composite
def scale_settings(draw: st.DrawFn) -> Scale:
    function = draw(st.sampled_from(("depthwise", "full", "average")))
    return Scale(
        grid=draw(triples(4, 5, 5)), function=function, factorised=function != "average" and draw(st.booleans())
    )


@st.composite
def cases(draw: st.DrawFn, *, position: Position | None = None, batch: int | None = None) -> Case:
    head_dim = draw(st.sampled_from((2, 4, 8)))
    position = position or draw(st.sampled_from(POSITIONS))
    stages = tuple(
        Stage(
            channels=8 * draw(st.integers(1, 2)),
            depth=draw(st.integers(1, 2)),
            patch=draw(triples(2, 4, 4) if number == 0 else triples(2, 2, 2)),
            embedding=draw(st.sampled_from(("patches", "patches", "convolutions"))),
            kinds=draw(st.sampled_from(WITH_WINDOWS if position == "relative" else KINDS)),
            convolution=draw(st.sampled_from(("full", "depthwise"))),
            window=draw(triples(4, 8, 8)),
            scales=tuple(draw(st.lists(scale_settings(), max_size=3))),
        )
        for number in range(draw(st.integers(1, 3)))
    )
    clip = draw(sizes(stages[0].patch))
    config = Config(
        stages=stages,
        clip=clip,
        num_classes=draw(st.sampled_from((0, 3))),
        head_dim=head_dim,
        mlp_ratio=draw(st.sampled_from((1, 2, 4))),
        position=position,
        dropout=0.0,
    )
    return Case(
        config=config,
        size=clip if draw(st.booleans()) else draw(sizes(stages[0].patch)),
        batch=batch or draw(st.integers(1, 2)),
        seed=draw(st.integers(0, 2**20)),
    )


FACTORISED_IN_TWO = Config(
    stages=(
        Stage(
            channels=8,
            depth=1,
            patch=(2, 2, 2),
            window=(2, 5, 7),
            scales=(
                Scale(grid=(2, 1, 2), factorised=True),
                Scale(grid=(1, 1, 2), factorised=True, function="full"),
                Scale(grid=(3, 4, 5)),
            ),
        ),
    ),
    clip=(8, 28, 28),
    num_classes=3,
    head_dim=4,
    dropout=0.0,
)
"""Cells of 14 × 7 tokens, so that space takes two steps as in the paper."""
IMAGES = Config(
    stages=(
        Stage(channels=4, depth=1, patch=(1, 4, 4), window=(1, 7, 7), scales=(Scale(grid=(1, 7, 7)),)),
        Stage(channels=8, depth=1, patch=(1, 2, 2), window=(1, 7, 7)),
    ),
    clip=(1, 56, 56),
    num_classes=3,
    head_dim=4,
    dropout=0.0,
)

ONE_HALF = Config(
    stages=(
        Stage(channels=8, depth=2, patch=(2, 4, 4), kinds="C", embedding="convolutions"),
        Stage(channels=8, depth=1, patch=(1, 2, 2), kinds="C", convolution="depthwise"),
        Stage(channels=8, depth=2, patch=(1, 1, 1), kinds="L", window=(2, 2, 3)),
        Stage(channels=8, depth=1, patch=(1, 1, 1), kinds="G", scales=(Scale(grid=(1, 2, 2)),)),
    ),
    clip=(4, 24, 32),
    num_classes=3,
    head_dim=4,
    dropout=0.0,
)
"""The PEG sits behind the only half of the first block."""


def network(case: Case) -> DualFormer:
    """In evaluation, with every parameter and statistic random, and of a size that keeps numbers near 1."""
    model = DualFormer(case.config, seed=0).eval()
    generator = torch.Generator().manual_seed(case.seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue  # how many batches BatchNorm has seen
        if name.endswith("running_var") or (name.endswith("weight") and tensor.dim() == 1):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            fan_in = 4 if tensor.dim() == 1 else 1 if ".table" in name else tensor[0].numel()
            tensor.normal_(0, fan_in**-0.5, generator=generator)
    return model


def clips(case: Case) -> Tensor:
    """B 3 T H W, in float32, as the network's weights: float64 is then exactly the same problem."""
    return torch.randn((case.batch, 3, *case.size), generator=torch.Generator().manual_seed(case.seed + 1))


def run(model: DualFormer, video: Tensor) -> list[Tensor]:
    """Logits and all maps."""
    final, maps = model.forward_intermediates(video)
    return [model.forward_head(final), *maps]


def gradients(outputs: list[Tensor], wanted: list[Tensor]) -> list[Tensor]:
    """Of a weighted sum of all outputs; zeros for what they do not depend on."""
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(out.shape, generator=generator).to(out.dtype) / math.sqrt(out.numel()) for out in outputs]
    found = torch.autograd.grad(outputs, wanted, weights, allow_unused=True)
    return [torch.zeros_like(one) if grad is None else grad for one, grad in zip(wanted, found, strict=True)]


def outputs_and_gradients(model: DualFormer, video: Tensor) -> dict[str, Tensor]:
    video = video.clone().requires_grad_()
    parameters = dict(model.named_parameters())
    return named(run(model, video), ["video", *parameters], [video, *parameters.values()])


def expected_outputs_and_gradients(case: Case, state: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
    video = clips(case).double().requires_grad_()
    state = {key: value.double().requires_grad_() for key, value in state.items()}
    logits, maps = dualformer(case.config, state, video, training=training)
    return named([logits, *maps], ["video", *state], [video, *state.values()])


def named(outputs: list[Tensor], names: list[str], inputs: list[Tensor]) -> dict[str, Tensor]:
    found = dict(zip(("logits", *(f"map {n}" for n in range(1, len(outputs)))), outputs, strict=True))
    grads = gradients(outputs, inputs)
    return found | {f"gradient of {name}": grad for name, grad in zip(names, grads, strict=True)}


def assert_near(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Relative to a tensor's largest entry, or to 1 where that is smaller."""
    for name, one in got.items():
        other = expected[name]
        assert one.shape == other.shape, name
        error = float((one - other).detach().abs().max()) / max(1.0, float(other.detach().abs().max()))
        assert error <= tolerance, f"{name} is off by {error:.3g}"


def nearest_kink(model: DualFormer, video: Tensor) -> float:
    """How near to zero the input of a ReLU comes: its gradient jumps there, so rounding may change it by any amount."""
    seen = [math.inf]
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out: seen.append(float(out.abs().min())))
        for module in model.modules()
        if isinstance(module, nn.BatchNorm3d)
    ]
    with torch.no_grad():
        model(video)
    for hook in hooks:
        hook.remove()
    return min(seen)


@pytest.mark.parametrize("position", POSITIONS)
@given(data=st.data())
@settings(max_examples=MOST // len(POSITIONS), deadline=None)
def test_parity(position: Position, data: st.DataObject) -> None:
    assert_parity(data.draw(cases(position=position)))


@pytest.mark.parametrize(
    "case",
    [
        Case(FACTORISED_IN_TWO, (8, 28, 28), batch=2),
        Case(FACTORISED_IN_TWO, (3, 17, 24)),
        Case(IMAGES, (1, 56, 56)),
        Case(IMAGES, (2, 45, 61)),
        Case(ONE_HALF, (4, 24, 32)),
        Case(ONE_HALF, (5, 21, 30), batch=2),
    ],
    ids=[
        *("space in two steps", "space in two steps, resampled", "image", "two images of another size"),
        *("one half", "one half, resampled"),
    ],
)
def test_parity_of_cases_that_are_seldom_drawn(case: Case) -> None:
    assert_parity(case)


def assert_parity(case: Case) -> None:
    model, video = network(case), clips(case)
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    expected = expected_outputs_and_gradients(case, state, training=False)
    rounded = outputs_and_gradients(model, video)
    model.double()
    assert_near(outputs_and_gradients(model, video.double()), expected, 1e-10)
    smooth = nearest_kink(model, video.double()) > 1e-5
    comparable = {name: one.double() for name, one in rounded.items() if smooth or not name.startswith("gradient")}
    assert_near(comparable, expected, 1e-4)


@given(cases(batch=3))
@example(Case(FACTORISED_IN_TWO, (8, 28, 28), batch=3))
@example(Case(ONE_HALF, (4, 24, 32), batch=3))
@FEWER
def test_parity_with_the_statistics_of_the_batch(case: Case) -> None:
    model = network(case).double().train()
    state = {key: value.clone() for key, value in model.state_dict().items() if value.is_floating_point()}
    expected = expected_outputs_and_gradients(case, state, training=True)
    assert_near(outputs_and_gradients(model, clips(case).double()), expected, 1e-10)


def drawn_with_pyramids(case: Case) -> bool:
    return any("G" in stage.kinds and stage.scales for stage in case.config.stages)


@given(cases().filter(drawn_with_pyramids))
@example(Case(FACTORISED_IN_TWO, (8, 28, 28)))
@FEWER
def test_priors_come_scale_by_scale_and_in_the_order_of_their_place(case: Case) -> None:
    """Attention does not care about the order of keys, so no output of the network shows it; maps of attention do."""
    model, video = network(case).double(), clips(case).double()
    checked: list[nn.Module] = []

    def check(module: nn.Module, inputs: tuple[Tensor], priors: Tensor, stage: Stage, built_for: Size3) -> None:
        expected = pyramid(inputs[0], module.state_dict(), stage.scales, built_for, training=False)
        assert_near({"priors": priors}, {"priors": expected}, 1e-10)
        checked.append(module)

    for layers, stage, built_for in zip(model.stages, case.config.stages, case.config.map_sizes(), strict=True):
        for module in layers.modules():
            if isinstance(module, Pyramid):
                module.register_forward_hook(partial(check, stage=stage, built_for=built_for))
    with torch.no_grad():
        model(video)
    assert checked


@given(cases(batch=3))
@FEWER
def test_a_batch_equals_its_singles(case: Case) -> None:
    model, video = network(case).double(), clips(case).double()
    with torch.no_grad():
        together = run(model, video)
        apart = [torch.cat(outputs) for outputs in zip(*(run(model, clip[None]) for clip in video), strict=True)]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


class Functional(SimpleNamespace):
    """What `model.attention` uses of `torch.nn.functional`, with padding of one's own choice."""

    def __init__(self, fill: float) -> None:
        self.filled = 0
        self.fill = fill
        super().__init__(scaled_dot_product_attention=F.scaled_dot_product_attention)

    def pad(self, x: Tensor, widths: tuple[int, ...]) -> Tensor:
        if x.dtype == torch.bool:  # says which tokens are real
            return F.pad(x, widths)
        self.filled += any(widths)
        return F.pad(x, widths, value=self.fill)


@given(cases())
@FEWER
def test_what_fills_the_padding_of_windows_reaches_no_token(case: Case) -> None:
    model, video = network(case).double(), clips(case).double()
    expected = outputs_and_gradients(model, video)
    junk = Functional(fill=1e4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_module, "F", junk)
        got = outputs_and_gradients(model, video)
    assume(junk.filled)
    assert_near(got, expected, 1e-12)


def biases_seen(model: DualFormer, video: Tensor) -> list[Tensor | None]:
    """What every attention is given to add to its scores."""
    seen: list[Tensor | None] = []

    def look(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(kwargs.get("bias", args[3] if len(args) > 3 else None))

    hooks = [
        module.register_forward_pre_hook(look, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, Attention)
    ]
    with torch.no_grad():
        model(video)
    for hook in hooks:
        hook.remove()
    return seen


@given(triples(2, 3, 3), triples(3, 3, 3), st.sampled_from(POSITIONS))
@FEWER
def test_where_windows_fit_nothing_is_masked(window: Size3, windows: Size3, position: Position) -> None:
    t, h, w = (side * count for side, count in zip(window, windows, strict=True))
    stage = Stage(channels=4, depth=2, patch=(1, 1, 1), kinds="LL", window=window)
    config = Config(stages=(stage,), clip=(t, h, w), num_classes=0, head_dim=4, position=position)
    seen = biases_seen(network(Case(config, (t, h, w))), torch.zeros(1, 3, t, h, w))
    assert len(seen) == 4
    if position == "relative":
        assert all(bias is not None and bias.isfinite().all() and bias.shape[0] == 1 for bias in seen)
    else:
        assert seen == [None] * 4
    assume(t > window[0] > 1)
    shorter = biases_seen(network(Case(config, (t, h, w))), torch.zeros(1, 3, t - 1, h, w))
    note(f"{shorter=}")
    assert all(bias is not None and bias.isinf().any() for bias in shorter)


def is_convolutional(stage: Stage) -> bool:
    return stage.embedding == "convolutions" or "C" in stage.kinds


@given(cases())
@example(Case(FACTORISED_IN_TWO, (3, 17, 24)))
@example(Case(ONE_HALF, (5, 21, 30)))
@FEWER
def test_other_clips_are_as_if_the_weights_were_loaded_for_them(case: Case) -> None:
    model, video = network(case).double(), clips(case).double()
    cut_for_it = case.config.replace(clip=case.size)
    # Whether a network moves along time at all is decided by its own clip: PEG's kernel is flat for one frame.
    assume(
        (case.config.position != "peg" and not any(is_convolutional(stage) for stage in case.config.stages))
        or [size[0] == 1 for size in case.config.map_sizes()] == [size[0] == 1 for size in cut_for_it.map_sizes()]
    )
    fitted, _ = resample_state(dict(model.state_dict()), case.config, cut_for_it)
    other = DualFormer(cut_for_it, seed=0).double().eval()
    other.load_state_dict(fitted)
    with torch.no_grad():
        for one, two in zip(run(model, video), run(other, video), strict=True):
            torch.testing.assert_close(one, two, atol=1e-10, rtol=1e-10)


class Sizes(TorchDispatchMode):
    """Counts the entries of every tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.sum = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.largest = max(self.largest, *made, 0)
        self.sum += sum(made)
        return out


def entries_made(scales: tuple[Scale, ...], size: Size3, dtype: torch.dtype) -> Sizes:
    """By a forward and a backward pass."""
    stages = tuple(
        Stage(channels=16, depth=1, patch=patch, window=(2, 4, 4), scales=scales) for patch in ((2, 4, 4), (1, 2, 2))
    )
    config = Config(stages=stages, clip=(8, 64, 64), num_classes=3, head_dim=8)
    model = DualFormer(config, seed=0).to(dtype)
    video = torch.zeros((1, 3, *size), dtype=dtype)
    with Sizes() as sizes_made:
        model(video).sum().backward()
    return sizes_made


PYRAMIDS = (Scale(grid=(4, 4, 4)), Scale(grid=(2, 3, 3), factorised=True), Scale(grid=(2, 2, 2), function="average"))


@pytest.fixture(params=[0, 2**62], ids=["fast", "plain"])
def one_kind_of_gradients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small and large maps have their gradients by the same way."""
    monkeypatch.setattr(depthwise, "_FEWEST_TO_TRAIN", request.param)


@pytest.mark.usefixtures("one_kind_of_gradients")
@pytest.mark.parametrize("size", [(8, 128, 128), (32, 64, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_grows_linearly(dtype: torch.dtype, size: Size3) -> None:
    small, large = (entries_made(PYRAMIDS, each, dtype) for each in ((8, 64, 64), size))
    assert 3.5 * small.largest <= large.largest <= 4 * small.largest
    assert 3.5 * small.sum <= large.sum <= 4 * small.sum


@pytest.mark.usefixtures("one_kind_of_gradients")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_grows_linearly_even_where_every_token_attends_to_all(dtype: torch.dtype) -> None:
    small, large = (entries_made((), size, dtype) for size in ((8, 64, 64), (8, 128, 128)))
    assert large.largest <= 4 * small.largest
    assert large.sum <= 4 * small.sum


def test_scores_that_are_kept_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_kernel, "EXPLICIT_SCORES", 2**62)
    small, large = (entries_made((), size, torch.bfloat16) for size in ((8, 64, 64), (8, 128, 128)))
    assert large.largest == 16 * small.largest
