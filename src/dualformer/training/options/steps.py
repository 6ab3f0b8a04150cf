"""How the weights are changed: batches, learning rates, schedule."""

from __future__ import annotations

from dataclasses import dataclass

from dualformer.training.options.checks import between, more_than_zero, not_negative


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Steps of a run."""

    epochs: int = 30
    batch_size: int = 16
    accumulate: int = 1
    """Batches whose gradients are added before a step."""
    lr: float = 1e-3
    """Peak learning rate of the classifier at the paper's batch of 64, and of everything when starting at random; it is
    not scaled with the batch."""
    backbone_lr: float | None = None
    """Factor on the learning rate for all but the classifier (default: 0.1, as in the paper, when starting from
    weights, else 1)."""
    layer_decay: float = 1.0
    """Factor on the learning rate from each block to the one before it; 1 leaves all blocks at one rate, 0.75 is usual
    for fine-tuning."""
    weight_decay: float = 0.02
    warmup_epochs: float | None = None
    """Epochs of linear warm-up before the cosine (default: a twelfth of the run, as in the paper)."""
    clip_grad: float = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    seed: int = 0

    def check_steps(self) -> None:
        more_than_zero(self, "epochs", "batch_size", "accumulate", "lr", "backbone_lr")
        not_negative(self, "weight_decay", "warmup_epochs", "clip_grad")
        between(self, "layer_decay", low=0.01, high=1.01)
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"--warmup-epochs {self.warmup_epochs} leaves nothing of --epochs {self.epochs}")
