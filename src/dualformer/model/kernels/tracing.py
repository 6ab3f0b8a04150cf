"""Whether the network is being turned into a graph."""

import torch


def is_tracing() -> bool:
    """Whether a compiler, an exporter or a tracer is at work: each wants the plain steps."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
