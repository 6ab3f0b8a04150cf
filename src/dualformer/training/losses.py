"""How far a network's scores of a clip are from its labels: one class a clip, parts of several, or several at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClipLoss(nn.Module):
    """Cross-entropy, or with ``multi_label`` binary cross-entropy of every class for itself, the mean over classes.

    ``label_smoothing`` s of the target goes to all classes evenly; with ``multi_label`` s/2 to yes and s/2 to no.

    ``class_weights`` (classes,), all more than 0. For cross-entropy a clip counts by its class's weight, a mixed one by
    the weights of its parts, and the loss is the sum over the batch divided by what its clips weigh. For whole labels
    that is PyTorch's weighted mean; where targets are parts, PyTorch divides by the number of clips, so that a batch
    would count by what is in it. With ``multi_label`` they multiply the loss of a clip that has the class
    (``pos_weight``), and clips count alike.

    Errors: ``ValueError`` for weights or smoothing out of range.
    """

    def __init__(
        self,
        *,
        classes: int,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label smoothing is a share from 0 to below 1, not {label_smoothing}")
        if class_weights is not None:
            if class_weights.shape != (classes,):
                raise ValueError(f"{classes} classes need as many weights, not {tuple(class_weights.shape)}")
            if not (class_weights.isfinite().all() and (class_weights > 0).all()):
                raise ValueError("class weights must be numbers more than 0")
        self.classes, self.label_smoothing, self.multi_label = classes, label_smoothing, multi_label
        self.class_weights: Tensor | None
        # Known from the settings, so that no checkpoint need hold them.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``logits`` B C; ``target`` B int64, or B C float: parts of each class, or with ``multi_label`` 0, 1 or (of
        mixed clips) anything between. Returns the mean over the batch, a scalar.

        Errors: ``ValueError`` for other shapes.
        """
        if logits.dim() != 2 or logits.shape[1] != self.classes or target.shape not in self._shapes(logits):
            raise ValueError(
                f"logits {tuple(logits.shape)} and targets {tuple(target.shape)} do not fit {self.classes} classes"
            )
        if self.multi_label:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.class_weights)
        weights = self.clip_weights(target)
        if weights is None:
            return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        total = F.cross_entropy(
            logits, target, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / weights.sum()

    def clip_weights(self, target: Tensor) -> Tensor | None:
        """What each clip of a batch counts for, B; None where all count alike."""
        if self.class_weights is None or self.multi_label:
            return None
        return self.class_weights[target] if target.dim() == 1 else target @ self.class_weights

    def _shapes(self, logits: Tensor) -> tuple[torch.Size, ...]:
        return (logits.shape,) if self.multi_label else (logits.shape, logits.shape[:1])


def mean_over_clips(losses: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of a loss for each clip, B, by what the clips count for, B (None: all alike)."""
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()
