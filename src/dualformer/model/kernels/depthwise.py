"""The depth-wise convolution that the pyramid and the PEG are made of: one filter a channel, channels do not mix.

On a CPU, oneDNN has a fast kernel for it in three dimensions, but none for its gradients: see
`depthwise_conv3d_for_training`. CUDA is known for slow ones in three dimensions, for gradients above all; there it is
rewritten: see `by_cells` and `by_frames`. Neither is measured on a GPU; `benchmarks/gpu.py` would do it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight, conv3d_weight

from dualformer.model.config import Size3
from dualformer.model.kernels.tracing import is_tracing

#: Numbers in the map from which on `depthwise_conv3d_for_training` is worth its many steps.
_FEWEST_TO_TRAIN = 2**15


def conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Size3, groups: int, training: bool = False
) -> Tensor:
    """`torch.nn.functional.conv3d` without padding, with one group or as many as channels."""
    if groups == 1:
        return F.conv3d(x, weight, bias, stride)
    return depthwise_conv3d(x, weight, bias, stride=stride, training=training)


def depthwise_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: Size3 = (1, 1, 1),
    padding: Size3 = (0, 0, 0),
    training: bool = False,
) -> Tensor:
    """``x`` B C T H W with ``weight`` C 1 t h w, as `torch.nn.functional.conv3d`.

    In ``training`` on a CPU it may be `depthwise_conv3d_for_training`, whose gradients have no gradients in turn. Under
    bfloat16 autocast on a CPU it stays in float32: the backward pass of a depth-wise convolution is three to four times
    slower in bfloat16 there.
    """
    if training and _trains_faster(x, weight, stride, padding):
        return depthwise_conv3d_for_training(x, weight, bias, stride=stride)
    groups = weight.shape[0]
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return F.conv3d(x.float(), weight.float(), bias, stride, padding, groups=groups)
    if x.device.type == "cuda":
        t, h, w = kernel = (weight.shape[2], weight.shape[3], weight.shape[4])
        fits = all(length % step == 0 for length, step in zip(x.shape[2:], kernel, strict=True))
        if stride == kernel and padding == (0, 0, 0) and fits:
            return by_cells(x, weight, bias)
        if stride == (1, 1, 1) and padding == (t // 2, h // 2, w // 2) and t % 2 == 1:
            return by_frames(x, weight, bias)
    return F.conv3d(x, weight, bias, stride, padding, groups=groups)


def by_cells(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`depthwise_conv3d` whose stride is the kernel, which divides the map: a weighted sum over each cell's tokens.

    It reads every token once, forward and backward, as any reduction. For GPUs; not measured on one. A CPU takes 20
    times as long for it as for the convolution.
    """
    t, h, w = weight.shape[2:]
    cells = x.unflatten(4, (-1, w)).unflatten(3, (-1, h)).unflatten(2, (-1, t))
    out = (cells * weight[:, 0, None, :, None, :, None].to(x.dtype)).sum(dim=(3, 5, 7))
    return out if bias is None else out + bias[:, None, None, None].to(out.dtype)


