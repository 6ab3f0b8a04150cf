"""Chooses float32 or bfloat16 for a device by measurement, with the reason in words."""

import math
import time
from typing import Literal, NamedTuple

import torch


class Precision(NamedTuple):
    """``name`` is float32 or bfloat16, ``reason`` says why."""

    name: Literal["float32", "bfloat16"]
    reason: str


def choose_precision(wanted: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Precision:
    """Returns ``wanted``, or for ``auto`` what is faster on ``device``: on a CPU by timing a matrix product."""
    if device.type == "cpu" and wanted != "float32":
        ratio = _speed_of_bfloat16()
        if wanted == "auto" and ratio > 1.5:
            return Precision("bfloat16", f"its matrix products are {ratio:.1f} times as fast on this CPU")
        if wanted == "auto":
            return Precision("float32", f"bfloat16 matrix products are only {ratio:.2g} times as fast on this CPU")
        slow = f", though its matrix products are only {ratio:.2g} times as fast on this CPU" if ratio < 1 else ""
        return Precision("bfloat16", f"as asked{slow}")
    if wanted != "auto":
        return Precision(wanted, "as asked")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bfloat16", "the GPU computes in bfloat16")
        return Precision("float32", "the GPU does not compute in bfloat16")
    return Precision("float32", f"bfloat16 is not tried on {device.type}")


def _speed_of_bfloat16() -> float:
    """Returns how many times as fast as in float32 matrix products are in bfloat16 on this CPU, each at its fastest.

    A CPU without bfloat16 takes a hundred times as long or so, and is not asked five times.
    """
    best = {torch.float32: math.inf, torch.bfloat16: math.inf}
    for attempt in range(5):
        for dtype in best:
            best[dtype] = min(best[dtype], _seconds(dtype))
        if attempt and best[torch.bfloat16] > 10 * best[torch.float32]:
            break
    return best[torch.float32] / best[torch.bfloat16]


def _seconds(dtype: torch.dtype) -> float:
    """Returns the seconds of a matrix product."""
    a = torch.full((512, 512), 0.5, dtype=dtype)
    b = torch.full((512, 512), 0.5, dtype=dtype)
    start = time.perf_counter()
    torch.mm(a, b)
    return time.perf_counter() - start
