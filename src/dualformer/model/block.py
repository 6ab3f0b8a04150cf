"""A sub-block of a DualFormer block: attention and an MLP, each behind a LayerNorm and beside a residual (eq. 1)."""

import torch
from torch import Tensor, nn

from dualformer.model.kernels.linear import Linear
from dualformer.model.kernels.mlp import gelu_linear


class SubBlock(nn.Module):
    """Eq. 1: ``x += MSA(LN(x)); x += MLP(LN(x))``. In the paper a block is two: one with LW-MSA, one with GP-MSA."""

    def __init__(
        self, channels: int, attention: nn.Module, mlp_ratio: int, drop_path: float, *, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=norm_eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(channels, eps=norm_eps)
        self.mlp = Mlp(channels, mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them: C → ratio·C → C."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = Linear(channels, ratio * channels)
        self.fc2 = Linear(ratio * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """… C → … C: ``fc2(GELU(fc1(x)))``."""
        return gelu_linear(self.fc1(x), self.fc2)


class DropPath(nn.Module):
    """Stochastic depth: in training, a residual branch is left out for a random part of the batch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """B … → B …, zero for the clips that are left out, the others divided by how likely they stay."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand((x.shape[0],) + (1,) * (x.dim() - 1), device=x.device) >= self.rate
        return x * (keep / (1 - self.rate)).to(x.dtype)
