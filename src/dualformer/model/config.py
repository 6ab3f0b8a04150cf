"""What a network is made of: one frozen config, from which every variant of the paper is a setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Size3 = tuple[int, int, int]
"""Frames, height, width."""


Function = Literal["depthwise", "full", "average"]
Position = Literal["peg", "absolute", "relative", "none"]
Embedding = Literal["patches", "convolutions"]
Convolution = Literal["full", "depthwise"]
Head = Literal["pooled", "temporal"]

#: Settings of a stage and of the whole that networks of version 1 lack, with the value that they stand for there.
_LATER_SETTINGS = {"embedding": "patches", "convolution": "full", "norm_eps": 1e-5, "head": "pooled"}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One scale of a global pyramid (section 3.2): the map is pooled to ``grid`` priors."""

    grid: Size3
    """Cells along time, height and width; a map of fewer tokens has as many cells as tokens. Where the grid does not
    divide the map, the map is pooled adaptively."""
    factorised: bool = False
    """Pool space first, then what is left, with BatchNorm and ReLU between, instead of with one convolution."""
    function: Function = "depthwise"
    """What makes a prior of a cell (Table 6): a depth-wise or a full convolution, or the average."""

    def __post_init__(self) -> None:
        _positive("grid", self.grid)
        _one_of("function", self.function, Function)
        if self.factorised and self.function == "average":
            raise ValueError("an average is not factorised: set factorised=False, or another function")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of the stages of Table 1."""

    channels: int
    depth: int
    """Blocks; each has two halves, or one."""
    patch: Size3
    """Kernel and stride of the patch embedding (first stage) or patch merging (later ones)."""
    embedding: Embedding = "patches"
    """What makes tokens: patches that do not overlap, as in the paper, or a stem of strided convolutions."""
    kinds: str = "LG"
    """A block's halves, two as in the paper or one alone: attention within local windows (L) or over the global pyramid
    (G), or convolution (C)."""
    convolution: Convolution = "full"
    """What a C half is made of: full convolutions as in ResNet, or depth-wise ones as in MobileNetV2."""
    window: Size3 = (8, 7, 7)
    """Tokens of an LW-MSA window; it shrinks to maps that are smaller."""
    scales: tuple[Scale, ...] = ()
    """Scales of the GP-MSA pyramid; none means that every token attends to all tokens."""

    def __post_init__(self) -> None:
        _positive("channels and depth", (self.channels, self.depth))
        _positive("patch", self.patch)
        _positive("window", self.window)
        _one_of("embedding", self.embedding, Embedding)
        if self.embedding == "convolutions" and self.channels == 1:
            raise ValueError("a stem of convolutions has three quarters of its stage's channels at first: 1 is too few")
        _one_of("convolution", self.convolution, Convolution)
        if len(self.kinds) not in (1, 2) or set(self.kinds) - set("LGC"):
            raise ValueError(
                f"kinds must be one or two of L, G and C, a letter for each half of a block, not {self.kinds!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole network. Equal configs give networks whose weights are interchangeable."""

    stages: tuple[Stage, ...]
    clip: Size3
    """Frames, height and width of the clips that the pyramid's kernels are cut for."""
    num_classes: int = 400
    """Width of the classifier; 0 leaves it out and the network returns pooled features."""
    head_dim: int = 32
    mlp_ratio: int = 4
    position: Position = "peg"
    """Where tokens learn their place from (Table 7): the paper's PEG, absolute tables added to each stage's tokens, a
    bias by relative place within windows, or nowhere."""
    drop_path: float = 0.0
    """Stochastic depth of the last half; it grows linearly from 0 at the first."""
    dropout: float = 0.5
    """On the pooled features, before the classifier."""
    norm_eps: float = 1e-5
    """Epsilon of the LayerNorms of blocks and after the last stage; those of embeddings and pyramids have 1e-5."""
    head: Head = "pooled"
    """What the classifier reads: the last map, pooled over space and time as in the paper, or each of its time steps
    with what a pyramid in time adds; then the logits of a clip are the mean of its steps'."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a network needs at least one stage")
        _positive("clip", self.clip)
        _positive("head_dim and mlp_ratio", (self.head_dim, self.mlp_ratio))
        _one_of("position", self.position, Position)
        _one_of("head", self.head, Head)
        if self.head == "temporal" and self.clip[0] == 1:
            raise ValueError("head='temporal' tells moments apart, and one frame has none: choose head='pooled'")
        if self.num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {self.num_classes}")
        for rate in ("drop_path", "dropout"):
            if not 0 <= getattr(self, rate) < 1:
                raise ValueError(f"{rate} must be at least 0 and below 1, not {getattr(self, rate)}")
        if not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps must be above 0 and below 1, not {self.norm_eps}")
        for number, stage in enumerate(self.stages, 1):
            if stage.channels % self.head_dim:
                raise ValueError(
                    f"stage {number}: {stage.channels} channels do not divide into heads of {self.head_dim}; "
                    f"choose a multiple of {self.head_dim} or another head_dim"
                )
            if self.position == "relative" and "L" not in stage.kinds:
                raise ValueError(
                    f"stage {number}: position='relative' is a bias within windows, and kinds={stage.kinds!r} has "
                    "none; choose kinds with an L, or another position"
                )

    def map_sizes(self, clip: Size3 | None = None) -> tuple[Size3, ...]:
        """Size T H W of every stage's token map for ``clip`` (default: the config's own)."""
        size, sizes = clip or self.clip, []
        for stage in self.stages:
            size = ceil_div(size, stage.patch)
            sizes.append(size)
        return tuple(sizes)

    def time_steps(self, clip: Size3 | None = None) -> int:
        """How many steps in time `DualFormer.step_scores` answers for ``clip`` (default: the config's own)."""
        sizes = self.map_sizes(clip)
        return max(t for t, _, _ in sizes) if self.head == "temporal" else sizes[-1][0]

    def replace(self, **changes: Any) -> Config:
        """A copy with fields changed; an unknown field is an error."""
        try:
            return dataclasses.replace(self, **changes)
        except TypeError as error:
            known = ", ".join(field.name for field in dataclasses.fields(self))
            unknown = ", ".join(sorted(set(changes) - {field.name for field in dataclasses.fields(self)}))
            raise ValueError(f"unknown setting {unknown}; a config has {known}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON. Settings that came later are left out where they change nothing."""
        data = dataclasses.asdict(self)

        def needed(settings: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in settings.items() if _LATER_SETTINGS.get(name) != value}

        return needed(data | {"stages": [needed(stage) for stage in data["stages"]]})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Config:
        """The inverse of `to_dict`; a missing or unknown key is a ``ValueError`` that names it."""
        stages = tuple(
            _build(
                Stage,
                stage | {"scales": tuple(_build(Scale, scale) for scale in stage.get("scales", ()))},
            )
            for stage in map(dict, data.get("stages", ()))
        )
        return _build(cls, dict(data) | {"stages": stages})


def ceil_div(size: Size3, by: Size3) -> Size3:
    """How many cells of ``by`` cover ``size``, per axis."""
    t, h, w = (-(-length // step) for length, step in zip(size, by, strict=True))
    return t, h, w


def parse_clip(text: str) -> Size3:
    """``32x224x224`` (frames × height × width) as numbers."""
    try:
        t, h, w = (int(part) for part in text.split("x"))
    except ValueError:
        raise ValueError(f"a clip is written frames x height x width, as in 32x224x224, not {text!r}") from None
    return t, h, w


def _positive(what: str, values: tuple[int, ...]) -> None:
    if any(not isinstance(value, int) or value < 1 for value in values):
        raise ValueError(f"{what} must be whole numbers of at least 1, not {values}")


def _one_of(what: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{what} must be one of {', '.join(get_args(choices))}, not {value!r}")


def _build(kind: Any, data: Mapping[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(kind)}
    if wrong := sorted(set(data) - names):
        raise ValueError(f"unknown {kind.__name__.lower()} setting {', '.join(wrong)}")
    needed = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := sorted(needed - set(data)):
        raise ValueError(f"{kind.__name__.lower()} lacks {', '.join(missing)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
