"""Settings of the optimizer: batches, learning rates, schedule."""

from dataclasses import dataclass
from typing import Literal

from dualformer.training.settings.checks import less_than_one, more_than_zero, not_negative, up_to_one

PAPER_BATCH = 64
"""Clips of a step in the paper's recipes."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Steps of a run."""

    epochs: int | None = None
    """Times that the training clips are gone through (default: proposed for the data)."""
    batch_size: int | None = None
    """Clips of a batch on each device (default: proposed for the data)."""
    accumulate: int = 1
    """Batches whose gradients are added before a step: 4 batches of 2 clips are one of 8, but for dropout and for
    BatchNorm's statistics."""
    lr: float | None = None
    """Peak learning rate of the classifier, and of everything when starting at random (default: proposed; the paper's
    is 1e-3, at 64 clips a step)."""
    scale_lr: Literal["off", "linear", "sqrt"] = "off"
    """Multiply `lr` by the clips of a step over 64, on all devices together, or by the square root of that."""
    backbone_lr: float | None = None
    """Factor on the learning rate for all but the classifier (default: when starting from weights 0.1, as in
    the paper, but of the rendered ones 1; else 1)."""
    layer_decay: float = 1.0
    """Factor on the learning rate from each block to the one before it; 1 leaves all blocks at one rate, 0.75 is usual
    for fine-tuning."""
    weight_decay: float = 0.02
    """AdamW's, of weights of matrices and convolutions."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up before the cosine (default: a twelfth of the run, as in the paper)."""
    clip_grad: float = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    ema: float | None = None
    """Keep an average of the weights besides, and judge it beside them: after step s (from 0) it moves towards them by
    1 - min(this, (1 + s) / (10 + s)). 0.999 is usual; a run should have several times 1 / (1 - this) steps."""
    seed: int = 0
    """Of new weights, of the order of clips, of their augmentation and of a split: the same seed gives the same run."""

    def check_steps(self) -> None:
        more_than_zero(self, "epochs", "batch_size", "accumulate", "lr", "backbone_lr")
        not_negative(self, "weight_decay", "warmup_epochs", "clip_grad")
        up_to_one(self, "layer_decay", low=0.01)
        less_than_one(self, "ema")
        if self.epochs is not None and self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"`warmup_epochs={self.warmup_epochs}` leaves nothing of `epochs={self.epochs}`")

    def lr_factor(self, clips: int) -> float:
        """What `scale_lr` makes of the rate where a step takes ``clips`` clips on all devices together."""
        return {"off": 1.0, "linear": clips / PAPER_BATCH, "sqrt": (clips / PAPER_BATCH) ** 0.5}[self.scale_lr]
