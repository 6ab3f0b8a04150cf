"""Chooses float32 or bfloat16 for a device by measurement, with the reason in words."""

import time
from typing import Literal, NamedTuple

import torch


class Precision(NamedTuple):
    """``name`` is float32 or bfloat16, ``reason`` says why."""

    name: Literal["float32", "bfloat16"]
    reason: str


def choose_precision(wanted: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Precision:
    """Returns ``wanted``, or for ``auto`` what is faster on ``device``: on a CPU by timing a matrix product."""
    if wanted != "auto":
        return Precision(wanted, "as asked")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bfloat16", "the GPU computes in bfloat16")
        return Precision("float32", "the GPU does not compute in bfloat16")
    if device.type != "cpu":
        return Precision("float32", f"bfloat16 is not tried on {device.type}")
    ratio = _seconds(torch.float32) / _seconds(torch.bfloat16)
    if ratio > 1.5:
        return Precision("bfloat16", f"its matrix products are {ratio:.1f} times as fast on this CPU")
    return Precision("float32", f"bfloat16 matrix products are only {ratio:.2g} times as fast on this CPU")


def _seconds(dtype: torch.dtype) -> float:
    """Returns the seconds of the fastest of a few matrix products."""
    a = torch.full((1024, 512), 0.5, dtype=dtype)
    b = torch.full((512, 512), 0.5, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return min(times)
