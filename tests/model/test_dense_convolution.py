"""Gradients to some output channels for each thread are those of the whole convolution, wherever they are used."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Size3
from dualformer.model.kernels import dense_convolution
from dualformer.model.kernels.dense_convolution import DenseConv3d
from dualformer.model.presets import create_model
from dualformer.model.threads import map_pieces

pytestmark = pytest.mark.usefixtures("two_threads")


def draw(*shape: int, seed: int) -> Tensor:
    """Numbers that bfloat16 has."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().float()


def computed(conv: nn.Conv3d, x: Tensor, bfloat16: bool) -> list[Tensor]:
    """The output, and the gradients to input, weight and bias, as float64."""
    conv.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        out = conv(x)
    out.backward(draw(*out.shape, seed=3).to(out.dtype))
    gradients = [x.grad, *(parameter.grad for parameter in conv.parameters())]
    return [tensor.detach().double() for tensor in (out, *gradients) if tensor is not None]


@pytest.fixture
def bfloat16_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed where oneDNN has bfloat16: PyTorch's slow convolution stands for it on other processors."""
    monkeypatch.setattr(dense_convolution, "_cpu_has_bfloat16", lambda: True)


@pytest.fixture(params=["this processor", "one without bfloat16"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "one without bfloat16":
        monkeypatch.setattr(dense_convolution, "_cpu_has_bfloat16", lambda: False)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "padding"),
    [
        ((3, 24), (4, 12, 8), (3, 3, 3), (1, 2, 2), (1, 1, 1)),  # a stem
        ((24, 48), (5, 6, 6), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((32, 64), (2, 6, 4), (1, 2, 2), (1, 2, 2), (0, 0, 0)),  # patches
        ((7, 25), (3, 5, 5), (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # threads have 13 and 12 channels
        ((32, 32), (2, 4, 4), (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # fewer frames than taps
        ((32, 48), (2, 1, 1), (3, 1, 1), (1, 1, 1), (1, 0, 0)),  # the head of moments
        ((8, 16), (3, 4, 4), (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # too few channels for two
    ],
)
def test_output_and_gradients(
    channels: tuple[int, int], size: Size3, kernel: Size3, stride: Size3, padding: Size3, bias: bool
) -> None:
    conv = DenseConv3d(*channels, kernel, stride, padding, bias=bias)
    with torch.no_grad():
        for number, parameter in enumerate(conv.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=number))
    x = draw(2, channels[0], *size, seed=9)
    exact = nn.Conv3d(*channels, kernel, stride, padding, bias=bias).double()
    exact.load_state_dict(conv.state_dict())
    wanted, found = computed(exact, x.double(), False), computed(conv, x, True)
    assert len(found) == len(wanted) == 3 + bias
    for one, other in zip(found, wanted, strict=True):
        # The sums are rounded to the 8 bits of bfloat16 once.
        torch.testing.assert_close(one, other, rtol=2**-8, atol=2e-3 * float(other.abs().max()))


@pytest.mark.usefixtures("processor")
def test_output_without_gradients() -> None:
    conv, x = DenseConv3d(3, 24, (3, 3, 3), padding=(1, 1, 1)), draw(1, 3, 2, 8, 8, seed=0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    with torch.no_grad():
        wanted = F.conv3d(x, conv.weight.bfloat16().float(), conv.bias, padding=1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2**-8, atol=2e-3)


@pytest.mark.usefixtures("bfloat16_cpu")
def test_where_it_is_used() -> None:
    conv, x = DenseConv3d(3, 24, (1, 3, 3)), draw(1, 3, 2, 8, 8, seed=0)

    def used(bfloat16: bool = True) -> bool:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return "ByChannels" in type(conv(x).grad_fn).__name__

    assert used()
    assert not used(bfloat16=False)
    with torch.no_grad():
        assert not used()
    conv.eval()
    assert used()  # norms may be fixed where weights are trained
    conv.weight.requires_grad_(False)
    assert not used()


def test_no_other_convolution_over_time_is_trained() -> None:
    """PyTorch's own may give garbage where kernels overlap in time, see `gradient_to_weight`."""
    model = create_model("dualformer_nano_conv", clip=(4, 32, 32), num_classes=3, head="temporal", seed=0)
    plain = [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Conv3d and module.kernel_size[0] != module.stride[0]
    ]
    assert plain == []


@pytest.mark.usefixtures("bfloat16_cpu")
@pytest.mark.parametrize(("threads", "parts"), [(1, [24]), (2, [12, 12]), (3, [24])])  # of three each would have 8
def test_threads_have_channels(threads: int, parts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()

    def watched(function: Callable[[Tensor], Tensor], pieces: Sequence[Tensor]) -> list[Tensor]:
        seen.extend(piece.shape[1] for piece in pieces)
        return map_pieces(function, pieces)

    monkeypatch.setattr(dense_convolution, "map_pieces", watched)
    torch.set_num_threads(threads)
    computed(DenseConv3d(3, 24, (1, 3, 3)), draw(1, 3, 2, 8, 8, seed=0), True)
    assert seen == parts


@pytest.mark.usefixtures("bfloat16_cpu")
def test_a_network_is_trained_by_it_to_the_same_bits_again() -> None:
    model = create_model("dualformer_nano_conv", clip=(4, 32, 32), num_classes=3, dropout=0.0, seed=0).train()
    names = list[str]()

    def note(name: str, _module: nn.Module, _inputs: Any, out: Tensor) -> None:
        if "ByChannels" in type(out.grad_fn).__name__:
            names.append(name)

    for name, module in model.named_modules():
        if isinstance(module, DenseConv3d):
            module.register_forward_hook(partial(note, name))
    gradients = list[list[Tensor]]()
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(0)  # of the halves that are left out
        with torch.autocast("cpu", torch.bfloat16):
            model(draw(2, 3, 4, 32, 32, seed=1)).float().square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(names) == 2 * 9  # two of the stem, four of C halves, three of patches
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
