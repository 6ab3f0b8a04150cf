"""The error of weights files, and the check that tensors fit a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualformer.errors import DualFormerError

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN_KEYS = 8


class WeightsError(DualFormerError):
    """Weights that could not be read, written or fitted to a network. One line that names the file and the remedy."""


def check_tensors(path: Path | str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], *, remedy: str) -> None:
    """Raises ``WeightsError`` with `tensor_mismatch` where there is one."""
    if wrong := tensor_mismatch(wanted, found):
        raise WeightsError(f"{path}: the tensors do not fit the network ({wrong}); {remedy}")


def tensor_mismatch(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Lists what is missing, unexpected or of another shape, in groups; returns "" where everything fits."""
    misshaped = [
        f"{key} {size_text(found[key].shape)} instead of {size_text(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in found and found[key].shape != tensor.shape
    ]
    groups = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": misshaped,
    }
    return "; ".join(f"{len(keys)} {name}: {_listed(keys)}" for name, keys in groups.items() if keys)


def _listed(keys: Sequence[str]) -> str:
    more = len(keys) - _SHOWN_KEYS
    return ", ".join(keys[:_SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")


def size_text(size: Sequence[int]) -> str:
    """Returns a size for people to read: 32x224x224."""
    return "x".join(map(str, size)) or "scalar"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return next(iter(str(error).splitlines()), "").rstrip(". ") or type(error).__name__
