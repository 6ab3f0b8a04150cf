"""Settings of a measurement: a network, a clip size and a way to compute; and the grid of them that a call asks for."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from dualformer.model.config import Config, Size3
from dualformer.model.presets import list_models, preset_config
from dualformer.weights.errors import size_text
from dualformer.weights.exported.export_card import ExportFormat, ExportPrecision
from dualformer.weights.exported.exported_files import is_exported, read_export_card
from dualformer.weights.open_network import open_card

Backend = Literal["eager", "compile", "torch", "onnx", "openvino", "executorch"]
"""PyTorch as it is, or compiled; or the network as exported to a format."""
Dtype = Literal["float32", "bfloat16", "int8"]

EXPORTED: dict[Backend, ExportFormat] = {
    "torch": "torch",
    "onnx": "onnx",
    "openvino": "openvino",
    "executorch": "executorch",
}
"""Backends that run an exported model."""
PRECISIONS: dict[Dtype, ExportPrecision] = {"float32": "fp32", "bfloat16": "bf16", "int8": "int8"}
"""Number formats as exported models call them."""
_DTYPES: dict[Backend, tuple[Dtype, ...]] = {
    "eager": ("float32", "bfloat16"),
    "compile": ("float32", "bfloat16"),
    "torch": ("float32", "bfloat16"),
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
    "executorch": ("float32",),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting to measure.

    Errors: ``ValueError`` for numbers below 1, and for a number format that the backend does not compute in.
    """

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
                raise ValueError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        if min(self.clip) < 1:
            raise ValueError(f"`clip` needs at least 1 frame, row and column, not {size_text(self.clip)}")
        if self.dtype not in _DTYPES[self.backend]:
            known = ", ".join(_DTYPES[self.backend])
            raise ValueError(f"`backend={self.backend}` does not compute in {self.dtype}, but in {known}")

    def __str__(self) -> str:
        size = size_text(self.clip)
        return f"{self.model} {size}, batch {self.batch}, {self.dtype}, {self.backend}, {self.threads} threads"


def supported_dtypes(
    backends: Sequence[Backend], dtypes: Sequence[Dtype]
) -> tuple[list[tuple[Backend, Dtype]], list[str]]:
    """Returns pairs of backends and number formats that they compute in, and words for the other pairs.

    Errors: ``ValueError`` if no pair is left.
    """
    pairs = list(itertools.product(backends, dtypes))
    supported: list[tuple[Backend, Dtype]] = [(backend, dtype) for backend, dtype in pairs if dtype in _DTYPES[backend]]
    unsupported = [f"{backend} in {dtype}" for backend, dtype in pairs if dtype not in _DTYPES[backend]]
    if not supported:
        raise ValueError(f"there is no {' and no '.join(unsupported)}: choose another `dtype` or `backend`")
    return supported, unsupported


def benchmark_grid(
    models: Sequence[str],
    *,
    clips: Sequence[Size3] = (),
    batches: Sequence[int] = (1,),
    backends: Sequence[Backend] = ("eager",),
    dtypes: Sequence[Dtype] = ("float32",),
    threads: Sequence[int] = (),
) -> tuple[list[Setting], list[str]]:
    """Returns every combination, each once, and words for those that no backend supports.

    Without ``clips``, each model's own; without ``threads``, as many as PyTorch takes. An exported model is one clip,
    backend and number format. Errors: as `config_of` and `read_export_card`; ``ValueError`` where nothing is left, for
    numbers below 1, or for clips that an exported model does not take.
    """
    settings: list[Setting] = []
    pairs: list[tuple[Backend, Dtype]]
    unsupported: list[str] = []
    for model in models:
        if is_exported(model):
            card = read_export_card(model, check=False)
            if other := [clip for clip in clips if clip != card.view]:
                raise ValueError(
                    f"{model} takes views of {size_text(card.view)} only, not of {size_text(other[0])}: "
                    "leave `clip` out"
                )
            sizes = [card.view]
            pairs = [
                (backend, dtype)
                for (backend, kind), (dtype, precision) in itertools.product(EXPORTED.items(), PRECISIONS.items())
                if (kind, precision) == (card.format, card.precision)
            ]
        else:
            sizes = list(clips) or [config_of(model).clip]
            pairs, unsupported = supported_dtypes(backends, dtypes)
        settings += [
            Setting(model=model, clip=clip, batch=batch, backend=backend, dtype=dtype, threads=count)
            for clip, batch, (backend, dtype), count in itertools.product(
                sizes, batches, pairs, threads or [torch.get_num_threads()]
            )
        ]
    return list(dict.fromkeys(settings)), unsupported


def config_of(model: str) -> Config:
    """Returns the config of a preset, of weights or of an exported model.

    Errors: ``ValueError`` for what is neither; ``WeightsError`` for weights that cannot be read.
    """
    if model in list_models():
        return preset_config(model)
    try:
        return open_card(model).config
    except FileNotFoundError as error:
        names = ", ".join(list_models())
        raise ValueError(f"{model!r} is no weights file, folder or hub id, nor one of {names}") from error
