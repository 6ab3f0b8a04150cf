"""The global pyramid: a short list of priors pooled from the whole map, at several scales (section 3.2, figure 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Scale, Size3, ceil_div


class Pyramid(nn.Module):
    """Pyramid downsampling: every scale's priors, concatenated and normalised together."""

    def __init__(self, channels: int, map_size: Size3, scales: tuple[Scale, ...]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            (FactorisedPooling if scale.factorised else Pooling)(channels, cell_size(map_size, scale.grid))
            for scale in scales
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B P C."""
        x = x.permute(0, 4, 1, 2, 3)  # Conv3d reads the channels-last tokens through this view, without a copy
        priors = [scale(x).permute(0, 2, 3, 4, 1).flatten(1, 3) for scale in self.scales]
        return self.norm(torch.cat(priors, dim=1))


class Pooling(nn.Module):
    """One depth-wise convolution whose kernel and stride are a cell of the grid."""

    def __init__(self, channels: int, cell: Size3) -> None:
        super().__init__()
        self.conv = DepthwiseConv3d(channels, cell, stride=cell)

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C and the grid."""
        return pool(self.conv, x)


class FactorisedPooling(nn.Module):
    """Space first, then what is left of the cell, as R(2+1)D factorises convolutions."""

    def __init__(self, channels: int, cell: Size3) -> None:
        super().__init__()
        first = (1, spatial_step(cell[1]), spatial_step(cell[2]))
        self.space = DepthwiseConv3d(channels, first, stride=first)
        self.norm = nn.BatchNorm3d(channels)
        rest = ceil_div(cell, first)
        self.rest = DepthwiseConv3d(channels, rest, stride=rest)

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C and the grid."""
        return pool(self.rest, F.relu(self.norm(pool(self.space, x))))


def cell_size(map_size: Size3, grid: Size3) -> Size3:
    """Tokens of one cell: ``map_size / grid``, rounded up where the grid does not divide the map."""
    return ceil_div(map_size, grid)


def spatial_step(cell: int) -> int:
    """How much of a cell's side the spatial convolution of a factorised scale takes: 7 tokens, or all of them."""
    return 7 if cell % 7 == 0 else cell


class DepthwiseConv3d(nn.Conv3d):
    """One filter a channel, without mixing channels.

    Under bfloat16 autocast on a CPU it stays in float32: the bfloat16 backward pass of a depth-wise convolution is
    three to four times slower there.
    """

    def __init__(self, channels: int, kernel: Size3 | int, *, stride: Size3 | int = 1, padding: int = 0) -> None:
        super().__init__(channels, channels, kernel, stride=stride, padding=padding, groups=channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that Conv3d gives it)
        if input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


def pool(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """``conv`` over the map, with zeros where the last cells stick out of it."""
    out = []
    for length, cell in zip(x.shape[:1:-1], conv.kernel_size[::-1], strict=True):
        out += [0, -length % cell]
    return conv(F.pad(x, out) if any(out) else x)
