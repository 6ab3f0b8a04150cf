"""AdamW's parameter groups and the learning-rate schedule of the paper (section 4.1)."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from dualformer.model.network import DualFormer, PositionEncoding


def parameter_groups(
    model: DualFormer, *, lr: float, backbone_lr: float, weight_decay: float, extra: nn.Module | None = None
) -> list[dict[str, Any]]:
    """Groups for AdamW: classifier at ``lr``, backbone at ``lr × backbone_lr``; norms, biases and PEG do not decay.

    ``extra`` is a module beside the model that learns at the classifier's rate. Each group carries its peak rate as
    ``peak_lr`` for the schedule.
    """
    exempt = {
        id(parameter)
        for module in [*model.modules(), *(extra.modules() if extra else ())]
        for name, parameter in module.named_parameters(recurse=False)
        if name == "bias" or parameter.dim() <= 1
    } | {
        id(parameter)
        for module in model.modules()
        if isinstance(module, PositionEncoding)
        for parameter in module.parameters()
    }
    head = {id(parameter) for module in (model.head, extra) if module for parameter in module.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in [*model.parameters(), *(extra.parameters() if extra else ())]:
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in head, id(parameter) in exempt), []).append(parameter)
    return [
        {
            "params": parameters,
            "name": f"{'head' if is_head else 'backbone'}{', no decay' if is_exempt else ''}",
            "lr": lr * (1 if is_head else backbone_lr),
            "peak_lr": lr * (1 if is_head else backbone_lr),
            "weight_decay": 0.0 if is_exempt else weight_decay,
        }
        for (is_head, is_exempt), parameters in sorted(groups.items())
    ]


def schedule(step: int, *, steps: int, warmup: int) -> float:
    """Factor on the peak rate at ``step``, from 0: linear for ``warmup`` steps, then a cosine to 0 at ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
