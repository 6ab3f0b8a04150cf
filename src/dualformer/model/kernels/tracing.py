"""Whether somebody is turning the network into a graph of their own."""

from __future__ import annotations

import torch


def is_tracing() -> bool:
    """A compiler, an exporter or a tracer is at work: it wants the plain steps, and knows best what becomes of them."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
