"""What the tests check on a CPU, checked on another device: every faster way against the plain pass in float64.

The reference is the network's own plain pass, or PyTorch's own layer, on the CPU in float64; the tests hold the former
against a second one, written out of the paper. What is compared was rounded to the number format before, for both
sides. Convolutions in float32 are held to full precision here, without TF32. `gpu.py` runs these.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model import tiles
from dualformer.model.compiling import CompileError, CompileMode, compile_network
from dualformer.model.config import Config, Scale, Size3, Stage
from dualformer.model.kernels.attention import attention_weights, explicit_attention, scaled_dot_product
from dualformer.model.kernels.depthwise import by_cells, by_frames, depthwise_conv3d
from dualformer.model.kernels.linear import linear, weight_gradient
from dualformer.model.kernels.mlp import gelu_linear
from dualformer.model.network import DualFormer, PatchEmbedding
from dualformer.model.presets import preset_config

NETWORKS = {"Nano": "dualformer_nano", "Nano Conv": "dualformer_nano_conv"}
"""The second has a stem and C halves."""
_SCALES = (Scale(grid=(2, 3, 3)), Scale(grid=(2, 2, 2), factorised=True))
SMALL = {
    "Nano": Config(
        stages=(Stage(channels=16, depth=1, patch=(2, 4, 4), window=(2, 4, 4), scales=_SCALES),),
        clip=(4, 24, 24),
        num_classes=5,
        head_dim=8,
        dropout=0.0,
    ),
    "Nano Conv": Config(
        stages=(
            Stage(channels=16, depth=1, patch=(2, 4, 4), embedding="convolutions", kinds="C"),
            Stage(channels=16, depth=1, patch=(1, 2, 2), kinds="CG", scales=_SCALES[1:], convolution="depthwise"),
        ),
        clip=(4, 24, 24),
        num_classes=5,
        head_dim=8,
        dropout=0.0,
    ),
}
"""What stands in for them with ``quick``, and is compiled."""
OTHER_SIZES: Mapping[bool, Size3] = {False: (11, 90, 125), True: (3, 18, 29)}
"""By ``quick``: clips that neither patches nor windows divide."""
KERNEL_TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 4e-2}
"""Largest difference, relative to a tensor's largest entry."""
NETWORK_TOLERANCES = {torch.float64: 1e-7, torch.float32: 2e-2, torch.bfloat16: 0.2}
"""Norm of the difference, relative to a tensor's norm: ReLUs whose input is rounded over zero change single entries.
Gradients of deep random networks in bfloat16 may be farther off: see `compare_networks`."""


class NotDone(Exception):
    """What this device, or what is installed, cannot do, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is checked and measured, and how thoroughly."""

    device: torch.device
    quick: bool
    """Networks and clips as small as they come, and a compiler's tracer in place of the compiler."""
    folder: Path
    """For files."""

    @property
    def dtypes(self) -> list[torch.dtype]:
        """Number formats that are compared."""
        return [dtype for dtype in KERNEL_TOLERANCES if dtype != torch.float64 or self.device.type != "mps"]

    def compiled(self, model: DualFormer, mode: CompileMode) -> DualFormer:
        """Errors: `NotDone` where PyTorch cannot compile."""
        if self.quick:
            traced = copy.copy(model)
            traced.forward_features = torch.compile(model.forward_features, backend="eager", dynamic=False)
            return traced
        try:
            return compile_network(model, mode, device=self.device)
        except CompileError as error:
            raise NotDone(str(error)) from error

    def need_graphs(self) -> None:
        """Errors: `NotDone` where there are no CUDA graphs."""
        if self.device.type != "cuda":
            raise NotDone(f"CUDA graphs need a CUDA device, and this is {self.device}")

    def wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


@contextmanager
def full_float32() -> Iterator[None]:
    """Without TF32 in convolutions; matrix products have none by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64 on the CPU, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def results(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """What ``function`` gives, and the gradients of a weighted sum of it."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    out = function(*leaves)
    weights = draw(*out.shape, seed=9).to(out.device, out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, weights)]


