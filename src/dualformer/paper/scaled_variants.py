"""Scales the paper's network down to small clips: windows and pyramids shrink with the map.

A preset keeps its windows of (8,7,7) tokens for any clip. On small clips that leaves little of what the paper compares:
at 16×64×64 such a window is the whole map from the second stage on, so local attention is global. Here windows and
grids shrink with the clip, so that every stage is cut into as many windows as in the paper at 32×224×224 (2×8×8, 2×4×4,
2×2×2 and 2×1×1 of them), and has as many tokens for each prior of the pyramid (about 110, 28 and 8 in the first three).
No window of any stage covers the map: even in the last one there are two, one after the other in time.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from dualformer.model.config import Config, Scale, Size3, Stage
from dualformer.model.presets import preset_config
from dualformer.paper.paper_tables import Change, check_attention, select

SCALED_CLIP: Size3 = (16, 64, 64)
_WINDOWS: Size3 = (2, 8, 8)
"""Of the first stage at the paper's clip: 16×56×56 tokens in windows of (8,7,7)."""


def scaled_config(name: str = "dualformer_nano", *, clip: Size3 = SCALED_CLIP, num_classes: int = 2) -> Config:
    """Returns the preset ``name`` with windows and grids as large, relative to the maps of ``clip``, as the paper's.

    A window has as many tokens along each axis as the fine grid has cells, as in the paper, where both are (8,7,7); the
    coarse grid has half as many. Nothing is dropped at random: clips made for the purpose are never seen twice. Errors:
    ``ValueError`` for an unknown name, a preset with convolutions, and a clip that is too small to be cut so.
    """
    config = preset_config(name, clip=clip, num_classes=num_classes, drop_path=0.0, dropout=0.0)
    check_attention(config)
    t, h, w = (length // windows for length, windows in zip(config.map_sizes()[0], _WINDOWS, strict=True))
    if min(t, h, w) < 2:
        raise ValueError(f"a clip of {'x'.join(map(str, clip))} is too small: 8 frames of 64 pixels are the least")
    window = (t, h, w)
    scales = (Scale(grid=window), Scale(grid=(max(1, t // 2), max(1, h // 2), max(1, w // 2)), factorised=True))

    def scaled(stage: Stage) -> Stage:
        return replace(stage, window=window, scales=scales[: len(stage.scales)])

    return config.replace(stages=tuple(map(scaled, config.stages)))


def _row(table: str, name: str) -> Change:
    return select([table], [name])[0].change


def _map_stages(change: Callable[[Stage], Stage]) -> Change:
    return lambda config: config.replace(stages=tuple(map(change, config.stages)))


def _window(t: float, h: float, w: float) -> Change:
    """Makes windows that many times as long along each axis."""
    return _map_stages(lambda stage: _resized(stage, t, h, w))


def _resized(stage: Stage, t: float, h: float, w: float) -> Stage:
    a, b, c = (max(1, round(length * by)) for length, by in zip(stage.window, (t, h, w), strict=True))
    return replace(stage, window=(a, b, c))


def _narrow_last(config: Config) -> Config:
    """Makes windows half as wide in the last stage, where otherwise, as in the paper, they are as wide as the map."""
    *others, last = config.stages
    return config.replace(stages=(*others, _resized(last, 1, 0.5, 0.5)))


VARIANTS: Mapping[str, Change] = MappingProxyType(
    {
        "LG": lambda config: config,
        "LL": _row("4", "ll-ll-ll-ll"),
        "GG": _row("4", "gg-gg-gg-gg"),
        "GL": _map_stages(lambda stage: replace(stage, kinds="GL")),
        "LL-LL-LG-LG": _row("4", "ll-ll-lg-lg"),
        "LG-LG-LL-LL": _row("4", "lg-lg-ll-ll"),
        "coarse-scale": _row("4", "only-4-4-4"),
        "fine-scale": _row("4", "only-8-7-7"),
        "half-window": _window(0.5, 1, 1),
        "long-window": _window(2, 1, 1),
        "wide-window": _window(1, 2, 2),
        "narrow-last": _narrow_last,
        "average": _row("6", "avgpool"),
        "full-convolution": _row("6", "conv"),
        "no-position": _row("7", "without-peg"),
        "absolute": _row("7", "absolute"),
        "relative": _row("7", "relative"),
        "LL-narrow-last": lambda config: _narrow_last(VARIANTS["LL"](config)),
        "LL-no-position": lambda config: VARIANTS["no-position"](VARIANTS["LL"](config)),
        "GG-no-position": lambda config: VARIANTS["no-position"](VARIANTS["GG"](config)),
    }
)
"""What the paper's Tables 4 to 7 compare, as changes of a scaled config: which attention a block's halves have, which
scales the pyramid has, windows, what makes a prior, and positions; and beyond those ``GL``, windows narrow in the last
stage, and either kind of attention without positions. ``LG`` is the network itself."""
ATTENTION_KINDS = ("LG", "LL", "GG")
"""The paper's thesis: local and global attention, beside either alone."""
