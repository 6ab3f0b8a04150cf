"""Reads the authors' released checkpoints (``.pth``): recognises the network and renames the tensors.

A released file is a dictionary with ``state_dict``. It does not say which network it belongs to, but its shapes do:
widths, depths, patches, classes and pyramid kernels. What shapes cannot tell is taken from the release's code: heads
of 32 channels, windows of (8, 7, 7), the coarse grid (4, 4, 4) (from which the clip follows, since a kernel is map
size / grid), drop-out 0.5 before the classifier. The released 16-frame networks keep the fine grid (8, 7, 7), unlike
the paper's, hence unlike `preset_config` for 16 frames: grids always come from the file.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dualformer.model.config import Config, Scale, Size3, Stage, ceil_div
from dualformer.model.network import DualFormer
from dualformer.model.presets import list_models, preset_config
from dualformer.model.pyramid import cell_size, factors
from dualformer.video.preprocessing import kinetics, transfer
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError, check_tensors, size_text
from dualformer.weights.plain_state import config_from_state, load_checkpoint
from dualformer.weights.wrapped_network import OWN_KEY, RELEASED_KEY, find_state

COARSE_GRID: Size3 = (4, 4, 4)

_NAMES: tuple[tuple[str, str], ...] = (
    (r"stages\.(\d+)\.embed\.(.+)", r"backbone.patch_embeds.\1.\2"),
    (r"stages\.(\d+)\.position\.conv\.(.+)", r"backbone.pos_block.\1.proj.0.\2"),
    (r"(stages\..+)\.pyramid\.scales\.\d+\.conv\.(.+)", r"\1.sr.\2"),
    (r"(stages\..+)\.pyramid\.scales\.\d+\.space\.(.+)", r"\1.lr.0.\2"),
    (r"(stages\..+)\.pyramid\.scales\.\d+\.norm\.(.+)", r"\1.lr.1.\2"),
    (r"(stages\..+)\.pyramid\.scales\.\d+\.rest\.(.+)", r"\1.lr.3.\2"),
    (r"(stages\..+)\.pyramid\.norm\.(.+)", r"\1.norm.\2"),
    (r"norm\.(.+)", r"backbone.norm.\1"),
    (r"head\.(.+)", r"cls_head.fc_cls.\1"),
)
"""Patterns of our names, and the release's names, tried in order. The release counts halves through a stage: even LW,
odd GP."""
_HALF = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.([01])\.")


def read_release(path: Path | str, content: object = None) -> dict[str, Tensor]:
    """Reads the tensors of a released checkpoint, under its own names, or of a state dict of ours, without the names of
    wrappers. No code in the file is run.

    ``content``: of the file, where `load_checkpoint` has read it already.

    Errors: ``FileNotFoundError``; ``WeightsError`` if it is another kind of file.
    """
    path = Path(path)
    state = find_state(load_checkpoint(path) if content is None else content)
    if not isinstance(state, dict) or not {OWN_KEY, RELEASED_KEY} & set(state):
        holds = ", ".join(map(str, list(state)[:4])) if isinstance(state, dict) else type(state).__name__
        raise WeightsError(
            f"{path}: not a released DualFormer checkpoint: it holds {holds or 'nothing'} "
            f"and no {RELEASED_KEY}, nor {OWN_KEY} of a network of ours"
        )
    if odd := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise WeightsError(f"{path}: not a released DualFormer checkpoint: {odd[0]} is no tensor")
    return state


def config_from_release(state: Mapping[str, Tensor], clip: Size3 | None = None) -> Config:
    """Returns the config of a released checkpoint's network, from its shapes and what this module's docstring adds.

    Without ``clip`` it is inferred from the coarse kernels of stage 1. Errors: ``WeightsError`` if shapes are missing
    or contradict each other or ``clip``.
    """
    count = _count(state, "backbone.patch_embeds.")
    embeds = [_shape(state, f"backbone.patch_embeds.{i}.proj.weight") for i in range(count)]
    patches = [_size3(shape) for shape in embeds]
    inferred = _inferred_clip(state, patches[0])
    if clip is None:
        if inferred is None:
            raise WeightsError("stage 1 has no coarse scale to infer the clip from; give it with `clip`, as 32x224x224")
        clip = inferred
    stages: list[Stage] = []
    size = clip
    for i, (shape, patch) in enumerate(zip(embeds, patches, strict=True)):
        size = ceil_div(size, patch)
        halves = _count(state, f"backbone.blocks.{i}.")
        if halves < 2 or halves % 2:
            raise WeightsError(f"stage {i + 1} has {halves} halves; a released network has two in every block")
        scales = _scales(state, i, size, clip=clip, inferred=inferred)
        stages.append(Stage(channels=shape[0], depth=halves // 2, patch=patch, scales=scales))
    classes = state["cls_head.fc_cls.weight"].shape[0] if "cls_head.fc_cls.weight" in state else 0
    ratio = _shape(state, "backbone.blocks.0.0.mlp.fc1.weight")[0] // embeds[0][0]
    try:
        return Config(stages=tuple(stages), clip=clip, num_classes=classes, mlp_ratio=ratio)
    except ValueError as error:
        raise WeightsError(f"the shapes make no network ({error})") from error


class ConvertedNetwork(NamedTuple):
    """A network with the weights of a file, in eval mode."""

    model: DualFormer
    config: Config
    released: bool
    """Whether the authors' code trained it; a state dict of ours otherwise."""


