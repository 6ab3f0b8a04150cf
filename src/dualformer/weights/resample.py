"""Resamples weights for a network of other clip lengths, resolutions or classes, or of videos instead of images.

Tensors whose size follows the clip are resampled, each kind in its own way. Nothing else is changed, and every change
is a line to print.

* Pyramid kernels are as large as a cell of the grid. They are resampled by area: a kernel is taken as weight spread
  evenly over each of its taps, and every tap of the new kernel gathers what lies in its part. Sums stay, so that a
  constant map gives the prior that it gave before.
* Absolute position tables are interpolated between the centres of their entries.
* A PEG, and a convolution of the stem or of a C half, has three taps in time where its map has several frames, and one
  where it has one. Of three, the middle one stays: it is the only one that reads a map of one frame. One is put in the
  middle of three, or spread (`Peg`).
* Relative position tables are as large as the windows, which the clip does not change. Where the windows differ, they
  are interpolated over the offsets: the ends and the centre stay what they are.

So a network run on another clip gives what its weights give in a network cut for that clip; the exception is a PEG
that is spread. A network of images becomes one of videos in the same way, its patches resampled as well (`inflate`).
"""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.model.config import Config, Size3, Stage
from dualformer.model.network import DualFormer
from dualformer.model.position import resample_table
from dualformer.model.pyramid import resample_kernel
from dualformer.weights.errors import WeightsError, size_text, tensor_mismatch

Peg = Literal["middle", "spread"]
"""Where the one frame of a PEG kernel goes among three: into the middle one alone, or spread evenly over them."""

_STAGE = re.compile(r"stages\.(\d+)\.")
_PEG = "PEG kernels"
_RELATIVE = "relative positions"
_CONVOLUTIONS = "kernels of convolutions"
_FITTED: dict[str, re.Pattern[str]] = {
    "patch kernels": re.compile(r".+\.embed\.proj\.weight"),
    "fine pyramid kernels": re.compile(r".+\.pyramid\.scales\.\d+\.conv\.weight"),
    "coarse pyramid kernels, space": re.compile(r".+\.pyramid\.scales\.\d+\.space\.weight"),
    "coarse pyramid kernels, rest": re.compile(r".+\.pyramid\.scales\.\d+\.rest\.weight"),
    _PEG: re.compile(r".+\.position\.conv\.weight"),
    _CONVOLUTIONS: re.compile(r".+\.(embed\.convs|blocks\.\d+\.\d+\.branch)\.\d+\.conv\.weight"),
    "absolute positions in space": re.compile(r".+\.table\.space"),
    "absolute positions in time": re.compile(r".+\.table\.time"),
    _RELATIVE: re.compile(r".+\.attn\.bias\.table"),
}
"""Kinds of tensors whose size may differ, by their names."""
HEAD, TEMPORAL = "head.", "temporal."
"""Beginnings of the names of the classifier's tensors, and of a temporal head's."""


def resample_state(
    state: Mapping[str, Tensor], source: Config, target: Config, *, peg: Peg = "middle"
) -> tuple[dict[str, Tensor], list[str]]:
    """Fits the ``state`` of a network ``source`` to a network ``target``; returns it and a line for each change.

    Clips, grids and windows may differ. If the source is a network of images (`is_image_network`), patches may get
    longer in time. If the number of classes differs, the classifier is left out of the result, and the temporal head
    where only one of them has it. It is computed in float64 and has the types of ``state``. Errors: ``WeightsError``
    that names the setting for any other difference, and for tensors that are not those of ``source``.
    """
    _check_same(source, target)
    with torch.device("meta"):
        wanted, own = DualFormer(target, seed=0).state_dict(), DualFormer(source, seed=0).state_dict()
    if wrong := tensor_mismatch(own, state):
        raise WeightsError(f"the tensors are not those of the network ({wrong}); get them anew")
    fitted: dict[str, Tensor] = {}
    changes: dict[str, dict[str, None]] = {}
    for key, tensor in state.items():
        if key.startswith(HEAD) and source.num_classes != target.num_classes:
            continue
        if key.startswith(TEMPORAL) and source.head != target.head:
            continue
        shape = wanted[key].shape
        if tensor.shape == shape:
            fitted[key] = tensor
            continue
        stage = _STAGE.match(key)
        assert stage is not None, key  # configs that are the same but for clip, grids and windows differ in stages only
        what, fitted[key], before, after = _fit(key, tensor, shape, peg)
        change = f"stage {int(stage[1]) + 1} {size_text(before)} → {size_text(after)}"
        changes.setdefault(what, {})[change] = None  # once for all blocks of the stage
    notes = (
        ["a network of images, inflated to one of videos"]
        if is_image_network(source) and not is_image_network(target)
        else []
    )
    notes += [f"{what}: {', '.join(each)}" for what, each in changes.items()]
    if source.norm_eps != target.norm_eps:
        notes.append(f"LayerNorm's epsilon: {source.norm_eps:g} in the weights, {target.norm_eps:g} in the network")
    if source.num_classes != target.num_classes:
        how = "started anew" if target.num_classes else "left out"
        notes.append(f"classifier: {source.num_classes} → {target.num_classes} classes, {how}")
    if source.head != target.head:
        notes.append(f"temporal head: {'started anew' if target.head == 'temporal' else 'left out'}")
    return fitted, notes


