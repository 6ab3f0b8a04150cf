"""Whether the network's steps are looked at by something that turns them into others."""

import torch


def is_tracing() -> bool:
    """Whether a compiler, an exporter, a tracer or a transform of ``torch.func`` is at work: each wants the plain
    steps."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return True
    return torch._C._are_functorch_transforms_active()  # what `torch.autograd.Function` asks as well
