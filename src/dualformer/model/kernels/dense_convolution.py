"""Dense convolutions in three dimensions that are exact and bear company in bfloat16 on a CPU."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv3d_input, conv3d_weight

from dualformer.model.config import Size3
from dualformer.model.kernels.linear import product_dtype
from dualformer.model.kernels.tracing import is_tracing
from dualformer.model.threads import map_pieces, thread_count

_FEWEST_CHANNELS = 12
"""Of a thread's part: fewer were not measured."""


def _by_channels(conv: nn.Conv3d, x: Tensor) -> Tensor:
    bias = None if conv.bias is None else conv.bias.to(torch.bfloat16)
    weight = conv.weight.to(torch.bfloat16)
    x = x.to(torch.bfloat16, memory_format=torch.channels_last_3d)
    return _GradientsByChannels.apply(x, weight, bias, conv.stride, conv.padding)


def _in_float32(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """The same rounded numbers, multiplied and added in float32, and the result and its gradients rounded once."""
    x, weight = x.to(torch.bfloat16).float(), conv.weight.to(torch.bfloat16).float()
    bias = None if conv.bias is None else conv.bias.to(torch.bfloat16).float()
    stride: Any = conv.stride
    padding: Any = conv.padding
    with torch.autocast("cpu", enabled=False):
        return F.conv3d(x, weight, bias, stride, padding).to(torch.bfloat16)


@cache
def _cpu_has_bfloat16() -> bool:
    """Whether oneDNN has convolutions in bfloat16 for this processor."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _is_trained(conv: nn.Conv3d) -> bool:
    """Whether a gradient to the weight will be wanted, in eval mode as well: a part may be trained with fixed norms."""
    return torch.is_grad_enabled() and conv.weight.requires_grad


class DenseConv3d(nn.Conv3d):
    """A convolution of one group, with zeros around the map.

    As it is trained in bfloat16 on a CPU, each thread computes alone the gradients to the weights of some output
    channels (`gradient_to_weight`). In oneDNN's own, threads meet again and again within the operation and wait awake,
    which takes many times as long where another process has the core of one. These gradients have none in turn.

    On a processor for which oneDNN has no convolution in bfloat16 it is computed in float32: PyTorch's own takes a
    hundred times as long, and rounds the gradient to the input after every tap.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that Conv3d gives it)
        """B C T H W → B C' T' H' W'."""
        if input.device.type == "cpu" and product_dtype(input) == torch.bfloat16 and not is_tracing():
            if not _cpu_has_bfloat16():
                return _in_float32(self, input)
            if _is_trained(self):
                return _by_channels(self, input)
        return super().forward(input)


def gradient_to_weight(x: Tensor, grad: Tensor, kernel: Size3, stride: Size3, padding: Size3) -> Tensor:
    """The gradient C' C t h w to the weight of a convolution, by its input and its output's gradient in bfloat16.

    Of maps that have fewer frames than the kernel it is computed in float32: oneDNN's in bfloat16 is anything then.
    """
    threads, channels, short = thread_count(), grad.shape[1], x.shape[2] < kernel[0]
    hints: Any = (stride, padding)  # conv3d_weight's know of one number alone

    def of_channels(part: Tensor) -> Tensor:
        part = part.contiguous(memory_format=torch.channels_last_3d)
        size = (part.shape[1], x.shape[1], *kernel)
        if short:
            return conv3d_weight(x.float(), size, part.float(), *hints).to(x.dtype)
        return conv3d_weight(x, size, part, *hints)

    parts = threads if threads <= channels // _FEWEST_CHANNELS else 1
    return torch.cat(map_pieces(of_channels, grad.chunk(parts, dim=1)))


class _GradientsByChannels(torch.autograd.Function):
    """The convolution of `_by_channels`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (decorated)
        (grad,), (x, weight), stride, padding = grad_outputs, ctx.saved_tensors, ctx.stride, ctx.padding
        wanted = ctx.needs_input_grad
        return (
            conv3d_input(x.shape, weight, grad, stride, padding) if wanted[0] else None,
            gradient_to_weight(x, grad, weight.shape[2:], stride, padding) if wanted[1] else None,
            grad.sum(dim=(0, 2, 3, 4)) if wanted[2] else None,
            None,
            None,
        )