def is_image_network(config: Config) -> bool:
    """Whether a network takes one frame and has no extent in time, as `inflate` needs it."""
    return config.clip[0] == 1 and all(stage.patch[0] == 1 for stage in config.stages)


def _fit(key: str, tensor: Tensor, shape: torch.Size, peg: Peg) -> tuple[str, Tensor, Size3, Size3]:
    """Returns what was done, in words, the tensor in its new ``shape``, and the sizes T H W before and after."""
    kind = next(kind for kind, name in _FITTED.items() if name.fullmatch(key))
    x = tensor.double()
    if tensor.dim() == 5:
        before, after = _size3(tensor.shape[2:]), _size3(shape[2:])
        if kind not in (_PEG, _CONVOLUTIONS):
            how, x = "resampled", resample_kernel(x, after)
        elif after[0] == 1:
            how, x = "the middle of three frames, as maps of one frame have no other", x[:, :, 1:2]
        elif peg == "middle":
            how, x = "put into the middle of three frames", F.pad(x, (0, 0, 0, 0, 1, 1))
        else:
            how, x = "spread over three frames", resample_kernel(x, after)
    else:
        before, after = _size3(tensor.shape), _size3(shape)
        how, x = "interpolated", (_resample_offsets if kind == _RELATIVE else resample_table)(x, after)
        if kind == _RELATIVE:
            before, after = _window(before), _window(after)
    return f"{kind}, {how}", x.to(tensor.dtype).contiguous(), before, after


def _resample_offsets(table: Tensor, size: Size3) -> Tensor:
    """Interpolates a table over offsets T H W h linearly to another odd ``size``; the ends and the centre stay."""
    for axis, length in enumerate(size):
        reach, wanted = table.shape[axis] // 2, length // 2
        old = torch.arange(-reach, reach + 1, dtype=table.dtype, device=table.device)
        new = torch.arange(-wanted, wanted + 1, dtype=table.dtype, device=table.device) * (reach / max(1, wanted))
        weights = (1 - (new[:, None] - old[None, :]).abs()).clamp(min=0)
        table = torch.movedim(torch.movedim(table, axis, -1) @ weights.T, -1, axis)
    return table


def _window(offsets: Size3) -> Size3:
    t, h, w = offsets
    return t // 2 + 1, h // 2 + 1, w // 2 + 1


def _check_same(source: Config, target: Config) -> None:
    for name in ("head_dim", "mlp_ratio", "position"):
        _same(name, getattr(source, name), getattr(target, name))
    _same("number of stages", len(source.stages), len(target.stages))
    for number, (one, other) in enumerate(zip(source.stages, target.stages, strict=True), 1):
        for name in ("channels", "depth", "embedding", "kinds"):
            _same(f"stage {number} {name}", getattr(one, name), getattr(other, name))
        if not is_image_network(source) or one.patch[1:] != other.patch[1:]:
            _same(f"stage {number} patch", one.patch, other.patch)
        if "C" in one.kinds:
            _same(f"stage {number} convolution", one.convolution, other.convolution)
        if "G" in one.kinds:
            _same(f"stage {number} scales", _scale_kinds(one), _scale_kinds(other))


def _same(name: str, have: object, want: object) -> None:
    if have != want:
        raise WeightsError(
            f"the weights do not fit the network: {name} is {have} in the weights and {want} in the network; "
            "choose the network that the weights are of, or other weights"
        )


def _scale_kinds(stage: Stage) -> str:
    """Returns the kinds of a stage's scales, such as "fine and coarse", with functions other than depth-wise."""
    names = [
        ("coarse" if scale.factorised else "fine") + ("" if scale.function == "depthwise" else f" ({scale.function})")
        for scale in stage.scales
    ]
    return " and ".join(names) or "none"


def _size3(shape: torch.Size) -> Size3:
    return shape[0], shape[1], shape[2]
