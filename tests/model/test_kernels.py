"""Linear layers, attention and convolutions by other means: each against the one that says what it is."""

import copy
import logging
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import profile

from dualformer.model.attention import Attention
from dualformer.model.block import Mlp
from dualformer.model.config import Config, Scale, Size3, Stage
from dualformer.model.kernels import attention, depthwise
from dualformer.model.kernels import linear as linear_module
from dualformer.model.kernels.attention import attention_weights, explicit_attention
from dualformer.model.kernels.channels_last import channels_last
from dualformer.model.kernels.depthwise import (
    DepthwiseConv3d,
    by_cells,
    by_frames,
    depthwise_conv3d_for_training,
)
from dualformer.model.kernels.linear import Linear
from dualformer.model.maps import watch_attention
from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.release import release_state
from dualformer.weights.safetensors_file import save_weights


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    (layer(x) * draw(*x.shape[:-1], layer.out_features, seed=5)).sum().backward()
    return [grad for grad in (x.grad, layer.weight.grad, layer.bias.grad) if grad is not None]


@pytest.mark.parametrize(
    ("shape", "convolved"),
    [
        ((2, 4, 49, 32), True),  # 392 tokens are cut into 28 images
        ((1, 50, 400, 32), True),
        ((1, 65537, 32), False),  # a prime number: not into any, and one image is nothing for one thread
        ((3, 5, 32), False),  # too few
    ],
)
def test_a_linear_layer_is_a_convolution(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], convolved: bool
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    ours, theirs = Linear(32, 48), nn.Linear(32, 48)
    theirs.load_state_dict(ours.state_dict())
    calls: list[torch.Size] = []
    conv2d = F.conv2d
    monkeypatch.setattr(linear_module.F, "conv2d", lambda x, *rest: (calls.append(x.shape), conv2d(x, *rest))[1])
    x = draw(*shape)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
    assert len(calls) == convolved
    for one, other in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("rows", [7, 1024])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_mlp_keeps_less_and_gives_the_same_gradients(rows: int, autocast: bool) -> None:
    frugal = Mlp(16, 4)
    plain = copy.deepcopy(frugal)
    plain.fc2.register_forward_hook(lambda *_: None)  # who watches gets the plain steps
    kept, grads = [], []
    for mlp in (frugal, plain):
        saved: dict[int, int] = {}

        def keep(tensor: Tensor, saved: dict[int, int] = saved) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        x = draw(2, rows // 2 + rows % 2, 16).requires_grad_()
        keeping = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with keeping, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = mlp(x)
        (out * draw(*out.shape, seed=3)).sum().backward()
        kept.append(list(saved.values()).count(4 * x.numel()))
        grads.append([x.grad, *(parameter.grad for parameter in mlp.parameters())])
    assert kept == [1, 2]
    tolerance = 0.05 if autocast else 1e-3
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def test_where_a_linear_layer_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, few = Linear(32, 48), draw(1024, 32), draw(1008, 32)
    monkeypatch.setattr(linear_module.F, "conv2d", None)  # calling it would fail
    assert layer.bfloat16()(x.bfloat16()).requires_grad
    with torch.no_grad():
        assert layer.double()(x.double()).dtype == torch.float64
        assert layer.bfloat16()(few.bfloat16()).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert layer.float()(few).dtype == torch.bfloat16
            monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
            assert layer(x).dtype == torch.bfloat16
        assert torch.export.export(layer, (x,)).module()(x).shape == (1024, 48)


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_it_is_a_convolution_without_gradients(monkeypatch: pytest.MonkeyPatch, autocast: bool) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    layer, x = Linear(32, 48), draw(2, 784, 32)
    expected = F.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16())
    calls: list[torch.Size] = []
    conv2d = F.conv2d
    monkeypatch.setattr(linear_module.F, "conv2d", lambda x, *rest: (calls.append(x.shape), conv2d(x, *rest))[1])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = layer(x) if autocast else layer.bfloat16()(x.bfloat16())
    assert calls == [(16, 32, 1, 98)]
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("bias", [False, True])
def test_no_weight_is_copied_for_tokens_that_lie_apart(bias: bool) -> None:
    # PyTorch would copy the weight as many times as there are leading entries: 77 MB here.
    x, weight = draw(3, 300, 64).bfloat16().transpose(0, 1), draw(2000, 64).bfloat16()
    with torch.no_grad(), profile(profile_memory=True) as found:
        out = linear_module.linear(x, weight, weight[:, 0].clone() if bias else None)
    assert max(event.cpu_memory_usage for event in found.events() or []) < 4 * out.nbytes
    expected = F.linear(x.contiguous(), weight, weight[:, 0] if bias else None)
    torch.testing.assert_close(out, expected, atol=0.05, rtol=0.01)


