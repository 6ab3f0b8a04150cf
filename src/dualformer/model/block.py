"""Half of a DualFormer block: attention and an MLP, each behind a LayerNorm and beside a residual (eq. 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dualformer.model.kernels.linear import Linear, linear, weight_gradient
from dualformer.model.kernels.tracing import is_tracing


class SubBlock(nn.Module):
    """Eq. 1: ``x += MSA(LN(x)); x += MLP(LN(x))``."""

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


class Mlp(nn.Module):
    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = Linear(channels, ratio * channels)
        self.fc2 = Linear(ratio * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        if self._may_recompute(hidden):
            return _GeluLinear.apply(hidden, self.fc2.weight, self.fc2.bias)
        return self.fc2(F.gelu(hidden))

    def _may_recompute(self, hidden: Tensor) -> bool:
        """In training on a CPU, where ``fc2`` is nothing but a linear layer."""
        if not (self.training and hidden.requires_grad) or hidden.device.type != "cpu" or is_tracing():
            return False
        return type(self.fc2) is Linear and not (self.fc2._forward_hooks or self.fc2._forward_pre_hooks)


class _GeluLinear(torch.autograd.Function):
    """``fc2(gelu(hidden))``. For the backward pass it keeps ``hidden`` alone and not its GELU too, which is soon made
    again: of all that a half keeps, a quarter less."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return linear(F.gelu(hidden), weight, bias)

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (decorated)
        (grad,) = grad_outputs
        hidden, weight = ctx.saved_tensors
        with torch.enable_grad():
            hidden = hidden.detach().requires_grad_()
            active = F.gelu(hidden)
        of_weight = weight_gradient(active.detach(), grad).to(weight.dtype) if ctx.needs_input_grad[1] else None
        (of_hidden,) = torch.autograd.grad(active, hidden, linear(grad, weight.t(), None))
        return of_hidden, of_weight, grad.flatten(0, -2).sum(dim=0).to(weight.dtype)


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
