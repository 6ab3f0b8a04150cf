"""The settings that a list of models, sizes and ways to compute stands for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from dualformer.bench.bench_settings import EXPORTED, PRECISIONS, Backend, Dtype, Setting, ways_of
from dualformer.bench.prepared_network import config_of
from dualformer.model.config import Size3
from dualformer.weights.exported.export_card import ExportCard, ExportFormat, ExportPrecision
from dualformer.weights.exported.exported_files import is_exported, read_export_card
from dualformer.weights.keys import times


def plan(
    models: Sequence[str],
    *,
    clips: Sequence[Size3] = (),
    batches: Sequence[int] = (1,),
    backends: Sequence[Backend] = ("eager",),
    dtypes: Sequence[Dtype] = ("float32",),
    threads: Sequence[int] = (),
) -> tuple[list[Setting], list[str]]:
    """Every combination, each once, and words for those that there are not (a backend in a number format).

    Without ``clips``, each model's own; without ``threads``, as many as PyTorch takes. An exported model is one clip,
    backend and number format. Errors: as `config_of` and `read_export_card`; ``ValueError`` where nothing is left, for
    numbers below 1, or for clips that an exported model does not take.
    """
    settings: list[Setting] = []
    ways: list[tuple[Backend, Dtype]]
    missing: list[str] = []
    for model in models:
        if is_exported(model):
            about = read_export_card(model, check=False)
            if other := [clip for clip in clips if clip != about.view]:
                raise ValueError(
                    f"{model} takes views of {times(about.view)} only, not of {times(other[0])}: leave --clip out"
                )
            sizes, ways = [about.view], [_way_of(about)]
        else:
            sizes = list(clips) or [config_of(model).clip]
            ways, missing = ways_of(backends, dtypes)
        settings += [
            Setting(model=model, clip=clip, batch=batch, backend=backend, dtype=dtype, threads=count)
            for clip, batch, (backend, dtype), count in itertools.product(
                sizes, batches, ways, threads or [torch.get_num_threads()]
            )
        ]
    return list(dict.fromkeys(settings)), missing


def _way_of(about: ExportCard) -> tuple[Backend, Dtype]:
    backends: dict[ExportFormat, Backend] = {kind: backend for backend, kind in EXPORTED.items()}
    dtypes: dict[ExportPrecision, Dtype] = {precision: dtype for dtype, precision in PRECISIONS.items()}
    return backends[about.format], dtypes[about.precision]
