"""Settings of the network: which one, from which weights, on which clips."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from dualformer.model.config import Head
from dualformer.training.settings.checks import less_than_one, more_than_zero, not_negative
from dualformer.video.preprocessing import CropMode, Sampling
from dualformer.weights.locate import SHIPPED

RANDOM = "random"
"""What ``start`` calls weights that are drawn."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Network of a run."""

    model: str | None = None
    """Preset: dualformer_nano, _nano_conv, _tiny, _small or _base (default: that of `start`; of random weights nano,
    for few videos nano_conv)."""
    start: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Weights to start from: a file, a hub id, or "rendered" (dualformer_nano_conv, or with `model` dualformer_nano;
    trained on rendered videos, they come with the package). Default: rendered for few videos, else random."""
    layout: Literal["exact", "standard"] | None = None
    """Of Twins-SVT weights to start from, as timm/twins_svt_small.in1k: exact keeps the full convolutions of their
    pyramid, standard is the preset's pyramid, made anew (default: exact; standard where `model` names a preset)."""
    head: Head | None = None
    """Answer once for a clip (pooled), or at every moment of it (temporal), which learns from files of segments
    (default: pooled)."""
    frames: int | None = None
    """Frames of a clip (default: the starting weights', else 16 for nano and 32 for the others)."""
    stride: int | None = None
    """Frames of the video from one frame of the clip to the next (default: of random and rendered weights, and of
    those of images, 1 where `fps` is said, else what fits the videos' lengths, with `fps`; of others theirs)."""
    fps: float | None = None
    """Count the stride in frames of a video resampled to this rate, instead of in the file's own frames (default: where
    `stride` is open and the weights are those named there, what fits the videos' lengths; else theirs)."""
    size: int | None = None
    """Side of the model's square input in pixels (default: the starting weights'; of random weights 112 for nano
    and 224 for the others)."""
    sampling: Sampling | None = None
    """Where a clip's frames lie: by the stride (stride), or one in each of as many equal parts of a video that lasts at
    most twice as long as a clip (segments) (default: of random and rendered weights segments where videos last about
    as long as one another and neither `fps` nor `stride` is said, else stride; of others theirs)."""
    crop_mode: CropMode | None = None
    """What the square input shows: the middle of the picture (center), or all of it, padded with the mean colour (pad)
    (default: the starting weights', else center; of few videos pad where squares would leave much out)."""
    drop_path: float | None = None
    """Stochastic depth: how often the last sub-block is left out in training (default: 0.1, of few videos none)."""
    dropout: float | None = None
    """Of the features before the classifier (default: the paper's 0.5, of few videos none)."""
    grad_checkpointing: bool = False
    """Keep less of the forward pass and compute it again for the gradients: much less memory, more time."""
    freeze: Literal["nothing", "backbone"] = "nothing"
    """Backbone trains the classifier alone, on features that stay as they are: a linear probe."""
    freeze_stages: int = 0
    """Leave this many of the first stages as they are."""

    def check_network(self) -> None:
        more_than_zero(self, "frames", "stride", "fps", "size")
        not_negative(self, "freeze_stages")
        if self.freeze == "backbone" and self.freeze_stages:
            raise ValueError("`freeze=backbone` freezes every stage: leave `freeze_stages` out")
        less_than_one(self, "drop_path", "dropout")
        if self.start in SHIPPED and (why := self.why_not_shipped()):
            raise ValueError(f"`start={self.start}`: {why}; leave it out, or say `start=random`")

    def why_not_shipped(self) -> str | None:
        """Returns why the weights that come with the package cannot start this network; None where they can."""
        of = ("dualformer_nano",) if self.start == "rendered-nano" else ("dualformer_nano", "dualformer_nano_conv")
        if self.model not in (None, *of):
            return f"no weights of {self.model} come with the package{' by this name' if self.start else ''}"
        if self.frames == 1:
            return "the weights that come with the package are of videos"
        return None
