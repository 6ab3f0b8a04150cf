"""Starting a network from another's weights: other clip lengths and resolutions, other classes.

The pyramid's kernels are as large as a cell of its grid, so networks cut for other clips have other kernels. They are
resampled by area: a kernel is taken as weight spread evenly over each of its taps, and every tap of the new kernel
gathers what lies in its part. Sums are kept exactly, so that a constant map gives the prior that it gave before, and
a map in which every token is repeated k times along an axis gives, with a kernel made k times longer, the same
priors. Nothing else is ever changed on the way, and nothing is dropped silently: every change is a line to print.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dualformer.model.config import Config, Size3, Stage
from dualformer.model.network import DualFormer
from dualformer.weights.errors import WeightsError
from dualformer.weights.keys import check_keys, times
from dualformer.weights.native import load_state, read_card, resolve

_PYRAMID_KERNEL = re.compile(r"stages\.(\d+)\..+\.pyramid\.scales\.\d+\.(conv|space|rest)\.weight")
_KIND = {
    "conv": "fine pyramid kernels",
    "space": "coarse pyramid kernels, space",
    "rest": "coarse pyramid kernels, rest",
}
_HEAD = "head."


def resample_state(state: dict[str, Tensor], source: Config, target: Config) -> tuple[dict[str, Tensor], list[str]]:
    """``state`` of a network ``source``, fitted to a network ``target``, and what was changed, one line each.

    Pyramid kernels are resampled where clips or grids differ. If the number of classes differs, the classifier is left
    out of the result. Errors: ``WeightsError`` that names the setting, for any other difference.
    """
    _check_same(source, target)
    with torch.device("meta"):
        wanted = DualFormer(target, seed=0).state_dict()
    fitted: dict[str, Tensor] = {}
    changes: dict[str, dict[str, None]] = {}
    for key, tensor in state.items():
        if key.startswith(_HEAD) and source.num_classes != target.num_classes:
            continue
        kernel = _PYRAMID_KERNEL.fullmatch(key)
        if kernel and key in wanted and wanted[key].shape != tensor.shape:
            before, after = _kernel_size(tensor), _kernel_size(wanted[key])
            fitted[key] = resample_kernel(tensor, after)
            change = f"stage {int(kernel[1]) + 1} {times(before)} → {times(after)}"
            changes.setdefault(_KIND[kernel[2]], {})[change] = None  # once for all blocks of the stage
        else:
            fitted[key] = tensor
    notes = [f"{kind}, resampled: {', '.join(each)}" for kind, each in changes.items()]
    if source.num_classes != target.num_classes:
        how = "started anew" if target.num_classes else "left out"
        notes.append(f"classifier: {source.num_classes} → {target.num_classes} classes, {how}")
    return fitted, notes


def resample_kernel(weight: Tensor, size: Size3) -> Tensor:
    """A depth-wise kernel C 1 t h w → C 1 and ``size``, by area; the sum of every channel's weights stays."""
    out = weight.double()
    for axis, length in enumerate(size, 2):
        matrix = _area_matrix(out.shape[axis], length).to(out.device)
        out = torch.movedim(torch.movedim(out, axis, -1) @ matrix, -1, axis)
    return out.to(weight.dtype).contiguous()


def start_from(model: DualFormer, path_or_hub_id: Path | str, *, labels: Sequence[str] = ()) -> list[str]:
    """Loads a weights file into ``model``, whose clip and classes may differ, and returns lines to print.

    The model's own classifier stays as it is if the number of classes differs, or if ``labels`` (its class names) are
    given and the file has others: the same number of classes does not make them the same classes. Errors: as
    `native.load_weights` and `resample_state`.
    """
    path = resolve(path_or_hub_id)
    card = read_card(path)
    try:
        state, notes = resample_state(load_state(path), card.config, model.config)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    if any(key.startswith(_HEAD) for key in state) and labels and tuple(labels) != card.labels:
        state = {key: tensor for key, tensor in state.items() if not key.startswith(_HEAD)}
        notes.append(
            f"classifier: {card.config.num_classes} classes with other names or in another order, started anew"
        )
    own = model.state_dict()
    kept = {key: tensor for key, tensor in own.items() if key.startswith(_HEAD) and key not in state}
    check_keys(path, own, {**kept, **state}, remedy="the file is damaged or was edited: get it anew")
    model.load_state_dict({**kept, **state})
    return notes


def _check_same(source: Config, target: Config) -> None:
    for name in ("head_dim", "mlp_ratio"):
        _same(name, getattr(source, name), getattr(target, name))
    _same("number of stages", len(source.stages), len(target.stages))
    for number, (one, other) in enumerate(zip(source.stages, target.stages, strict=True), 1):
        for name in ("channels", "depth", "patch", "kinds"):
            _same(f"stage {number} {name}", getattr(one, name), getattr(other, name))
        if "G" in one.kinds:
            _same(f"stage {number} scales", _scale_kinds(one), _scale_kinds(other))


def _same(name: str, have: object, want: object) -> None:
    if have != want:
        raise WeightsError(
            f"the weights do not fit the network: {name} is {have} in the weights and {want} in the network; "
            "choose the network that the weights are of"
        )


def _scale_kinds(stage: Stage) -> str:
    return " and ".join("coarse" if scale.factorised else "fine" for scale in stage.scales) or "none"


def _area_matrix(source: int, target: int) -> Tensor:
    """source x target: which part of each old tap falls into each new one. Rows sum to 1."""
    edges = torch.arange(source + 1, dtype=torch.float64)
    new = torch.arange(target + 1, dtype=torch.float64) * source / target
    left = torch.maximum(edges[:-1, None], new[None, :-1])
    right = torch.minimum(edges[1:, None], new[None, 1:])
    return (right - left).clamp(min=0)


def _kernel_size(weight: Tensor) -> Size3:
    return weight.shape[2], weight.shape[3], weight.shape[4]
