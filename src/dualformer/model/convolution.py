"""The depth-wise convolution that the pyramid and the PEG are made of: one filter a channel, channels do not mix."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Size3


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
    return F.conv3d(x, weight, bias, stride, padding, groups=groups)


class DepthwiseConv3d(nn.Conv3d):
    """`depthwise_conv3d` with its weights."""

    def __init__(self, channels: int, kernel: Size3, *, padding: Size3) -> None:
        super().__init__(channels, channels, kernel, padding=padding, groups=channels)
        self._padding = padding

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that Conv3d gives it)
        """B C T H W → B C T H W."""
        return depthwise_conv3d(input, self.weight, self.bias, padding=self._padding)
