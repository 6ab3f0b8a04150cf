"""The network as the code released with the paper computes it: the 1x of every table of speeds.

Tokens are B N C lists that become B C T H W for every convolution and a list again behind it, windows are cut and put
back by copies, attention writes all its weights down between two matrix products, and every layer works on the whole
map at once. Nothing is slowed down for the purpose: each step is PyTorch's own layer, called as most code calls it.

`PlainDualFormer` has the parameters of `DualFormer` under the same names, so that one's state is loaded into the other,
and gives the same numbers. It covers what the paper's presets are made of: patches, blocks of local
and global attention, positions by PEG or none, and depth-wise pyramids.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Config, Scale, Size3, Stage, ceil_div
from dualformer.model.network import DualFormer
from dualformer.model.pyramid import cell_size, factors, fit_to_grid


class PlainDualFormer(nn.Module):
    """B 3 T H W → B classes. Any size of clip whose cells are those that the weights are cut for.

    Errors: ``ValueError`` for a config that has other things in it than the paper's presets.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        functions = {scale.function for stage in config.stages for scale in stage.scales}
        if config.position not in ("peg", "none") or functions - {"depthwise"}:
            raise ValueError("the plain network has no position tables and no pyramids that are not depth-wise")
        if any(stage.embedding != "patches" or "C" in stage.kinds or len(stage.kinds) != 2 for stage in config.stages):
            raise ValueError("the plain network has patches, and blocks of two halves with attention")
        widths = (3, *(stage.channels for stage in config.stages))
        self.stages = nn.ModuleList(
            PlainStage(stage, width, size, config)
            for stage, width, size in zip(config.stages, widths[:-1], config.map_sizes(), strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1])
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(widths[-1], config.num_classes) if config.num_classes else nn.Identity()

    @classmethod
    def of(cls, model: DualFormer) -> PlainDualFormer:
        """The same network with copies of the weights, in the same mode."""
        plain = cls(model.config)
        plain.load_state_dict(model.state_dict())
        return plain.train(model.training)

    def forward(self, video: Tensor) -> Tensor:
        x = video
        for stage in self.stages:
            x = stage(x)
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        return self.head(self.dropout(tokens.mean(dim=1)))


