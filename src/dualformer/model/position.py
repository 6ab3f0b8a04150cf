"""Where tokens learn their place from: the paper's PEG (eq. 4) and the alternatives of Table 7."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Size3
from dualformer.model.kernels.depthwise import DepthwiseConv3d


class PositionEncoding(nn.Module):
    """PEG (eq. 4): ``x + DWConv(x)``; zero padding at the borders tells tokens where they are."""

    def __init__(self, channels: int, map_size: Size3) -> None:
        super().__init__()
        reach = 1 if map_size[0] > 1 else 0  # a network of images has no neighbours in time
        self.conv = DepthwiseConv3d(channels, (1 + 2 * reach, 3, 3), padding=(reach, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        return x + self.encoding(x)

    def encoding(self, x: Tensor) -> Tensor:
        """What is added to B T H W C."""
        return self.conv(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


class PositionTable(nn.Module):
    """Absolute positions as in TimeSformer: a learned vector for every place of the map, plus one for every time.

    The tables are cut for the config's clip; for other maps they are interpolated linearly.
    """

    def __init__(self, channels: int, map_size: Size3) -> None:
        super().__init__()
        t, h, w = map_size
        self.space = nn.Parameter(torch.zeros(1, h, w, channels))
        self.time = nn.Parameter(torch.zeros(t, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        t, h, w = x.shape[1:4]
        return x + resample_table(self.space, (1, h, w)) + resample_table(self.time, (t, 1, 1))


class RelativeBias(nn.Module):
    """A bias on attention scores by relative place within the window, as in Swin: one table a head."""

    def __init__(self, heads: int, window: Size3) -> None:
        super().__init__()
        t, h, w = window
        self.table = nn.Parameter(torch.zeros(2 * t - 1, 2 * h - 1, 2 * w - 1, heads))

    def forward(self, window: Size3) -> Tensor:
        """The bias h L L in a ``window`` no larger than the one that the table is for."""
        axes = []
        for length, entries in zip(window, self.table.shape, strict=False):
            place = torch.arange(length, device=self.table.device)
            axes.append(place[:, None] - place[None, :] + entries // 2)  # query - key; no offset is in the middle
        t, h, w = axes
        bias = self.table[t[:, None, None, :, None, None], h[:, None, None, :, None], w[:, None, None, :]]
        return bias.flatten(3, 5).flatten(0, 2).permute(2, 0, 1)


def resample_table(table: Tensor, size: Size3) -> Tensor:
    """A table T H W C → one of another ``size``, by linear interpolation between the centres of its entries."""
    if table.shape[:3] == size:
        return table
    x = table.permute(3, 0, 1, 2)[None]
    return F.interpolate(x, size=size, mode="trilinear", align_corners=False)[0].permute(1, 2, 3, 0)