@full_float32()
def check_kernel(
    target: Target, ours: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor
) -> dict[torch.dtype, float]:
    """Forward and gradients in every number format; returns the largest difference in each."""
    worst: dict[torch.dtype, float] = {}
    for dtype in target.dtypes:
        rounded = [tensor.to(dtype) for tensor in inputs]
        expected = results(reference, [tensor.double() for tensor in rounded])
        found = results(ours, [tensor.to(target.device) for tensor in rounded])
        names = ["the result", *(f"the gradient of input {number + 1}" for number in range(len(inputs)))]
        worst[dtype] = max(
            _near(name, one, other, KERNEL_TOLERANCES[dtype], dtype)
            for name, one, other in zip(names, found, expected, strict=True)
        )
    return worst


def _near(name: str, found: Tensor, expected: Tensor, tolerance: float, dtype: torch.dtype) -> float:
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    if found.shape != expected.shape:
        raise AssertionError(f"{name}: {tuple(found.shape)} in place of {tuple(expected.shape)}")
    error = float((found - expected).abs().max()) / max(1e-6, float(expected.abs().max()))
    if not error <= tolerance:  # NaN is not near
        raise AssertionError(f"{name} is off by {error:.2g} of its largest entry in {_short(dtype)}")
    return error


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def told(worst: Mapping[torch.dtype, float]) -> str:
    return "off by at most " + ", ".join(f"{error:.0e} in {_short(dtype)}" for dtype, error in worst.items())


def worst_of(*checked: Mapping[torch.dtype, float]) -> str:
    return told({dtype: max(each[dtype] for each in checked) for dtype in checked[0]})


# Kernels


def attention(target: Target) -> str:
    """The fused kernel and both explicit ones, with and without keys that are masked."""
    q, k, v = draw(2, 3, 50, 32), draw(2, 3, 70, 32, seed=1), draw(2, 3, 70, 32, seed=2)
    mask = torch.zeros(1, 1, 1, 70).masked_fill(torch.arange(70) % 3 == 1, float("-inf"))
    checked = []
    for masked in (False, True):

        def bias(like: Tensor, masked: bool = masked) -> Tensor | None:
            return mask.to(like.device, like.dtype) if masked else None

        def explicit(*of: Tensor, bias: Callable[[Tensor], Tensor | None] = bias) -> Tensor:
            return attention_weights(of[0], of[1], bias(of[0])) @ of[2]

        def fused(*of: Tensor, bias: Callable[[Tensor], Tensor | None] = bias) -> Tensor:
            return scaled_dot_product(of[0], of[1], of[2], bias(of[0]), None)

        checked += [check_kernel(target, ours, explicit, q, k, v) for ours in (fused, explicit)]
        with torch.no_grad():
            for dtype in target.dtypes:
                rounded = [tensor.to(dtype) for tensor in (q, k, v)]
                q1, k1, v1 = (tensor.to(target.device) for tensor in rounded)
                expected = explicit(*(tensor.double() for tensor in rounded))
                found = explicit_attention(q1, k1, v1, bias(q1), None)
                _near("attention in pieces", found, expected, KERNEL_TOLERANCES[dtype], dtype)
    return worst_of(*checked)


