"""The depth-wise convolution that the pyramid and the PEG are made of: one filter a channel, channels do not mix.

On a CPU, oneDNN has a fast kernel for it. CUDA is known for slow ones in three dimensions, for gradients above all;
there it is rewritten: see `by_cells` and `by_frames`. Neither is measured on a GPU; `benchmarks/gpu.py` would do it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Size3


def conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Size3, groups: int) -> Tensor:
    """`torch.nn.functional.conv3d` without padding, with one group or as many as channels."""
    if groups == 1:
        return F.conv3d(x, weight, bias, stride)
    return depthwise_conv3d(x, weight, bias, stride=stride)


def depthwise_conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Size3 = (1, 1, 1), padding: Size3 = (0, 0, 0)
) -> Tensor:
    """``x`` B C T H W with ``weight`` C 1 t h w, as `torch.nn.functional.conv3d`.

    Under bfloat16 autocast on a CPU it stays in float32: the backward pass of a depth-wise convolution is three to
    four times slower in bfloat16 there.
    """
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


class DepthwiseConv3d(nn.Conv3d):
    """`depthwise_conv3d` with its weights."""

    def __init__(self, channels: int, kernel: Size3, *, padding: Size3, bias: bool = True) -> None:
        super().__init__(channels, channels, kernel, padding=padding, groups=channels, bias=bias)
        self._padding = padding

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that Conv3d gives it)
        """B C T H W → B C T H W."""
        return depthwise_conv3d(input, self.weight, self.bias, padding=self._padding)