def convert_release(
    path: Path | str, content: object = None, *, preset: str | None = None, clip: Size3 | None = None
) -> ConvertedNetwork:
    """Reads a released checkpoint, or a state dict of ours.

    ``content``: as of `read_release`. ``preset``: the network must have its widths, depths, patches and kinds of
    scales. ``clip`` is only needed where it cannot be inferred. Errors: ``ValueError`` for an unknown preset; as
    `read_release` and `config_from_release`; ``WeightsError`` for missing, unexpected or misshaped tensors.
    """
    expected = None if preset is None else preset_config(preset)
    state = read_release(path, content)
    if OWN_KEY in state:
        try:
            config = config_from_state(state, preset=preset, clip=clip)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        model = DualFormer(config, seed=0)
        model.load_state_dict({key: t.float() if t.is_floating_point() else t for key, t in state.items()})
        return ConvertedNetwork(model.eval(), config, released=False)
    try:
        config = config_from_release(state, clip)
        if preset is not None and expected is not None and (difference := _difference(expected, config)):
            fits = ", ".join(matching_presets(config)) or "no preset, so leave it out"
            raise WeightsError(f"the file is not {preset}: {difference}; the preset that fits is {fits}")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    with torch.device("meta"):
        model = DualFormer(config, seed=0)
    wanted = release_state(model)
    for key in wanted:
        if key.endswith(".num_batches_tracked"):  # some versions of PyTorch did not save it; nothing here reads it
            state.setdefault(key, torch.zeros((), dtype=torch.int64))
    check_tensors(path, wanted, state, remedy="it is of another network, or damaged")
    ours = {
        key: state[release_key(key)].float() if tensor.is_floating_point() else state[release_key(key)]
        for key, tensor in model.state_dict().items()
    }
    model.load_state_dict(ours, assign=True)
    return ConvertedNetwork(model.eval(), config, released=True)


