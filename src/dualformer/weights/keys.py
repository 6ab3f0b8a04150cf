"""Do the tensors of a file fit a network? If not, what differs, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from dualformer.weights.errors import WeightsError

_SHOWN = 8


def check_keys(path: Path | str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], *, remedy: str) -> None:
    """Errors: ``WeightsError`` that lists, in groups, what is missing, unexpected or of another shape."""
    if wrong := misfits(wanted, found):
        raise WeightsError(f"{path}: the tensors do not fit the network ({wrong}); {remedy}")


def misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What is missing, unexpected or of another shape, in groups; empty where everything fits."""
    misshaped = [
        f"{key} {times(found[key].shape)} instead of {times(tensor.shape)}"
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
    more = len(keys) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def times(size: Sequence[int]) -> str:
    """A size for people to read: 32x224x224."""
    return "x".join(map(str, size)) or "scalar"
