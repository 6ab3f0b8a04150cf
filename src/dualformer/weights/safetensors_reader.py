"""Reading a native weights file: its card, its tensors, and what a file is that is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.locate import has_checkpoint_start

METADATA_KEY = "dualformer"


def read_card(path: Path | str) -> Card:
    """The card of a weights file, without reading its tensors.

    Errors: ``FileNotFoundError``; ``WeightsError`` that says what the file seems to be instead.
    """
    path = Path(path)
    with _opened(path) as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise WeightsError(
            f"{path}: a safetensors file without a dualformer card (network, labels, preprocessing), so it cannot be "
            "loaded by itself; save it with dualformer, or convert the .pth that it comes from"
        )
    try:
        return Card.from_json(text)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def load_state(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a weights file on the CPU, floating ones in float32. Errors as `read_card`."""
    with _opened(Path(path)) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    # Copies, because what safetensors gives is mapped from the file: writing into the file would change the model.
    return {
        key: tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()
        for key, tensor in tensors.items()
    }


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such weights file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: {_seems(path, error)}") from error


def _seems(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "an empty file; get it anew"
    if has_checkpoint_start(start):
        return "a PyTorch checkpoint; turn it into a weights file with `dualformer convert`"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer without the weights; get them with `git lfs pull`"
    if start[8:9] == b"{":
        return f"a damaged or incomplete safetensors file ({error}); get it anew"
    return "not a safetensors file"
