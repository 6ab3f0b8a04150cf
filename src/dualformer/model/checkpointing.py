"""Gradient checkpointing: sub-blocks and stems keep their input alone, and are computed again for the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dualformer.model.convolution import ConvolutionalStem


def wanted(stage: Any, x: Tensor) -> bool:
    """Whether ``stage`` was told to save memory, and there is a backward pass to save it for."""
    return stage.grad_checkpointing and stage.training and torch.is_grad_enabled()


def wanted_for_stem(stage: Any, x: Tensor) -> bool:
    """Whether `run_stem` is wanted: patches keep little, a stem more than all the sub-blocks behind it."""
    return isinstance(stage.embed, ConvolutionalStem) and wanted(stage, x)


def run_stem(stage: Any, x: Tensor) -> Tensor:
    """Runs the stem of ``stage`` with a checkpoint, B C T H W → B T' H' W' C'."""
    return _checkpointed(stage.embed, x)


def run_layers(stage: Any, x: Tensor) -> Tensor:
    """Runs the layers of ``stage`` one after the other, B T H W C → B T H W C, its sub-blocks with checkpoints."""
    for layer in stage.layers():
        x = layer(x) if layer is stage.position else _checkpointed(layer, x)
    return x


def _checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, with the same gradients and the same stochastic depth, from less memory."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(module)

    return checkpoint(module, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keeps BatchNorm from counting a batch into its running statistics a second time."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm3d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