def linear_layers(target: Target) -> str:
    x, weight, bias = draw(4, 98, 32), draw(48, 32, seed=1), draw(48, seed=2)
    hidden, second, third = draw(2, 196, 64), draw(32, 64, seed=3), draw(32, seed=4)

    def mlp(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = nn.Linear(64, 32).to(weight.device, weight.dtype)
        return torch.func.functional_call(_GeluLinear(layer), {"layer.weight": weight, "layer.bias": bias}, hidden)

    checked = [
        check_kernel(target, linear, F.linear, x, weight, bias),
        check_kernel(target, mlp, lambda hidden, w, b: F.linear(F.gelu(hidden), w, b), hidden, second, third),
        check_kernel(target, weight_gradient, lambda x, g: g.flatten(0, 1).T @ x.flatten(0, 1), x, draw(4, 98, 48)),
    ]
    return worst_of(*checked)


class _GeluLinear(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor) -> Tensor:
        return gelu_linear(hidden, self.layer)


def cells(target: Target) -> str:
    """`by_cells`, and what `depthwise_conv3d` chooses."""
    size, cell = (4, 6, 10), (2, 3, 5)
    x, weight, bias = draw(2, *size, 16).permute(0, 4, 1, 2, 3), draw(16, 1, *cell, seed=1), draw(16, seed=2)

    def reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv3d(x, weight, bias, cell, groups=16)

    def chosen(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return depthwise_conv3d(x, weight, bias, stride=cell)

    return worst_of(*(check_kernel(target, ours, reference, x, weight, bias) for ours in (by_cells, chosen)))


def frames(target: Target) -> str:
    """`by_frames`, and what `depthwise_conv3d` chooses."""
    checked = []
    for taps in ((3, 3, 3), (1, 3, 3), (5, 1, 3)):
        x, weight, bias = draw(2, 5, 6, 7, 16).permute(0, 4, 1, 2, 3), draw(16, 1, *taps, seed=1), draw(16, seed=2)
        padding = (taps[0] // 2, taps[1] // 2, taps[2] // 2)

        def reference(x: Tensor, weight: Tensor, bias: Tensor, padding: Size3 = padding) -> Tensor:
            return F.conv3d(x, weight, bias, padding=padding, groups=16)

        def chosen(x: Tensor, weight: Tensor, bias: Tensor, padding: Size3 = padding) -> Tensor:
            return depthwise_conv3d(x, weight, bias, padding=padding)

        checked += [check_kernel(target, ours, reference, x, weight, bias) for ours in (by_frames, chosen)]
    return worst_of(*checked)


def patches(target: Target) -> str:
    """Convolutions whose kernel is their stride, as matrix products: patch embedding and merging."""
    checked = []
    for channels, patch, size in ((3, (2, 4, 4), (8, 16, 24)), (32, (1, 2, 2), (4, 8, 6))):
        embedding = PatchEmbedding(channels, 32, patch)
        inputs = [draw(*parameter.shape, seed=seed) for seed, parameter in enumerate(embedding.parameters())]
        ours, plain = (_with_parameters(embedding, way) for way in (tiles.project_patches, _convolved_patches))
        checked.append(check_kernel(target, ours, plain, draw(2, channels, *size), *inputs))
    return worst_of(*checked)


def _convolved_patches(embedding: PatchEmbedding, x: Tensor) -> Tensor:
    return embedding.norm(embedding.proj(x).permute(0, 2, 3, 4, 1))


def _with_parameters(
    embedding: PatchEmbedding, way: Callable[[PatchEmbedding, Tensor], Tensor]
) -> Callable[..., Tensor]:
    """``way`` as a function of its input and of the embedding's parameters."""
    names = [f"embedding.{name}" for name, _ in embedding.named_parameters()]

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = embedding

        def forward(self, x: Tensor) -> Tensor:
            return way(self.embedding, x)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(Called(), dict(zip(names, parameters, strict=True)), x)

    return run


# Networks


def config_of(target: Target, name: str) -> Config:
    if target.quick:
        return SMALL[name]
    return preset_config(NETWORKS[name], num_classes=5, dropout=0.0, drop_path=0.0)


def network_of(config: Config) -> DualFormer:
    """In float64 on the CPU, in evaluation, with weights that keep numbers near 1 and statistics of every BatchNorm."""
    model = DualFormer(config, seed=0).double().eval()
    for seed, (name, tensor) in enumerate(model.state_dict().items()):
        if not tensor.is_floating_point():
            continue  # how many batches BatchNorm has seen
        values = draw(*tensor.shape, seed=seed)
        if name.endswith("running_var") or (name.endswith("weight") and tensor.dim() == 1):
            tensor.copy_(1 + 0.2 * values.tanh())
        else:
            tensor.copy_(values * (0.2 if tensor.dim() == 1 else tensor[0].numel() ** -0.5))
    return model


def network_results(model: DualFormer, video: Tensor, *, autocast: bool = False) -> dict[str, Tensor]:
    """Logits, and gradients of the video and of every parameter."""
    video = video.clone().requires_grad_()
    with torch.autocast(video.device.type, torch.bfloat16) if autocast else nullcontext():
        logits = model(video)
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(
        logits, [video, *parameters.values()], draw(*logits.shape, seed=8).to(logits.device, logits.dtype)
    )
    return {"logits": logits.detach(), **dict(zip(["video", *parameters], grads, strict=True))}


def compare_networks(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    tolerance: float,
    what: str,
    *,
    rounded: Mapping[str, Tensor] | None = None,
) -> float:
    """Returns the largest difference. Gradients that are next to nothing are held to the largest one.

    ``rounded`` is what the CPU makes of the same in the same number format: a tensor may be twice as far off as that.
    """
    least = 1e-3 * max(float(tensor.detach().double().norm()) for tensor in expected.values())
    worst = 0.0
    for name, one in found.items():
        other = expected[name].detach().cpu().double()
        floor = 0.0 if name == "logits" else least
        scale = max(floor, float(other.norm()))
        error = float((one.detach().cpu().double() - other).norm()) / scale
        allowed = tolerance
        if rounded is not None:
            allowed = max(tolerance, 2 * float((rounded[name].detach().double() - other).norm()) / scale)
        if not error <= allowed:
            kind = "logits are" if name == "logits" else f"the gradient of {name} is"
            raise AssertionError(f"{what}: {kind} off by {error:.2g} of its norm")
        worst = max(worst, error)
    return worst


def clips(config: Config, size: Size3 | None = None, count: int = 2) -> Tensor:
    return draw(count, 3, *(size or config.clip), seed=5).float().double()


@full_float32()
def _check_networks(
    target: Target, *, size: Size3 | None = None, training: bool = False, autocast: bool = False
) -> str:
    checked = []
    for name in NETWORKS:
        model = network_of(config_of(target, name)).train(training)
        video = clips(model.config, size)
        expected = network_results(copy.deepcopy(model), video)
        worst: dict[torch.dtype, float] = {}
        for dtype in target.dtypes:
            rounded = dtype == torch.bfloat16
            if rounded and not autocast:
                continue
            kept = torch.float32 if rounded else dtype
            there = copy.deepcopy(model).to(target.device, kept)
            found = network_results(there, video.to(target.device, kept), autocast=rounded)
            what, tolerance = f"{name} in {_short(dtype)}", NETWORK_TOLERANCES[dtype]
            on_cpu = network_results(copy.deepcopy(model).float(), video.float(), autocast=True) if rounded else None
            worst[dtype] = compare_networks(found, expected, tolerance, what, rounded=on_cpu)
        checked.append(worst)
    return worst_of(*checked)


def networks(target: Target) -> str:
    """Logits and all gradients, in evaluation; in bfloat16 by autocast."""
    return _check_networks(target, autocast=True)


def batch_statistics(target: Target) -> str:
    """The same in training, where BatchNorm takes the batch's own statistics."""
    return _check_networks(target, training=True)


def other_sizes(target: Target) -> str:
    """Clips that neither patches nor windows divide."""
    return _check_networks(target, size=OTHER_SIZES[target.quick])


@full_float32()
@torch.no_grad()
def inference(target: Target) -> str:
    """Folded networks, as prediction runs them."""
    checked = []
    for name in NETWORKS:
        model = network_of(config_of(target, name))
        expected, worst = {"logits": plain_logits(model, clips(model.config))}, dict[torch.dtype, float]()
        for dtype in target.dtypes:
            kept = torch.float32 if dtype == torch.bfloat16 else dtype
            there = copy.deepcopy(model).fold().to(target.device, kept)
            with torch.autocast(target.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                found = {"logits": there(clips(model.config).to(target.device, kept))}
            worst[dtype] = compare_networks(found, expected, NETWORK_TOLERANCES[dtype], f"{name} in {_short(dtype)}")
        checked.append(worst)
    return worst_of(*checked)


def plain_logits(model: DualFormer, video: Tensor) -> Tensor:
    with torch.enable_grad():  # which keeps it from tiles and threads
        return model(video).detach()
