"""What a run is computed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Devices of a run."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto takes bfloat16 where a short measurement finds it faster, and says so."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