@pytest.mark.parametrize("pieces", [1, 500, 2**21])
@pytest.mark.parametrize("biased", [False, True])
def test_explicit_attention_in_pieces(monkeypatch: pytest.MonkeyPatch, pieces: int, biased: bool) -> None:
    monkeypatch.setattr(attention, "_WEIGHTS_AT_ONCE", pieces)
    q, k, v = (draw(3, 2, n, 8, seed=n, dtype=torch.float64) for n in (7, 11, 11))
    bias = None
    if biased:
        bias = draw(1, 2, 1, 11, dtype=torch.float64).masked_fill(torch.arange(11) % 3 == 1, float("-inf"))
    for scale in (None, 0.7):
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        torch.testing.assert_close(explicit_attention(q, k, v, bias, scale), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("size", [1.0, 30.0, 1e3])
@pytest.mark.parametrize("sign", [1, -1])
def test_scores_of_any_size(size: float, sign: int) -> None:
    """Powers of 2 would overflow or vanish for large scores, all of one sign: softmax takes over."""
    q, k = draw(2, 2, 5, 32).abs() * size, draw(2, 2, 9, 32, seed=1).abs() * sign * size
    q, k, v = q.bfloat16(), k.bfloat16(), draw(2, 2, 9, 32, seed=2).bfloat16()
    expected = attention_weights(q, k) @ v
    torch.testing.assert_close(explicit_attention(q, k, v, None, None), expected, atol=0.05, rtol=0.05)


def test_bfloat16_attention_in_pieces_is_used_for_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (draw(2, 2, 6, 8, seed=n).bfloat16() for n in range(3))
    used: list[bool] = []
    monkeypatch.setattr(
        "dualformer.model.kernels.attention.explicit_attention",
        lambda *args: (used.append(True), explicit_attention(*args))[1],
    )
    with_gradients = Attention()(q, k, v)
    assert not used
    with torch.no_grad():
        torch.testing.assert_close(Attention()(q, k, v), with_gradients, atol=0.02, rtol=0.02)
        assert used == [True]
        Attention()(q.float(), k.float(), v.float())
    assert used == [True]


def test_the_choice_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    attention._log_choice.cache_clear()
    x = draw(1, 1, 4, 8)
    with caplog.at_level(logging.INFO, logger="dualformer"), torch.no_grad():
        for _ in range(3):
            Attention()(x, x, x)
            Attention()(*[x.bfloat16()] * 3)
        monkeypatch.setattr(attention, "EXPLICIT_SCORES", 15)
        with torch.enable_grad():
            Attention()(*[x.bfloat16()] * 3)
    fused = "PyTorch's fused kernel"
    assert [record.getMessage() for record in caplog.records] == [
        f"attention in float32 on the cpu: {fused}, which is the faster one there",
        f"attention in bfloat16 on the cpu: explicit, as {fused} is the slower one there",
        f"attention in bfloat16 on the cpu: {fused}, as in training the weights of so many tokens would take too much "
        "memory",
    ]


def convolved(function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """The result and all gradients."""
    inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
    out = function(*inputs, *([] if bias is not None else [None]))
    return [out, *torch.autograd.grad((out * draw(*out.shape, seed=9, dtype=out.dtype)).sum(), inputs)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("size", "cell"), [((4, 6, 10), (2, 3, 5)), ((3, 4, 4), (1, 4, 2)), ((2, 2, 2), (2, 2, 2))])
def test_cells_as_a_weighted_sum(size: Size3, cell: Size3, bias: bool) -> None:
    x, weight = draw(2, *size, 4, dtype=torch.float64).permute(0, 4, 1, 2, 3), draw(4, 1, *cell, dtype=torch.float64)
    b = draw(4, dtype=torch.float64) if bias else None
    expected = convolved(lambda x, w, b: F.conv3d(x, w, b, stride=cell, groups=4), x, weight, b)
    for one, other in zip(convolved(by_cells, x, weight, b), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(5, 4, 6), (2, 3, 3), (1, 1, 1)])
@pytest.mark.parametrize("kernel_size", [(3, 3, 3), (1, 3, 3), (5, 1, 3)])
def test_frames_convolved_one_by_one(size: Size3, kernel_size: Size3, bias: bool) -> None:
    x = draw(2, *size, 4, dtype=torch.float64).permute(0, 4, 1, 2, 3)
    weight = draw(4, 1, *kernel_size, dtype=torch.float64)
    b = draw(4, dtype=torch.float64) if bias else None
    padding = [length // 2 for length in kernel_size]
    expected = convolved(lambda x, w, b: F.conv3d(x, w, b, padding=padding, groups=4), x, weight, b)
    for one, other in zip(convolved(by_frames, x, weight, b), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


SIDES = st.tuples(*[st.integers(1, 5)] * 3)


@given(SIDES, st.tuples(*[st.sampled_from([1, 3, 5])] * 3), st.booleans(), st.booleans(), st.integers(1, 3))
@example((1, 2, 2), (3, 3, 3), True, True, 2)  # fewer rows than taps, and one frame
@settings(deadline=None, max_examples=30)
def test_gradients_of_convolutions_that_keep_the_size(
    size: Size3, kernel: Size3, bias: bool, channels_innermost: bool, clips: int
) -> None:
    assert_gradients(size, kernel, (1, 1, 1), bias, channels_innermost, clips)


@given(SIDES, SIDES, st.booleans(), st.booleans(), st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_gradients_of_convolutions_of_cells(
    grid: Size3, cell: Size3, bias: bool, channels_innermost: bool, clips: int
) -> None:
    t, h, w = (cells * length for cells, length in zip(grid, cell, strict=True))
    assert_gradients((t, h, w), cell, cell, bias, channels_innermost, clips)


def assert_gradients(
    size: Size3, kernel: Size3, stride: Size3, bias: bool, channels_innermost: bool, clips: int
) -> None:
    """`depthwise_conv3d_for_training` against PyTorch's own gradients, in float64."""
    x = draw(clips, 3, *size, dtype=torch.float64)
    if channels_innermost:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    weight, b = draw(3, 1, *kernel, seed=1, dtype=torch.float64), draw(3, seed=2, dtype=torch.float64) if bias else None
    padding = [taps // 2 if stride == (1, 1, 1) else 0 for taps in kernel]
    expected = convolved(lambda x, w, b: F.conv3d(x, w, b, stride, padding, groups=3), x, weight, b)
    ours = convolved(lambda x, w, b: depthwise_conv3d_for_training(x, w, b, stride=stride), x, weight, b)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-11)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of the maps that were convolved for training, which small ones are too here."""
    calls: list[torch.Size] = []
    run = depthwise_conv3d_for_training
    monkeypatch.setattr(depthwise, "_FEWEST_TO_TRAIN", 0)
    monkeypatch.setattr(
        depthwise,
        "depthwise_conv3d_for_training",
        lambda x, *rest, **stride: (calls.append(x.shape), run(x, *rest, **stride))[1],
    )
    return calls


def test_a_network_is_trained_by_them(trainings: list[torch.Size], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients add up, and are those of the plain convolution, with gradient checkpointing as well."""
    scales = (Scale(grid=(2, 3, 3)), Scale(grid=(2, 2, 2), factorised=True))
    stage = Stage(channels=32, depth=1, patch=(2, 2, 2), window=(2, 3, 3), scales=scales)
    model = DualFormer(Config(stages=(stage,), clip=(8, 24, 24), num_classes=5, dropout=0.0), seed=0)
    grads: list[dict[str, Tensor]] = []
    for by_them, checkpointing in ((False, False), (True, False), (True, True)):
        trainings.clear()
        with monkeypatch.context() as patch:
            if not by_them:
                patch.setattr(depthwise, "_trains_faster", lambda *_: False)
            network = copy.deepcopy(model).train()
            network.set_grad_checkpointing(checkpointing)
            for seed in (1, 2):
                network(draw(2, 3, 8, 24, 24, seed=seed)).logsumexp(dim=1).sum().backward()
        # The PEG and three convolutions of the pyramid, of which checkpoints do the pyramid's again.
        assert len(trainings) == 2 * by_them * (4 + 3 * checkpointing)
        grads.append(
            {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
        )
    for other in grads[1:]:
        for name, grad in grads[0].items():
            torch.testing.assert_close(other[name], grad, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_gradients_are_those_of_float32(trainings: list[torch.Size], dtype: torch.dtype) -> None:
    layer = DepthwiseConv3d(4, (3, 3, 3), padding=(1, 1, 1))
    exact, x = copy.deepcopy(layer), draw(2, 4, 3, 5, 5).to(dtype)
    xs = [x.clone().requires_grad_(), x.float().requires_grad_()]
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(xs[0])
    assert out.dtype == torch.float32
    assert len(trainings) == 1
    out.square().sum().backward()
    exact(xs[1]).square().sum().backward()
    assert xs[0].grad is not None and xs[0].grad.dtype == dtype
    torch.testing.assert_close(
        xs[0].grad, xs[1].grad, check_dtype=False, atol=1e-5, rtol=1e-2 if dtype != torch.float32 else 1e-5
    )
    for one, other in zip(layer.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-5)


def test_where_a_depthwise_convolution_stays_one(trainings: list[torch.Size]) -> None:
    layer, x = DepthwiseConv3d(4, (3, 3, 3), padding=(1, 1, 1)), draw(2, 4, 3, 5, 5)
    with torch.no_grad():
        layer(x)
    layer.eval()(x)
    torch.export.export(layer.train(), (x,))
    layer.double()(x.double())
    DepthwiseConv3d(4, (2, 3, 3), padding=(1, 1, 1))(x)
    DepthwiseConv3d(4, (3, 3, 3), padding=(0, 1, 1))(x)
    assert trainings == []
    layer.float()(x)
    assert trainings == [x.shape]


def test_gradients_for_training_have_no_gradients(trainings: list[torch.Size]) -> None:
    layer, x = DepthwiseConv3d(4, (3, 3, 3), padding=(1, 1, 1)), draw(2, 4, 3, 5, 5).requires_grad_()
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
    (grad,) = torch.autograd.grad(layer.eval()(x).square().sum(), x, create_graph=True)
    grad.sum().backward()  # outside training there are
    assert x.grad is not None


def test_pixels_are_put_in_another_order_for_training_alone() -> None:
    x = draw(2, 3, 4, 8, 8)
    assert channels_last(x).stride(1) == 1
    assert channels_last(x).equal(x)
    with torch.no_grad():
        assert channels_last(x) is x
    with torch.autocast("cpu", torch.bfloat16):
        assert channels_last(x) is x
    assert channels_last(x.double()).stride() == x.stride()

    class Reordered(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return channels_last(x) + 1

    nodes = torch.export.export(Reordered(), (x,)).graph.nodes
    assert [node.target for node in nodes if node.op == "call_function"] == [torch.ops.aten.add.Tensor]


@pytest.fixture
def trained() -> DualFormer:
    """A network whose BatchNorm statistics and attention are far from those of fresh weights."""
    scales = (Scale(grid=(2, 3, 3)), Scale(grid=(2, 2, 2), factorised=True))
    stages = (
        Stage(channels=16, depth=1, patch=(2, 2, 2), window=(2, 3, 3), scales=scales),
        Stage(channels=32, depth=1, patch=(1, 2, 2), window=(2, 3, 3)),
    )
    model = DualFormer(Config(stages=stages, clip=(8, 24, 24), num_classes=5, head_dim=8), seed=0).double().eval()
    for number, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.is_floating_point():
            tensor += 0.3 * draw(*tensor.shape, seed=number, dtype=torch.float64)
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
    return model


@torch.no_grad()
def test_a_folded_network_computes_the_same(trained: DualFormer) -> None:
    folded = copy.deepcopy(trained)
    assert folded.fold() is folded
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.modules())
    assert {module.scale for module in folded.modules() if isinstance(module, Attention)} == {1.0}
    for size in ((8, 24, 24), (6, 20, 26)):
        clips = draw(2, 3, *size, dtype=torch.float64)
        expected = trained(clips)
        torch.testing.assert_close(folded(clips), expected, atol=1e-11, rtol=1e-11)
        torch.testing.assert_close(folded.fold()(clips), expected, atol=1e-11, rtol=1e-11)  # once is enough
        with watch_attention(trained) as one, watch_attention(folded) as other:
            trained(clips)
            folded(clips)
        for a, b in zip(one.maps, other.maps, strict=True):
            torch.testing.assert_close(a.of_token((1, 2, 3)), b.of_token((1, 2, 3)), atol=1e-11, rtol=1e-11)


def test_what_a_folded_network_refuses(trained: DualFormer, tmp_path: object) -> None:
    folded = trained.train().fold()
    assert not folded.training  # folding is for inference
    assert not folded.eval().training
    with pytest.raises(ValueError, match="for inference only"):
        folded.train()
    card = Card(
        config=folded.config,
        labels=tuple("abcde"),
        preprocessing=kinetics(frames=8, stride=1, size=24),
        provenance="",
        licence="",
    )
    with pytest.raises(ValueError, match="save it before fold"):
        save_weights(f"{tmp_path}/folded.safetensors", folded, card)
    with pytest.raises(ValueError, match="convert it before fold"):
        release_state(folded)


@pytest.mark.parametrize("kinds", ["LG", "CG"])
def test_transforms_of_functions_take_a_network_in_training(monkeypatch: pytest.MonkeyPatch, kinds: str) -> None:
    """`torch.func` on a network that trains: its gradients are autograd's, and by `vmap` those of each clip, for which
    there must be no BatchNorm. Buffers that change are an argument, as for every module."""
    monkeypatch.setattr(depthwise, "_FEWEST_TO_TRAIN", 0)
    stage = Stage(channels=32, depth=1, patch=(2, 4, 4), window=(1, 2, 2), kinds=kinds, scales=(Scale(grid=(1, 2, 2)),))
    config = Config(stages=(stage,), clip=(4, 16, 16), num_classes=3, dropout=0.0, drop_path=0.0)
    network = DualFormer(config, seed=0).train()
    parameters: dict[str, Tensor] = dict(network.named_parameters())
    buffers, clips = dict(copy.deepcopy(network).named_buffers()), draw(3, 3, 4, 16, 16)

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], clip: Tensor) -> Tensor:
        return torch.func.functional_call(network, {**parameters, **buffers}, (clip,)).square().sum()

    found = torch.func.grad(loss)(parameters, buffers, clips)
    loss(parameters, buffers, clips).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-4)
    if buffers:
        return
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, None, 0))(parameters, buffers, clips[:, None])
    for name in parameters:
        torch.testing.assert_close(each[name].sum(dim=0), found[name], atol=1e-5, rtol=1e-4)
