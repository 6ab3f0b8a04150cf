"""The second layer of an MLP and the GELU before it, from less memory in training on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dualformer.model.kernels.linear import Linear, linear, weight_gradient
from dualformer.model.kernels.tracing import is_tracing


def gelu_linear(hidden: Tensor, layer: nn.Linear) -> Tensor:
    """Returns ``layer(gelu(hidden))``, … in → … out."""
    if _may_recompute(hidden, layer):
        return _RecomputedGelu.apply(hidden, layer.weight, layer.bias)
    return layer(F.gelu(hidden))


def _may_recompute(hidden: Tensor, layer: nn.Linear) -> bool:
    """In training on a CPU, where ``layer`` is nothing but a linear layer that nobody watches."""
    if not (layer.training and hidden.requires_grad) or hidden.device.type != "cpu" or is_tracing():
        return False
    return type(layer) is Linear and not (layer._forward_hooks or layer._forward_pre_hooks)


class _RecomputedGelu(torch.autograd.Function):
    """Keeps ``hidden`` alone for the backward pass and computes its GELU again: a quarter less of all that a sub-block
    keeps."""

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
