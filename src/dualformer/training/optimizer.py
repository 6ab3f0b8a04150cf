"""AdamW's parameter groups and the learning-rate schedule of the paper (section 4.1)."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from dualformer.model.network import DualFormer


def parameter_groups(
    model: DualFormer,
    *,
    lr: float,
    backbone_lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    extra: nn.Module | None = None,
) -> list[dict[str, Any]]:
    """Groups for AdamW: classifier at ``lr``, backbone at ``lr × backbone_lr``; norms, biases and PEG do not decay.

    With ``layer_decay`` below 1 every block learns that much slower than the one after it (`DualFormer.layer_numbers`);
    the last block and the final norm learn at the backbone's whole rate. ``extra`` is a module beside the model that
    learns at the classifier's rate. Each group carries its peak rate as ``peak_lr`` for the schedule.
    """
    spared, layers = model.no_weight_decay(), model.layer_numbers()
    last_block = max(layers.values()) - 1
    groups: dict[tuple[str, bool], dict[str, Any]] = {}

    def add(parameter: nn.Parameter, part: str, *, peak_lr: float, decays: bool) -> None:
        group = {
            "params": [],
            "name": part if decays else f"{part}, no decay",
            "lr": peak_lr,
            "peak_lr": peak_lr,
            "weight_decay": weight_decay if decays else 0.0,
        }
        if parameter.requires_grad:
            groups.setdefault((part, not decays), group)["params"].append(parameter)

    for name, parameter in model.named_parameters():
        if name.startswith("head."):
            add(parameter, "head", peak_lr=lr, decays=name not in spared)
        elif layer_decay == 1:
            add(parameter, "backbone", peak_lr=lr * backbone_lr, decays=name not in spared)
        else:
            depth = min(layers[name], last_block)
            rate = lr * backbone_lr * layer_decay ** (last_block - depth)
            add(parameter, f"layer {depth:02d}", peak_lr=rate, decays=name not in spared)
    for parameter in extra.parameters() if extra else ():
        add(parameter, "head", peak_lr=lr, decays=parameter.dim() > 1)
    return [groups[key] for key in sorted(groups)]


def schedule(step: int, *, steps: int, warmup: int) -> float:
    """Factor on the peak rate at ``step``, from 0: linear for ``warmup`` steps, then a cosine to 0 at ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