def by_frames(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`depthwise_conv3d` with stride 1 that keeps the size: one convolution of all frames for each tap in time.

    The two-dimensional one has kernels in cuDNN, forward and backward, and the frames of channels-last tokens are
    channels-last images as they are. For GPUs; not measured on one.
    """
    length, reach = x.shape[2], weight.shape[2] // 2
    frames = x.transpose(1, 2).flatten(0, 1)
    out = None
    for tap in range(weight.shape[2]):
        first, last = max(0, reach - tap), length - max(0, tap - reach)
        if first >= last:
            continue  # the tap lies outside the map at every frame
        here = F.conv2d(
            frames,
            weight[:, :, tap],
            bias if tap == reach else None,
            padding=(weight.shape[3] // 2, weight.shape[4] // 2),
            groups=weight.shape[0],
        ).unflatten(0, (-1, length))
        # What the tap makes of frame f is for frame f + reach - tap.
        shifted = here[:, first - reach + tap : last - reach + tap]
        shifted = F.pad(shifted, (0, 0, 0, 0, 0, 0, first, length - last))
        out = shifted if out is None else out + shifted
    assert out is not None  # the middle tap lies inside
    return out.transpose(1, 2)


def depthwise_conv3d_for_training(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Size3) -> Tensor:
    """`depthwise_conv3d`, in float32 under autocast too, with faster gradients on a CPU; they have none in turn.

    Either the stride is 1, the kernel's sides are odd, and zeros around the map keep its size; or the kernel is the
    stride, and divides the map into cells.
    """
    return _DepthwiseConv3dForTraining.apply(x, weight, bias, stride)


def gradient_to_input(grad: Tensor, weight: Tensor, stride: Size3) -> Tensor:
    """The gradient to the input of `depthwise_conv3d_for_training`, by ``grad`` B C T H W, the one to its output.

    Where the size is kept, it is the same convolution with the taps in reverse. Of cells, which do not overlap, every
    token gets its tap times the gradient of its cell.
    """
    if stride == (1, 1, 1):
        return _convolve(grad, weight.flip(2, 3, 4), None, stride)
    cells = grad.permute(0, 2, 3, 4, 1)[:, :, None, :, None, :, None]
    taps = weight[:, 0].permute(1, 2, 3, 0)[:, None, :, None]
    return (cells * taps).flatten(5, 6).flatten(3, 4).flatten(1, 2).permute(0, 4, 1, 2, 3)


def gradient_to_weight(x: Tensor, grad: Tensor, kernel: Size3, stride: Size3) -> Tensor:
    """The gradient C 1 t h w to the weight of `depthwise_conv3d_for_training`, by its input and its output's gradient.

    Where the size is kept, it is for each tap in time that of a two-dimensional convolution of all frames, which oneDNN
    has a kernel for. Of cells, PyTorch's is fast.
    """
    channels, (t, h, w) = x.shape[1], kernel
    if stride != (1, 1, 1):
        steps: Any = stride  # conv3d_weight's hints know of one number alone
        return conv3d_weight(x, (channels, 1, t, h, w), grad, steps, groups=channels)
    # Rows of zeros beneath the map add nothing; the kernel wants as many as there are taps.
    beneath = (0, 0, 0, 0, 0, max(0, h - x.shape[3]))
    x, grad = (F.pad(tensor.permute(0, 2, 3, 4, 1), beneath) for tensor in (x, grad))
    padding: Any = (h // 2, w // 2)
    taps: list[Tensor] = []
    for shift in range(-(t // 2), t // 2 + 1):  # the tap looks at the frame that is so much later
        late, early, count = max(0, shift), max(0, -shift), max(0, x.shape[1] - abs(shift))
        frames = x[:, late : late + count].flatten(0, 1).permute(0, 3, 1, 2)
        grads = grad[:, early : early + count].flatten(0, 1).permute(0, 3, 1, 2)
        taps.append(conv2d_weight(frames, (channels, 1, h, w), grads, padding=padding, groups=channels))
    return torch.stack(taps, dim=2)


def _trains_faster(x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> bool:
    if x.device.type != "cpu" or not torch.is_grad_enabled() or is_tracing() or x.numel() < _FEWEST_TO_TRAIN:
        return False
    if weight.dtype != torch.float32 or not (x.dtype == torch.float32 or torch.is_autocast_enabled("cpu")):
        return False
    kernel, size = weight.shape[2:], x.shape[2:]
    if stride == (1, 1, 1):
        return padding == tuple(taps // 2 for taps in kernel) and all(taps % 2 for taps in kernel)
    fits = all(length % step == 0 for length, step in zip(size, kernel, strict=True))
    return stride == tuple(kernel) and padding == (0, 0, 0) and fits


class _DepthwiseConv3dForTraining(torch.autograd.Function):
    """`depthwise_conv3d_for_training`."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size3) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolve(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (decorated)
        (grad,), (x, weight), stride = grad_outputs, ctx.saved_tensors, ctx.stride
        wanted = ctx.needs_input_grad
        return (
            gradient_to_input(grad, weight, stride) if wanted[0] else None,
            gradient_to_weight(x, grad, weight.shape[2:], stride) if wanted[1] else None,
            grad.sum(dim=(0, 2, 3, 4)) if wanted[2] else None,
            None,
        )


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size3) -> Tensor:
    """With the padding that keeps the size where ``stride`` is 1, else with none."""
    padding = [taps // 2 if stride == (1, 1, 1) else 0 for taps in weight.shape[2:]]
    return F.conv3d(x, weight, bias, stride, padding, groups=len(weight))


class DepthwiseConv3d(nn.Conv3d):
    """`depthwise_conv3d` with its weights."""

    def __init__(self, channels: int, kernel: Size3, *, padding: Size3, bias: bool = True) -> None:
        super().__init__(channels, channels, kernel, padding=padding, groups=channels, bias=bias)
        self._padding = padding

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that Conv3d gives it)
        """B C T H W → B C T H W."""
        return depthwise_conv3d(input, self.weight, self.bias, padding=self._padding, training=self.training)