def release_card(
    path: Path | str,
    config: Config,
    *,
    trained_on: Literal["kinetics", "transfer"],
    released: bool = True,
    labels: Sequence[str] | None = None,
    licence: str = "unknown",
    provenance: str | None = None,
) -> Card:
    """Returns the card of a converted checkpoint.

    ``trained_on`` gives the preprocessing: ``kinetics`` is 32 frames 2 apart or 16 frames 4 apart, ``transfer``
    (Diving-48, HMDB-51, UCF-101) 4 apart with another mean and standard deviation. ``released``: views are taken as
    the release takes them: clips in the middles of equal segments, short videos looped, no antialiasing. Without
    ``labels`` classes are named by their numbers. Errors: ``ValueError`` if labels or clip do not fit.
    """
    frames, height, width = config.clip
    if height != width:
        raise ValueError(
            f"{path}: a clip of {size_text(config.clip)} is not square, as preprocessing needs it; see `clip`"
        )
    if trained_on == "kinetics":
        preprocessing = kinetics(frames=frames, stride=max(1, 64 // frames), size=height)
    else:
        preprocessing = transfer(frames=frames, stride=4, size=height)
    if released:
        preprocessing = replace(preprocessing, placement="middles", short_video="loop", antialias=False)
    names = tuple(map(str, range(config.num_classes))) if labels is None else tuple(labels)
    if len(names) != config.num_classes:
        raise ValueError(
            f"{path}: {len(names)} labels do not fit a classifier of {config.num_classes} classes; see `labels`"
        )
    if provenance is None:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        provenance = f"released checkpoint {Path(path).name}, sha256 {digest}"
    return Card(config=config, labels=names, preprocessing=preprocessing, provenance=provenance, licence=licence)


def release_state(model: DualFormer) -> dict[str, Tensor]:
    """Returns the network's tensors under the release's names, as the release's code loads them.

    Errors: ``ValueError`` for networks that the release has no names for.
    """
    config = model.config
    if model.folded:
        raise ValueError("a folded network has no longer the weights of its config: convert it before fold()")
    if config.head != "pooled":
        raise ValueError(f"the release has only networks with head='pooled', not {config.head!r}")
    if config.position != "peg":
        raise ValueError(f"the release has only networks with position='peg', not {config.position!r}")
    for number, (stage, size) in enumerate(zip(config.stages, config.map_sizes(), strict=True), 1):
        kinds = [scale.factorised for scale in stage.scales]
        if stage.embedding != "patches":
            raise ValueError(f"stage {number}: the release has only embedding='patches', not {stage.embedding!r}")
        if stage.kinds != "LG" or kinds.count(True) > 1 or kinds.count(False) > 1:
            raise ValueError(f"stage {number}: the release has only LG blocks, with one fine and one coarse scale")
        for scale in stage.scales:
            if scale.function != "depthwise":
                raise ValueError(f"stage {number}: the release has only depthwise pyramids, not {scale.function!r}")
            if not _divides(scale.grid, size):
                raise ValueError(
                    f"stage {number}: the release cuts maps into equal cells, and the grid {size_text(scale.grid)} "
                    f"does not divide the map {size_text(size)}; choose a clip that it does divide"
                )
    return {release_key(key): tensor for key, tensor in model.state_dict().items()}


def release_key(key: str) -> str:
    """Returns the release's name of one of our tensors, such as ``backbone.blocks.0.1.attn.q.weight`` of
    ``stages.0.blocks.0.1.attn.q.weight``."""
    for pattern, replacement in _NAMES:
        if match := re.fullmatch(pattern, key):
            key = match.expand(replacement)
            break
    return _HALF.sub(lambda m: f"backbone.blocks.{m[1]}.{2 * int(m[2]) + int(m[3])}.", key)


def matching_presets(config: Config) -> list[str]:
    """Returns the names of the presets with the config's widths, depths, patches and kinds of scales."""
    return [name for name in list_models() if not _difference(preset_config(name), config)]


def _difference(preset: Config, found: Config) -> str:
    """Returns how two networks differ besides clip and grids, in words; empty if they do not."""
    if len(preset.stages) != len(found.stages):
        return f"it has {len(found.stages)} stages instead of {len(preset.stages)}"
    for what, value in {
        "width": lambda stage: stage.channels,
        "depth": lambda stage: stage.depth,
        "patch": lambda stage: stage.patch,
        "embedding": lambda stage: stage.embedding,
        "halves": lambda stage: stage.kinds,
        "kinds of pyramid scales": lambda stage: tuple("coarse" if s.factorised else "fine" for s in stage.scales),
    }.items():
        wanted, have = tuple(map(value, preset.stages)), tuple(map(value, found.stages))
        if wanted != have:
            return f"its {what} by stage is {have} instead of {wanted}"
    return ""


def _inferred_clip(state: Mapping[str, Tensor], patch: Size3) -> Size3 | None:
    key = "backbone.blocks.0.1.attn.lr.{}.weight"
    if key.format(0) not in state:
        return None
    cell = _product(_size3(_shape(state, key.format(0))), _size3(_shape(state, key.format(3))))
    return _product(_product(cell, COARSE_GRID), patch)


def _scales(
    state: Mapping[str, Tensor], stage: int, size: Size3, *, clip: Size3, inferred: Size3 | None
) -> tuple[Scale, ...]:
    attn = f"backbone.blocks.{stage}.1.attn"
    scales: list[Scale] = []
    if f"{attn}.sr.weight" in state:
        cell = _size3(_shape(state, f"{attn}.sr.weight"))
        grid = ceil_div(size, cell)
        if cell_size(size, grid) != cell:
            raise _wrong_clip("fine", stage, cell, clip, inferred)
        scales.append(Scale(grid=grid))
    if f"{attn}.lr.0.weight" in state:
        first, rest = (_size3(_shape(state, f"{attn}.lr.{layer}.weight")) for layer in (0, 3))
        if factors(cell_size(size, COARSE_GRID)) != (first, rest) or not _divides(COARSE_GRID, size):
            raise _wrong_clip("coarse", stage, _product(first, rest), clip, inferred)
        scales.append(Scale(grid=COARSE_GRID, factorised=True))
    return tuple(scales)


def _divides(grid: Size3, size: Size3) -> bool:
    """Whether the grid's cells tile the map. Only then are our priors the release's, which never averages by area."""
    cells = zip(size, cell_size(size, grid), grid, strict=True)
    return all(length == cell * min(length, count) for length, cell, count in cells)


def _wrong_clip(scale: str, stage: int, cell: Size3, clip: Size3, inferred: Size3 | None) -> WeightsError:
    if inferred in (None, clip):
        remedy = "it is of another network, or damaged"
    else:
        remedy = f"they are cut for {size_text(inferred or clip)}, so leave `clip` out"
    kernel = f"the {scale} pyramid kernel of stage {stage + 1}, {size_text(cell)},"
    return WeightsError(f"{kernel} is not one for clips of {size_text(clip)}; {remedy}")


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Returns 1 + the largest number that follows the prefix."""
    found = (re.match(re.escape(prefix) + r"(\d+)\.", key) for key in state)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _shape(state: Mapping[str, Tensor], key: str) -> torch.Size:
    if key not in state:
        raise WeightsError(f"not a released DualFormer checkpoint: {key} is missing")
    return state[key].shape


def _size3(shape: torch.Size) -> Size3:
    if len(shape) != 5:
        raise WeightsError(
            f"a kernel has {len(shape)} dimensions instead of 5: these are not a video network's weights"
        )
    return shape[2], shape[3], shape[4]


def _product(a: Size3, b: Size3) -> Size3:
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]
