"""BatchNorm over the batch of all processes: the one of the factorised pyramid sees what one process would."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class GlobalBatchNorm3d(nn.BatchNorm3d):
    """In training, mean and variance are those of all processes' values; PyTorch's own does that on GPUs only.

    Processes may hold different numbers of clips: every value counts once.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (BatchNorm's name)
        """B C T H W → the same, normalised in float32."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input.float()
            axes, shape = (0, 2, 3, 4), (1, -1, 1, 1, 1)
            count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
            dist.all_reduce(count)
            mean = _AllSum.apply(x.sum(axes)) / count
            centred = x - mean.view(shape)
            variance = _AllSum.apply(centred.square().sum(axes)) / count
            self._remember(mean.detach(), variance.detach() * (count / (count - 1).clamp_min(1)))
            normal = centred * (variance + self.eps).rsqrt().view(shape)
            return (normal * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _AllSum(torch.autograd.Function):
    """The sum over all processes; each of them has all the losses' gradients to pass on, hence their sum."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def over_all_processes(module: nn.Module) -> int:
    """Makes every BatchNorm in ``module`` one over all processes, and returns how many there are."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm3d)]
    for norm in norms:
        norm.__class__ = GlobalBatchNorm3d  # same parameters, buffers and names
    return len(norms)
