"""Halves, blocks, stages and the whole network (section 3.1, figure 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.attention import PyramidAttention, WindowAttention
from dualformer.model.config import Config, Size3, Stage
from dualformer.model.pyramid import DepthwiseConv3d


class Mlp(nn.Module):
    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, ratio * channels)
        self.fc2 = nn.Linear(ratio * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth: in training, a residual branch is left out for a random part of the batch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand((x.shape[0],) + (1,) * (x.dim() - 1), device=x.device) >= self.rate
        return x * (keep / (1 - self.rate)).to(x.dtype)


class Half(nn.Module):
    """Half of a DualFormer block (eq. 1): ``x += MSA(LN(x)); x += MLP(LN(x))``."""

    def __init__(self, channels: int, attention: nn.Module, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = attention
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PositionEncoding(nn.Module):
    """PEG (eq. 4): ``x + DWConv(x)``; zero padding at the borders tells tokens where they are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = DepthwiseConv3d(channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        return x + self.conv(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


class PatchEmbedding(nn.Module):
    """Cuts the map into patches and projects each to a token: patch embedding in stage 1, patch merging later."""

    def __init__(self, in_channels: int, channels: int, patch: Size3) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, channels, patch, stride=patch)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B T' H' W' C'; a last patch that sticks out of the map is filled with zeros."""
        sticking_out = [-length % step for length, step in zip(x.shape[2:], self.proj.kernel_size, strict=True)]
        if any(sticking_out):
            t, h, w = sticking_out
            x = F.pad(x, (0, w, 0, h, 0, t))
        return self.norm(self.proj(x).permute(0, 2, 3, 4, 1))


class StageLayers(nn.Module):
    """A patch embedding and blocks of two halves each; the PEG sits between the halves of the first block."""

    def __init__(
        self, stage: Stage, in_channels: int, map_size: Size3, *, config: Config, drop_paths: Iterator[float]
    ) -> None:
        super().__init__()
        heads = stage.channels // config.head_dim

        def attention(kind: str) -> nn.Module:
            if kind == "L":
                return WindowAttention(stage.channels, heads, stage.window)
            return PyramidAttention(stage.channels, heads, map_size, stage.scales)

        self.embed = PatchEmbedding(in_channels, stage.channels, stage.patch)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                Half(stage.channels, attention(kind), config.mlp_ratio, next(drop_paths)) for kind in stage.kinds
            )
            for _ in range(stage.depth)
        )
        self.position = PositionEncoding(stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B T' H' W' C'."""
        x = self.embed(x)
        for number, block in enumerate(self.blocks):
            first, second = block.children()
            x = first(x)
            if number == 0:
                x = self.position(x)
            x = second(x)
        return x


class DualFormer(nn.Module):
    """The network: B 3 T H W → B classes.

    It takes any T, H and W: where a patch, a window or a cell of a pyramid does not fit the map, the map is padded
    so that no real token changes. The pyramid's kernels are cut for ``config.clip``; on other sizes they keep their
    size, and the pyramid has more or fewer priors.
    """

    def __init__(self, config: Config, *, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        halves = sum(2 * stage.depth for stage in config.stages)
        drop_paths = iter([config.drop_path * i / max(1, halves - 1) for i in range(halves)])
        widths = (3, *(stage.channels for stage in config.stages))
        self.stages = nn.ModuleList(
            StageLayers(stage, width, size, config=config, drop_paths=drop_paths)
            for stage, (width, _), size in zip(config.stages, pairwise(widths), config.map_sizes(), strict=True)
        )
        self.num_features = widths[-1]
        self.norm = nn.LayerNorm(self.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.head = _classifier(self.num_features, config.num_classes)
        self.init_weights(seed)

    def init_weights(self, seed: int | None = None) -> None:
        """Truncated normal (0.02) linears, PyTorch's default convolutions; the same weights for the same seed."""
        generator = _generator(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv3d):
                bound = module.weight[0].numel() ** -0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, video: Tensor) -> Tensor:
        """B 3 T H W → B classes (logits), or B C where the config has no classes."""
        return self.forward_head(self.forward_features(video))

    def forward_features(self, video: Tensor) -> Tensor:
        """B 3 T H W → B C T' H' W': the last stage's map after the final norm."""
        return self.forward_intermediates(video, indices=[-1], norm=True)[0]

    def forward_intermediates(
        self, video: Tensor, *, indices: Sequence[int] | None = None, norm: bool = False
    ) -> list[Tensor]:
        """Maps B C T' H' W' after the stages in ``indices`` (all by default; negative ones count from the end).

        ``norm`` applies the final norm to the last stage's map. Stages after the last one asked for do not run.
        """
        count = len(self.stages)
        wanted = range(count) if indices is None else [index + count if index < 0 else index for index in indices]
        if not wanted or min(wanted) < 0 or max(wanted) >= count:
            raise ValueError(f"indices must name some of the {count} stages, not {indices}")
        if video.dim() != 5 or video.shape[1] != 3:
            raise ValueError(f"a video is B 3 T H W (5 dimensions, 3 channels), not {tuple(video.shape)}")
        maps: list[Tensor] = []
        x = video
        for number, stage in enumerate(self.stages[: max(wanted) + 1], 1):
            tokens = stage(x)
            if norm and number == count:
                tokens = self.norm(tokens)
            x = tokens.permute(0, 4, 1, 2, 3)
            maps.append(x)
        return [maps[index] for index in wanted]

    def forward_head(self, features: Tensor) -> Tensor:
        """B C T' H' W' (after the final norm) → B classes: global average pooling, dropout, classifier."""
        return self.head(self.dropout(features.mean(dim=(2, 3, 4))))

    def reset_classifier(self, num_classes: int, *, seed: int | None = None) -> None:
        """A new classifier for ``num_classes`` (0: none); everything else keeps its weights."""
        self.config = self.config.replace(num_classes=num_classes)
        head = _classifier(self.num_features, num_classes)
        if isinstance(head, nn.Linear):
            nn.init.trunc_normal_(head.weight, std=0.02, generator=_generator(seed))
            nn.init.zeros_(head.bias)
        # Moved after the weights are drawn: they are then the same on every device, and the generator is the CPU's.
        self.head = head.to(self.norm.weight.device, self.norm.weight.dtype)


def _classifier(features: int, num_classes: int) -> nn.Module:
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()


def _generator(seed: int | None) -> torch.Generator:
    """Without a seed it is drawn from PyTorch's own generator, so that ``torch.manual_seed`` fixes the weights too."""
    drawn = int(torch.randint(2**62, (), device="cpu")) if seed is None else seed
    return torch.Generator().manual_seed(drawn)
