"""The networks by name: Tiny, Small and Base of Table 1 in the layout of the public weights, and two for laptops.

Nano is the paper's network in small. Nano Conv is meant for few videos: a convolutional stem takes the place of the
patch embedding, and convolution that of attention in stages 1 and 2.
"""

from collections.abc import Sequence
from typing import Any, Literal, overload

from dualformer.model.config import Config, Scale, Size3, Stage, ceil_div
from dualformer.model.features import FeatureExtractor
from dualformer.model.network import DualFormer

_FOUR_LG = ("LG", "LG", "LG", "LG")

#: Channels of stage 1 (doubled by every later stage), blocks per stage, clip, halves of the blocks of each stage.
_PRESETS: dict[str, tuple[int, tuple[int, int, int, int], Size3, tuple[str, str, str, str]]] = {
    "dualformer_nano": (32, (1, 1, 1, 1), (16, 112, 112), _FOUR_LG),
    "dualformer_nano_conv": (32, (1, 1, 1, 1), (16, 112, 112), ("C", "C", "LG", "LG")),
    "dualformer_tiny": (64, (1, 1, 5, 2), (32, 224, 224), _FOUR_LG),
    "dualformer_small": (96, (1, 1, 9, 1), (32, 224, 224), _FOUR_LG),
    "dualformer_base": (128, (1, 1, 9, 1), (32, 224, 224), _FOUR_LG),
}


def list_models() -> list[str]:
    """Names that `create_model` knows, smallest first."""
    return list(_PRESETS)


def preset_config(name: str, *, clip: Size3 | None = None, **changes: Any) -> Config:
    """The config of a preset, with grids cut for ``clip`` (frames, height, width; default: the preset's own).

    Stages 1 to 3 have a fine grid of (T/2, 7, 7) priors, T being the frames of the stage's map; stages 1 and 2 a
    coarse, factorised one of (4, 4, 4) as well; stage 4 attends to all its tokens. For one frame, as in
    ``clip=(1, 224, 224)``, it is the network of images: nothing has an extent in time, and `weights.inflate` makes a
    network of videos of it. ``changes`` replace other fields of `Config`.

    Errors: ``ValueError`` for an unknown name or field.
    """
    if name not in _PRESETS:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(_PRESETS)}")
    channels, depths, own_clip, halves = _PRESETS[name]
    size = clip or own_clip
    images = size[0] == 1
    stages: list[Stage] = []
    for number, depth in enumerate(depths):
        patch = (1 if images else 2, 4, 4) if number == 0 else (1, 2, 2)
        size = ceil_div(size, patch)
        window = (1 if images else 8, 7, 7)
        kinds = halves[number]
        stages.append(
            Stage(
                channels=channels << number,
                depth=depth,
                patch=patch,
                embedding="convolutions" if number == 0 and "C" in kinds else "patches",
                kinds=kinds,
                window=window,
                scales=stage_scales(number, fine_scale(size), images=images) if "G" in kinds else (),
            )
        )
    return Config(stages=tuple(stages), clip=clip or own_clip).replace(**changes)


@overload
def create_model(
    name: str,
    *,
    clip: Size3 | None = None,
    seed: int | None = None,
    features_only: Literal[False] = False,
    **changes: Any,
) -> DualFormer: ...


@overload
def create_model(
    name: str,
    *,
    clip: Size3 | None = None,
    seed: int | None = None,
    features_only: Literal[True],
    out_indices: int | Sequence[int] | None = None,
    **changes: Any,
) -> FeatureExtractor: ...


def create_model(
    name: str,
    *,
    clip: Size3 | None = None,
    seed: int | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    **changes: Any,
) -> DualFormer | FeatureExtractor:
    """A network with fresh weights: `preset_config`'s arguments, and a ``seed`` that fixes the weights.

    ``features_only`` gives a `FeatureExtractor` of the stages in ``out_indices`` (default: all) instead. Errors: as
    `preset_config`; ``ValueError`` for a stage that there is not.
    """
    if changes.pop("pretrained", False):
        raise ValueError(
            'create_model draws random weights: call dualformer.load_model("weights.safetensors", num_classes=N), or '
            '"rendered" for the weights that come with the package'
        )
    if out_indices is not None and not features_only:
        raise ValueError("out_indices chooses the maps of features_only=True; forward_intermediates takes indices")
    model = DualFormer(preset_config(name, clip=clip, **changes), seed=seed)
    return FeatureExtractor(model, out_indices) if features_only else model


def stage_scales(number: int, fine: Scale, *, images: bool) -> tuple[Scale, ...]:
    """The scales of the stage ``number`` (from 0) beside its ``fine`` one, in networks of images or of videos."""
    coarse = Scale(grid=(1 if images else 4, 4, 4), factorised=True)
    return ((fine, coarse), (fine, coarse), (fine,), ())[number]


def fine_scale(size: Size3) -> Scale:
    """The fine scale for a map of ``size`` T H W: (T/2, 7, 7) priors, or about as many where 7 does not divide it."""
    return Scale(grid=(max(1, size[0] // 2), _fine_cells(size[1]), _fine_cells(size[2])))


def _fine_cells(side: int) -> int:
    """7 cells, as in the paper, or the nearest number that divides the map; 7 where none does."""
    return next((cells for cells in (7, 8, 6, 5, 4) if side % cells == 0), 7) if side > 3 else side
