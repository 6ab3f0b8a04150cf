"""The settings that a list of models, sizes and ways to compute stands for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from dualformer.bench.prepare import config_of
from dualformer.bench.settings import Backend, Dtype, Setting, ways_of
from dualformer.model.config import Size3


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

    Without ``clips``, each model's own; without ``threads``, as many as PyTorch takes. Errors: as `config_of`;
    ``ValueError`` where nothing is left, or for numbers below 1.
    """
    ways, missing = ways_of(backends, dtypes)
    settings = [
        Setting(model=model, clip=clip, batch=batch, backend=backend, dtype=dtype, threads=count)
        for model in models
        for clip, batch, (backend, dtype), count in itertools.product(
            clips or [config_of(model).clip], batches, ways, threads or [torch.get_num_threads()]
        )
    ]
    return list(dict.fromkeys(settings)), missing
