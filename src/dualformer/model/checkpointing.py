"""Gradient checkpointing: a sub-block keeps its input alone, and computes the rest again for the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def wanted(stage: Any, x: Tensor) -> bool:
    """Whether ``stage`` was told to save memory, and there is a backward pass to save it for."""
    return stage.grad_checkpointing and stage.training and torch.is_grad_enabled()


def run_layers(stage: Any, x: Tensor) -> Tensor:
    """Runs the layers of ``stage`` one after the other, B T H W C → B T H W C, its sub-blocks with checkpoints."""
    for layer in stage.layers():
        x = layer(x) if layer is stage.position else _checkpointed(layer, x)
    return x


def _checkpointed(sub_block: nn.Module, x: Tensor) -> Tensor:
    """``sub_block(x)``, with the same gradients and the same stochastic depth, from less memory."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(sub_block)

    return checkpoint(sub_block, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _frozen_statistics(sub_block: nn.Module) -> Iterator[None]:
    """Keeps BatchNorm from counting a batch into its running statistics a second time."""
    norms = [module for module in sub_block.modules() if isinstance(module, nn.BatchNorm3d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
