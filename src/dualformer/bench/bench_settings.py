"""What is to be measured: one network on one size of clip, in one way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dualformer.model.config import Size3
from dualformer.weights.exported.export_card import ExportFormat, ExportPrecision

Backend = Literal["eager", "compile", "torch", "onnx", "openvino"]
"""PyTorch as it is, or compiled; or the network as exported to one of three formats."""
Dtype = Literal["float32", "bfloat16", "int8"]

EXPORTED: dict[Backend, ExportFormat] = {"torch": "torch", "onnx": "onnx", "openvino": "openvino"}
"""Backends that run an exported model."""
PRECISIONS: dict[Dtype, ExportPrecision] = {"float32": "fp32", "bfloat16": "bf16", "int8": "int8"}
"""Number formats as exported models call them."""
_DTYPES: dict[Backend, tuple[Dtype, ...]] = {
    "eager": ("float32", "bfloat16"),
    "compile": ("float32", "bfloat16"),
    "torch": ("float32", "bfloat16"),
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Errors: ``ValueError`` for numbers below 1, and for a number format that the backend does not compute in."""

    model: str
    """A model's name, a weights file, or an exported model."""
    clip: Size3
    """Frames, height and width of a view."""
    batch: int = 1
    """Views that go through the network together."""
    dtype: Dtype = "float32"
    backend: Backend = "eager"
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if min(self.clip) < 1:
            raise ValueError(f"--clip needs at least 1 frame, row and column, not {'x'.join(map(str, self.clip))}")
        if self.dtype not in _DTYPES[self.backend]:
            raise ValueError(
                f"--backend {self.backend} does not compute in {self.dtype}, but in {', '.join(_DTYPES[self.backend])}"
            )

    def __str__(self) -> str:
        clip = "x".join(map(str, self.clip))
        return f"{self.model} {clip}, batch {self.batch}, {self.dtype}, {self.backend}, {self.threads} threads"


def ways_of(backends: Sequence[Backend], dtypes: Sequence[Dtype]) -> tuple[list[tuple[Backend, Dtype]], list[str]]:
    """Backends with the number formats that each of them computes in, and words for the pairs that there are not.

    Errors: ``ValueError`` if none is left.
    """
    ways: list[tuple[Backend, Dtype]] = []
    missing: list[str] = []
    for backend, dtype in itertools.product(backends, dtypes):
        if dtype in _DTYPES[backend]:
            ways.append((backend, dtype))
        else:
            missing.append(f"{backend} in {dtype}")
    if not ways:
        raise ValueError(f"there is no {' and no '.join(missing)}: choose another --dtype or --backend")
    return ways, missing
