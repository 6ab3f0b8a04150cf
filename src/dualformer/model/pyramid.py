"""The global pyramid: a short list of priors pooled from the whole map, at several scales (section 3.2, figure 4).

A scale's grid says how many priors there are, whatever the size of the map: cells grow with the map, and attention
costs P·N·C however large N is. The weights are cut for the cells of the config's own clip. For other cells the
kernels are resampled by area, and a map that the grid does not divide is averaged by area to one that it does. So a
network gives for another clip size exactly what its weights give when they are loaded into a network cut for that size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Scale, Size3
from dualformer.model.kernels.depthwise import conv3d


class Pyramid(nn.Module):
    """Pyramid downsampling: every scale's priors, concatenated and normalised together."""

    def __init__(self, channels: int, map_size: Size3, scales: tuple[Scale, ...]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_pooling(channels, map_size, scale) for scale in scales)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B P C."""
        x = x.permute(0, 4, 1, 2, 3)
        priors = [scale(x).permute(0, 2, 3, 4, 1).flatten(1, 3) for scale in self.scales]
        return self.norm(torch.cat(priors, dim=1))


class Pooling(nn.Module):
    """One convolution whose kernel and stride are a cell of the grid."""

    def __init__(self, channels: int, map_size: Size3, grid: Size3, *, depthwise: bool) -> None:
        super().__init__()
        self.grid = grid
        self.conv = CellConv3d(channels, cell_size(map_size, grid), depthwise=depthwise)

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C and the grid."""
        x, cell = fit_to_grid(x, self.grid)
        return self.conv(x, cell)


class FactorisedPooling(nn.Module):
    """Space first, then what is left of the cell, as R(2+1)D factorises convolutions."""

    def __init__(self, channels: int, map_size: Size3, grid: Size3, *, depthwise: bool) -> None:
        super().__init__()
        self.grid = grid
        first, rest = factors(cell_size(map_size, grid))
        self.space = CellConv3d(channels, first, depthwise=depthwise)
        self.norm: nn.Module = nn.BatchNorm3d(channels)
        self.rest = CellConv3d(channels, rest, depthwise=depthwise)

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C and the grid."""
        x, cell = fit_to_grid(x, self.grid)
        first, rest = factors(cell)
        return self.rest(F.relu(self.norm(self.space(x, first))), rest)


class AveragePooling(nn.Module):
    """The mean of every cell."""

    def __init__(self, grid: Size3) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C and the grid."""
        x, cell = fit_to_grid(x, self.grid)
        for axis, length in enumerate(cell, 2):  # avg_pool3d knows no half precision on a CPU
            x = x.unflatten(axis, (-1, length)).mean(axis + 1)
        return x


class CellConv3d(nn.Conv3d):
    """A convolution over cells: the kernel is the stride, and is resampled to the cell that the map has."""

    def __init__(self, channels: int, cell: Size3, *, depthwise: bool) -> None:
        super().__init__(channels, channels, cell, stride=cell, groups=channels if depthwise else 1)

    def forward(self, input: Tensor, cell: Size3 | None = None) -> Tensor:  # noqa: A002 (Conv3d's name)
        """B C T H W → B C T/t H/h W/w; the ``cell`` t h w (default: the one the weights are for) divides the map."""
        t, h, w = cell or self.kernel_size
        kernel = resample_kernel(self.weight, (t, h, w))
        return conv3d(input, kernel, self.bias, stride=(t, h, w), groups=self.groups, training=self.training)


def cell_size(map_size: Size3, grid: Size3) -> Size3:
    """Tokens of one cell: ``map_size / grid`` rounded down, and never less than one token."""
    t, h, w = (max(1, length // cells) for length, cells in zip(map_size, grid, strict=True))
    return t, h, w


def factors(cell: Size3) -> tuple[Size3, Size3]:
    """What the two convolutions of a factorised scale take of a cell: 7 × 7 tokens where it has them, and the rest."""
    t, h, w = cell
    first = (1, 7 if h % 7 == 0 else h, 7 if w % 7 == 0 else w)
    return first, (t, h // first[1], w // first[2])


def fit_to_grid(x: Tensor, grid: Size3) -> tuple[Tensor, Size3]:
    """B C T H W → the same map, averaged by area to a multiple of the grid where it is none, and its cell size."""
    size = (x.shape[2], x.shape[3], x.shape[4])
    cell = cell_size(size, grid)
    for axis, (length, step, cells) in enumerate(zip(size, cell, grid, strict=True), 2):
        if (fitting := step * min(cells, length)) != length:
            overlap = area_matrix(length, fitting, x)
            x = torch.movedim(torch.movedim(x, axis, -1) @ (overlap * (fitting / length)), -1, axis)
    return x, cell


def resample_kernel(weight: Tensor, cell: Size3) -> Tensor:
    """A kernel … t h w → … and ``cell``, by area: every tap's weight is spread evenly, so that its sum stays."""
    for axis, (length, wanted) in enumerate(zip(weight.shape[-3:], cell, strict=True), -3):
        if length != wanted:
            overlap = area_matrix(length, wanted, weight)
            weight = torch.movedim(torch.movedim(weight, axis, -1) @ overlap, -1, axis)
    return weight


def area_matrix(source: int, target: int, like: Tensor) -> Tensor:
    """``source`` × ``target``: which part of each old cell falls into each new one. Rows sum to 1."""
    # Edges are counted in units of 1/source of a new cell and 1/target of an old one, which are whole numbers: exact.
    old = torch.arange(source + 1, device=like.device) * target
    new = torch.arange(target + 1, device=like.device) * source
    left = torch.maximum(old[:-1, None], new[None, :-1])
    right = torch.minimum(old[1:, None], new[None, 1:])
    return (right - left).clamp(min=0).to(like.dtype) / target


def _pooling(channels: int, map_size: Size3, scale: Scale) -> nn.Module:
    if scale.function == "average":
        return AveragePooling(scale.grid)
    kind = FactorisedPooling if scale.factorised else Pooling
    return kind(channels, map_size, scale.grid, depthwise=scale.function == "depthwise")
