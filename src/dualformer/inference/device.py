"""Which device the network runs on."""

from __future__ import annotations

import torch


def choose_device(wanted: str | torch.device = "auto") -> torch.device:
    """``auto``: the GPU where CUDA (or ROCm) has one, else the CPU. Anything else: that device, as PyTorch names it.

    Raises ``ValueError`` for a name that PyTorch does not know or a device that this machine does not have.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    # PyTorch says that it was built without a device by AssertionError, or by NotImplementedError, a RuntimeError.
    except (RuntimeError, AssertionError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"no device {str(wanted)!r} here ({first}); use auto or cpu") from error
    if device.type == "meta":
        raise ValueError("the device 'meta' computes nothing; use auto or cpu")
    return device
