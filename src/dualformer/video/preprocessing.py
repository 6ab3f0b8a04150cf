"""The settings that turn frames into the model's input.

A :class:`Preprocessing` is stored inside the weights as JSON, so that training, evaluation, prediction, streaming and
every export read the same numbers and run the same functions on them.
"""

from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, Literal, get_args

KINETICS_MEAN = (123.675, 116.28, 103.53)
KINETICS_STD = (58.395, 57.12, 57.375)
TRANSFER_MEAN = (104.0, 117.0, 128.0)
TRANSFER_STD = (1.0, 1.0, 1.0)
CropMode = Literal["center", "pad"]
Sampling = Literal["stride", "segments"]
Placement = Literal["ends", "middles"]
ShortVideo = Literal["repeat", "loop"]
DEFAULT_VIEWS = "4x1"
"""Clips x crops of each video."""


#: Fields that older cards do not have, with what they may be, the usual first.
_LATER: dict[str, tuple[str | bool, ...]] = {
    "sampling": get_args(Sampling),
    "crop_mode": get_args(CropMode),
    "placement": get_args(Placement),
    "short_video": get_args(ShortVideo),
    "antialias": (True, False),
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Clip length and spacing, size and normalisation of the model's input.

    Raises ``ValueError`` where a value is out of range.
    """

    frames: int
    """T, the frames of a clip."""
    stride: int = 1
    """Frames of the file between two frames of a clip; with ``fps`` set, ticks of a clock that runs at ``fps``."""
    fps: float | None = None
    """Resample to this rate in time before the stride; None: the stride counts the file's own frames."""
    resize: int
    """Short side in pixels that a test view is cut from; with padding, the long side."""
    crop: int
    """Side in pixels of the model's square input."""
    mean: tuple[float, float, float]
    """Subtracted from R, G, B on the scale 0..255."""
    std: tuple[float, float, float]
    """R, G, B are divided by this after the mean is subtracted."""
    sampling: Sampling = "stride"
    """Where frames lie in a video: ``stride`` apart, or with "segments" one in each of T equal parts of a video that
    lasts at most twice as long as a clip; longer videos, timelines and streams have clips by ``stride`` even so."""
    crop_mode: CropMode = "center"
    """Squares of the picture's middle, or with "pad" all of the picture, and the mean colour around it."""
    placement: Placement = "ends"
    """Where n test clips lie: from the first place to the last, or in the "middles" of n equal segments."""
    short_video: ShortVideo = "repeat"
    """What fills a clip that is longer than its video: the last frame again and again, or the video from its start."""
    antialias: bool = True
    """Whether pictures are smoothed as they are made smaller; both ways are bilinear."""

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "resize", "crop"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"preprocessing {name} must be a whole number of at least 1, not {value!r}")
        for name, choices in _LATER.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"preprocessing {name} must be {' or '.join(map(str, choices))}, not {getattr(self, name)!r}"
                )
        if self.crop > self.resize:
            raise ValueError(f"preprocessing crop {self.crop} does not fit into resize {self.resize}: raise resize")
        if self.fps is not None and not (isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"preprocessing fps must be positive or None, not {self.fps!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != 3 or not all(isfinite(v) for v in values):
                raise ValueError(f"preprocessing {name} must be three finite numbers (R, G, B), not {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"preprocessing std must be positive, not {self.std!r}")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers and lists, ready for JSON; without those of `_LATER` that are the usual."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name][0]}

    def describe(self) -> str:
        """Returns the clip, its size and how it is cut, in words for people."""
        frames = f"{self.frames} frame{'s' if self.frames > 1 else ''}"
        if self.frames > 1 and self.fps:
            frames += f", {self.fps / self.stride:.3g} a second"
        elif self.frames > 1:
            frames += " in a row" if self.stride == 1 else f", one in {self.stride}"
        if self.sampling == "segments":
            frames += ", spread over videos of up to twice that"
        if self.placement == "middles":
            frames += ", clips in the middles of equal segments"
        if self.short_video == "loop":
            frames += ", short videos looped"
        if not self.antialias:
            frames += ", resized without antialiasing"
        if self.crop_mode == "pad":
            return f"{frames}, long side {self.resize}, padded to a square, crop {self.crop}"
        return f"{frames}, short side {self.resize}, crop {self.crop}"

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "Preprocessing":
        """Reads what :meth:`to_dict` returns. Raises ``ValueError`` for a missing or unknown key."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(d) - known):
            raise ValueError(f"unknown preprocessing keys: {', '.join(unknown)} (known: {', '.join(sorted(known))})")
        if missing := sorted(known - set(d) - set(_LATER)):
            raise ValueError(f"missing preprocessing keys: {', '.join(missing)}")
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in d.items()}
        return cls(**values)


def kinetics(frames: int = 32, stride: int = 2, size: int = 224) -> Preprocessing:
    """Returns the preprocessing of the Kinetics models: ImageNet mean and standard deviation."""
    return Preprocessing(frames=frames, stride=stride, resize=size, crop=size, mean=KINETICS_MEAN, std=KINETICS_STD)


def transfer(frames: int = 32, stride: int = 4, size: int = 224) -> Preprocessing:
    """Returns that of the released Diving-48, HMDB-51 and UCF-101 models: mean (104, 117, 128), no scaling, RGB."""
    return Preprocessing(frames=frames, stride=stride, resize=size, crop=size, mean=TRANSFER_MEAN, std=TRANSFER_STD)
