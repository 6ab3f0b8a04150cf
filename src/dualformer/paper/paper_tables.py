"""The paper's tables of variants as data: what was published for each row, and the row as a change of a preset.

A row is a small function from a config to a config, so that it applies to other presets and clips as well: "only the
fine scale" or "windows of twice the side", not a copy of Tiny. `compute_costs` gives what rows cost.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualformer.model.attention import fitted_window
from dualformer.model.config import Config, Function, Position, Scale, Size3, Stage
from dualformer.model.cost import Cost, measure_cost
from dualformer.model.presets import fine_scale, preset_config

Change = Callable[[Config], Config]
"""From a preset's config to that of a row."""
PAPERS_MODEL = "dualformer_tiny"
"""The preset that the rows of Tables 4 to 8 vary."""
PAPERS_CLIP: Size3 = (32, 224, 224)

TABLES = {
    "1": "the layout as Table 1 prints it",
    "2": "the networks",
    "4": "local and global halves, scales of the pyramid",
    "5": "windows",
    "6": "what makes a prior of a cell",
    "7": "positions",
    "8": "temporal pooling",
}
"""What the tables compare."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the paper prints for a row; None where it prints nothing."""

    gflops: int | None = None
    """10⁹ multiply-adds of a view, rounded, times ``views``."""
    parameters: float | None = None
    """10⁶, without the classifier."""
    top1: float | None = None
    """Percent on Kinetics-400, where the row's name does not say otherwise."""
    top5: float | None = None
    views: int = 4


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of one of the tables."""

    table: str
    name: str
    published: Published
    change: Change = lambda config: config
    """From a preset's config to the row's; the clip and the number of classes stay."""
    model: str | None = None
    """The preset, where the row is about a preset of its own and not a change of any."""
    half_frames: bool = False
    """Clips of half the frames with twice the stride: 16×4 instead of 32×2."""
    note: str = ""
    """What to know when comparing."""

    @property
    def key(self) -> str:
        """The table and the name in plain letters, as in folders and on the command line: ``4/only-8-7-7``."""
        return f"{self.table}/{re.sub(r'[^a-z0-9]+', '-', self.name.replace('×', 'x').lower()).strip('-')}"

    def config(self, model: str | None = None, clip: Size3 | None = None) -> Config:
        """Returns the row as a change of the preset ``model`` (default: the paper's) for ``clip`` (default: its own).

        Errors: ``ValueError`` for an unknown preset, and where the row needs a longer clip or other halves.
        """
        name = self.model or model or PAPERS_MODEL
        config = preset_config(name, clip=clip)
        if self.half_frames:
            config = preset_config(name, clip=self.halved(config.clip))
        return self.change(config)

    def halved(self, clip: Size3) -> Size3:
        """Returns ``clip`` with half the frames. Errors: ``ValueError`` for clips of fewer than 4."""
        if clip[0] < 4:
            raise ValueError(f"half the frames takes clips of 4 frames or more, not {clip[0]}")
        return clip[0] // 2, clip[1], clip[2]


def _map_stages(config: Config, change: Callable[[int, Stage], Stage]) -> Config:
    return config.replace(stages=tuple(change(number, stage) for number, stage in enumerate(config.stages)))


def check_attention(config: Config) -> None:
    """Raises ``ValueError`` for a network with C halves: it has no local and global attention in all stages."""
    if stages := [str(number) for number, stage in enumerate(config.stages, 1) if "C" in stage.kinds]:
        where = f"stage{'s' if len(stages) > 1 else ''} {' and '.join(stages)}"
        raise ValueError(f"local and global attention are compared, and {where} of the model have convolutions (C)")


def _kinds(*kinds: str, pyramids: bool = False) -> Change:
    def change(config: Config) -> Config:
        check_attention(config)
        changed = _map_stages(config, lambda number, stage: replace(stage, kinds=kinds[number]))
        return _with_pyramids(changed) if pyramids else changed

    return change


def _window(window: Size3) -> Change:
    return lambda config: _map_stages(config, lambda _, stage: replace(stage, window=window))


def _with_pyramids(config: Config) -> Config:
    """Gives stages that attend to all their tokens (the last) a fine scale instead."""
    sizes = config.map_sizes()

    def changed(number: int, stage: Stage) -> Stage:
        if stage.scales or "G" not in stage.kinds:
            return stage
        return replace(stage, scales=(fine_scale(sizes[number]),))

    return _map_stages(config, changed)


def _only_coarse(config: Config) -> Config:
    """Leaves of two scales the coarse one alone, as one convolution."""
    check_attention(config)
    return _map_stages(
        config,
        lambda _, stage: (
            replace(stage, scales=(replace(stage.scales[1], factorised=False),)) if len(stage.scales) == 2 else stage
        ),
    )


def _only_fine(config: Config) -> Config:
    check_attention(config)
    return _with_pyramids(_map_stages(config, lambda _, stage: replace(stage, scales=stage.scales[:1])))


def _exact_layout(config: Config) -> Config:
    """Leaves of each pyramid the fine scale, made by a full convolution: the layout of Twins-SVT weights."""
    return _map_stages(
        config,
        lambda _, stage: replace(stage, scales=tuple(replace(each, function="full") for each in stage.scales[:1])),
    )


def _as_printed(config: Config) -> Config:
    """Gives all stages but the last both scales, and the last the fine one; the coarse one is a single convolution."""
    check_attention(config)
    coarse = replace(config.stages[0].scales[1], factorised=False)
    return _with_pyramids(
        _map_stages(
            config, lambda _, stage: replace(stage, scales=(stage.scales[0], coarse)) if stage.scales else stage
        )
    )


def _function(function: Function, *, coarse: Function | None = None) -> Change:
    """Sets another pyramid function, and for the ``coarse`` scale another one yet; an average is not factorised."""

    def changed(scale: Scale) -> Scale:
        if not scale.factorised:
            return replace(scale, function=function)
        return replace(scale, function=coarse or function, factorised=function == "full")

    return lambda config: _map_stages(
        _with_pyramids(config), lambda _, stage: replace(stage, scales=tuple(map(changed, stage.scales)))
    )


def _position(position: Position) -> Change:
    return lambda config: config.replace(position=position)


def _patch_of_4_frames(config: Config) -> Config:
    if config.clip[0] < 4:
        raise ValueError(f"patches of 4 frames take clips of 4 frames or more, not {config.clip[0]}")
    return _with_fine_scales(
        _map_stages(config, lambda number, stage: stage if number else replace(stage, patch=(4, *stage.patch[1:])))
    )


def _time_with_pyramids(pooled: int) -> Change:
    """Halves the frames as well in the patch merging of the stage ``pooled`` (from 1)."""

    def change(config: Config) -> Config:
        if config.map_sizes()[pooled - 2][0] < 2:
            raise ValueError(f"half the frames in stage {pooled} takes clips of more than {config.clip[0]}")
        return _with_fine_scales(
            _map_stages(
                config,
                lambda number, stage: replace(stage, patch=(2, *stage.patch[1:])) if number + 1 == pooled else stage,
            )
        )

    return change


def _with_fine_scales(config: Config) -> Config:
    """Makes fine grids of half the frames that the maps have now."""
    sizes = config.map_sizes()
    return _map_stages(
        config,
        lambda number, stage: replace(
            stage, scales=tuple(scale if scale.factorised else fine_scale(sizes[number]) for scale in stage.scales)
        ),
    )


_NOT_COUNTED = "Table 1 has no figures; those of Table 2 are of the layout of the public weights"
_EXACT = "keeps all weights of Twins-SVT to start from; the standard layout is DualFormer-T, -S and -B"
_TWO_AVERAGES = "averaged in both scales; with a depth-wise coarse scale, the next row, the printed parameters come out"
_DEFAULT = Published(gflops=240, parameters=21.8, top1=79.5, top5=94.1)


def _row(table: str, name: str, *published: Any, **settings: Any) -> Row:
    names = ("gflops", "parameters", "top1", "top5", "views")
    return Row(table=table, name=name, published=Published(**dict(zip(names, published, strict=False))), **settings)


ROWS: tuple[Row, ...] = (
    _row("1", "as printed", change=_as_printed, note=_NOT_COUNTED),
    _row("1", "as printed, S", change=_as_printed, model="dualformer_small"),
    _row("1", "as printed, B", change=_as_printed, model="dualformer_base"),
    _row("2", "DualFormer-T", 240, 21.8, 79.5, 94.1, model="dualformer_tiny"),
    _row("2", "DualFormer-S", 636, 48.9, 80.6, 94.9, model="dualformer_small"),
    _row("2", "DualFormer-B", 1072, 86.8, 81.1, 95.0, model="dualformer_base"),
    _row("2", "T, exact layout", change=_exact_layout, model="dualformer_tiny", note=_EXACT),
    _row("2", "S, exact layout", change=_exact_layout, model="dualformer_small"),
    _row("2", "B, exact layout", change=_exact_layout, model="dualformer_base"),
    _row("2", "B, IN-21K", 1072, 86.8, 82.9, 95.5, model="dualformer_base"),
    _row("2", "B, IN-21K, K600", 1072, 86.8, 85.2, 96.6, model="dualformer_base"),
    _row("4", "LL, LL, LL, LL", 244, 21.7, 78.4, 93.3, change=_kinds("LL", "LL", "LL", "LL")),
    _row("4", "GG, GG, GG, GG", 228, 21.8, 77.6, 93.2, change=_kinds("GG", "GG", "GG", "GG", pyramids=True)),
    _row("4", "LL, LL, LG, LG", 236, 21.7, 78.8, 93.5, change=_kinds("LL", "LL", "LG", "LG", pyramids=True)),
    _row("4", "LG, LG, LL, LL", 244, 21.8, 79.3, 94.0, change=_kinds("LG", "LG", "LL", "LL")),
    _row("4", "only (4,4,4)", 224, 21.8, 78.4, 93.4, change=_only_coarse),
    _row("4", "only (8,7,7)", 232, 21.8, 79.3, 93.9, change=_only_fine),
    Row(table="4", name="LG, LG, LG, LG", published=_DEFAULT, change=_kinds("LG", "LG", "LG", "LG")),
    _row("5", "16×4, (4,7,7)", 104, None, 78.0, 93.2, change=_window((4, 7, 7)), half_frames=True),
    _row("5", "16×4, (8,7,7)", 112, None, 78.4, 93.3, half_frames=True),
    _row("5", "32×2, (4,7,7)", 224, None, 79.1, 93.9, change=_window((4, 7, 7))),
    _row("5", "32×2, (8,7,7)", 240, None, 79.5, 94.1),
    _row("5", "32×2, (16,7,7)", 272, None, 79.7, 94.4, change=_window((16, 7, 7))),
    _row("5", "32×2, (8,14,14)", 324, None, 79.7, 94.5, change=_window((8, 14, 14))),
    _row("6", "AvgPool", 59, 21.8, 78.7, None, 1, change=_function("average"), note=_TWO_AVERAGES),
    _row("6", "AvgPool, fine", 59, 21.8, 78.7, None, 1, change=_function("average", coarse="depthwise")),
    _row("6", "Conv", 61, 27.6, 79.5, None, 1, change=_function("full")),
    _row("6", "DWConv", 60, 21.8, 79.5, None, 1),
    _row("7", "without PEG", None, None, 78.9, change=_position("none")),
    _row("7", "absolute", None, None, 79.2, change=_position("absolute")),
    _row("7", "relative", None, None, 79.3, change=_position("relative")),
    _row("7", "PEG", None, None, 79.5),
    _row("8", "1, 1, 1 (4,4,4)", 112, 21.8, 78.5, 93.3, change=_patch_of_4_frames),
    _row("8", "2, 1, 1", 136, 21.8, 78.7, 93.5, change=_time_with_pyramids(2)),
    _row("8", "1, 2, 1", 152, 21.9, 78.8, 93.5, change=_time_with_pyramids(3)),
    _row("8", "1, 1, 2", 216, 22.3, 79.2, 93.9, change=_time_with_pyramids(4)),
    Row(table="8", name="1, 1, 1", published=_DEFAULT),
)
"""Every row of the tables, in the paper's order; the rows of Table 1, those of the exact layout
and a second average in Table 6 are additions."""


def select(tables: Iterable[str] = (), names: Iterable[str] = (), *, model: str | None = None) -> list[Row]:
    """Selects rows of ``tables`` (default: all), of these those called ``names`` (default: all), with or without table.

    A given ``model`` leaves out the rows that are about another preset. Errors: ``ValueError`` for what there is not.
    """
    tables, names = list(tables), list(names)
    if unknown := sorted(set(tables) - set(TABLES)):
        raise ValueError(f"there is no table {', '.join(unknown)}; there are {', '.join(TABLES)}")
    rows = [row for row in ROWS if not tables or row.table in tables]
    for name in names:
        if not any(name in _names(row) for row in rows):
            raise ValueError(f"there is no row {name!r}; there are {', '.join(row.key for row in rows)}")
    rows = [row for row in rows if not names or any(name in _names(row) for name in names)]
    rows = [row for row in rows if model is None or row.model in (None, model)]
    if not rows:
        raise ValueError(f"these rows are about presets of their own, not about {model}: leave out `model`")
    return rows


def _names(row: Row) -> tuple[str, str]:
    return row.key, row.key.partition("/")[2]


def effective(config: Config) -> Config:
    """Returns ``config`` without what has no effect at its clip: configs that are equal then compute the same.

    Windows and grids are never larger than the maps, and settings of halves that a stage does not have are dropped.
    """
    sizes = config.map_sizes()

    def fitted(number: int, stage: Stage) -> Stage:
        size = sizes[number]
        window = fitted_window(size, stage.window) if "L" in stage.kinds else (1, 1, 1)
        scales = stage.scales if "G" in stage.kinds else ()
        clipped = (replace(scale, grid=tuple(map(min, scale.grid, size))) for scale in scales)
        return replace(stage, window=window, scales=tuple(clipped))

    return _map_stages(config, fitted)


@dataclass(frozen=True, kw_only=True)
class RowCost:
    """A row of the paper's tables as a network, and what it costs."""

    row: Row
    model: str
    """The preset that the row changes, or is."""
    config: Config | None = None
    cost: Cost | None = None
    problem: str = ""
    """Why there is no config: what the row needs and the clip or the preset has not."""
    same_as: Row | None = None
    """An earlier row of the table that is the same network at this clip."""
    as_published: bool = False
    """Whether it is the network that the paper's figures are of."""

    @property
    def gflops(self) -> int | None:
        """GFLOPs as the paper counts them: those of a view, rounded to 10⁹ multiply-adds, times the views."""
        return round(self.cost.macs / 1e9) * self.row.published.views if self.cost else None

    @property
    def parameters(self) -> float | None:
        """Millions, without the classifier."""
        return (self.cost.parameters - self.cost.classifier) / 1e6 if self.cost else None

    @property
    def agrees(self) -> dict[str, bool]:
        """Whether each published cost of the paper's network comes out to the printed digit."""
        if not self.as_published or self.parameters is None:
            return {}
        published, agrees = self.row.published, {}
        if published.gflops is not None:
            agrees["gflops"] = published.gflops == self.gflops
        if published.parameters is not None:
            agrees["parameters"] = f"{published.parameters:.1f}" == f"{self.parameters:.1f}"
        return agrees


def compute_costs(rows: Sequence[Row], *, model: str | None = None, clip: Size3 | None = None) -> list[RowCost]:
    """Computes what ``rows`` cost as changes of ``model`` (default: the paper's preset) at ``clip`` (default: its own).

    Errors: ``ValueError`` for an unknown preset.
    """
    preset_config(model or PAPERS_MODEL, clip=clip)
    first: dict[tuple[str, Config], Row] = {}
    computed: list[RowCost] = []
    for row in rows:
        name = row.model or model or PAPERS_MODEL
        try:
            config = row.config(model, clip)
        except ValueError as error:
            computed.append(RowCost(row=row, model=name, problem=str(error)))
            continue
        same_as = first.setdefault((row.table, effective(config)), row)
        computed.append(
            RowCost(
                row=row,
                model=name,
                config=config,
                cost=measure_cost(config),
                same_as=None if same_as is row else same_as,
                as_published=name == (row.model or PAPERS_MODEL) and clip in (None, PAPERS_CLIP),
            )
        )
    return computed