class PlainStage(nn.Module):
    def __init__(self, stage: Stage, in_channels: int, map_size: Size3, config: Config) -> None:
        super().__init__()
        self.embed = PlainEmbedding(in_channels, stage.channels, stage.patch)
        heads = stage.channels // config.head_dim
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                PlainHalf(
                    stage.channels,
                    PlainWindows(stage.channels, heads, stage.window)
                    if kind == "L"
                    else PlainGlobal(stage.channels, heads, map_size, stage.scales),
                    config.mlp_ratio,
                )
                for kind in stage.kinds
            )
            for _ in range(stage.depth)
        )
        self.position = PlainPosition(stage.channels, map_size) if config.position == "peg" else None

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C' T' H' W'."""
        x, size = self.embed(x)
        for number, block in enumerate(self.blocks):
            first, second = block.children()
            x = first(x, size)
            if number == 0 and self.position is not None:
                x = self.position(x, size)
            x = second(x, size)
        return as_map(x, size)


class PlainEmbedding(nn.Module):
    def __init__(self, in_channels: int, channels: int, patch: Size3) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(in_channels, channels, patch, stride=patch)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Size3]:
        t, h, w = (-length % step for length, step in zip(x.shape[2:], self.patch, strict=True))
        if t or h or w:
            x = F.pad(x, (0, w, 0, h, 0, t))
        x = self.proj(x)
        return self.norm(x.flatten(2).transpose(1, 2)), (x.shape[2], x.shape[3], x.shape[4])


class PlainPosition(nn.Module):
    def __init__(self, channels: int, map_size: Size3) -> None:
        super().__init__()
        reach = 1 if map_size[0] > 1 else 0
        self.conv = nn.Conv3d(channels, channels, (1 + 2 * reach, 3, 3), padding=(reach, 1, 1), groups=channels)

    def forward(self, x: Tensor, size: Size3) -> Tensor:
        x = as_map(x, size)
        return (x + self.conv(x)).flatten(2).transpose(1, 2)


class PlainHalf(nn.Module):
    def __init__(self, channels: int, attention: nn.Module, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = attention
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(channels, mlp_ratio * channels), "fc2": nn.Linear(mlp_ratio * channels, channels)}
        )

    def forward(self, x: Tensor, size: Size3) -> Tensor:
        """B N C → B N C."""
        x = x + self.attn(self.norm1(x), size)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class PlainWindows(nn.Module):
    def __init__(self, channels: int, heads: int, window: Size3) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, size: Size3) -> Tensor:
        b, _, c = x.shape
        window = ceil_div(size, ceil_div(size, self.window))
        (t, h, w), (gt, gh, gw) = window, ceil_div(size, window)
        padded = (gt * t, gh * h, gw * w)
        x = x.view(b, *size, c)
        mask = None
        if padded != size:
            widths = (0, 0, 0, padded[2] - size[2], 0, padded[1] - size[1], 0, padded[0] - size[0])
            outside = F.pad(x.new_zeros(1, *size, 1), widths, value=float("-inf"))
            mask = cut(outside, window).view(-1, 1, 1, t * h * w).repeat(b, 1, 1, 1)
            x = F.pad(x, widths)
        qkv = self.qkv(cut(x, window)).view(-1, t * h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        out = self.proj(attend(qkv[0], qkv[1], qkv[2], mask))
        out = out.view(b, gt, gh, gw, t, h, w, c).permute(0, 1, 4, 2, 5, 3, 6, 7).contiguous().view(b, *padded, c)
        return out[:, : size[0], : size[1], : size[2]].reshape(b, -1, c)


class PlainGlobal(nn.Module):
    def __init__(self, channels: int, heads: int, map_size: Size3, scales: tuple[Scale, ...]) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.pyramid = PlainPyramid(channels, map_size, scales) if scales else None
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, size: Size3) -> Tensor:
        b, n, c = x.shape
        priors = x if self.pyramid is None else self.pyramid(as_map(x, size))
        q = self.q(x).view(b, n, self.heads, -1).permute(0, 2, 1, 3)
        kv = self.kv(priors).view(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, kv[0], kv[1], None))


class PlainPyramid(nn.Module):
    def __init__(self, channels: int, map_size: Size3, scales: tuple[Scale, ...]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PlainScale(channels, map_size, scale) for scale in scales)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.cat([scale(x).flatten(2).transpose(1, 2) for scale in self.scales], dim=1))


class PlainScale(nn.Module):
    def __init__(self, channels: int, map_size: Size3, scale: Scale) -> None:
        super().__init__()
        self.grid, cell = scale.grid, cell_size(map_size, scale.grid)
        kernels = factors(cell) if scale.factorised else (cell,)
        convolutions = [nn.Conv3d(channels, channels, kernel, stride=kernel, groups=channels) for kernel in kernels]
        if scale.factorised:
            self.space, self.norm, self.rest = convolutions[0], nn.BatchNorm3d(channels), convolutions[1]
        else:
            self.conv = convolutions[0]
        self.factorised, self.cell = scale.factorised, cell

    def forward(self, x: Tensor) -> Tensor:
        x, cell = fit_to_grid(x, self.grid)
        if cell != self.cell:
            raise ValueError(f"the weights are cut for cells of {self.cell} tokens, and these are of {cell}")
        return self.rest(F.relu(self.norm(self.space(x)))) if self.factorised else self.conv(x)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """``q`` B h L d, ``k`` and ``v`` B h P d → B L C, by the weights of all queries."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    return (weights @ v).transpose(1, 2).reshape(q.shape[0], q.shape[2], -1)


def cut(x: Tensor, window: Size3) -> Tensor:
    """B T H W C → B·G L C."""
    b, t, h, w, c = x.shape
    x = x.view(b, t // window[0], window[0], h // window[1], window[1], w // window[2], window[2], c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).contiguous().view(-1, window[0] * window[1] * window[2], c)


def as_map(x: Tensor, size: Size3) -> Tensor:
    """B N C → B C T H W, in this order in memory."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *size)
