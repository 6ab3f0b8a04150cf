"""What a training step makes smaller: a model and its loss as one module, so that every strategy can wrap it whole."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

Batch = dict[str, Tensor]
"""``clip`` B T H W 3 uint8 and ``label`` B; mixed clips have a ``target`` B classes besides, parts whose sum is 1;
rendered clips bring their truth as well."""


class Step(NamedTuple):
    """What a batch gave: the loss to differentiate, the logits B classes, the parts of the loss by name."""

    loss: Tensor
    logits: Tensor
    parts: dict[str, Tensor]


class ClipObjective(nn.Module):
    """Cross-entropy on the clip's class, or on its parts of several. ``label_smoothing`` of it goes to all classes."""

    def __init__(self, model: DualFormer, preprocessing: Preprocessing, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.label_smoothing = label_smoothing
        self.extra: nn.Module | None = None

    def forward(self, batch: Batch) -> Step:
        logits = self.model(normalize(batch["clip"], self.preprocessing)).float()
        return Step(self.classification_loss(logits, batch), logits, {})

    def classification_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        target = batch.get("target", batch["label"])
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)


class MotionObjective(ClipObjective):
    """Cross-entropy on the class, plus what the renderer knows: what moves where, at every token of the last stage.

    A linear layer reads from each token, for each of its 2 × 2 quarters, how much of it the actor covers and the
    actor's velocity there. The squared error is divided by the targets' variance, so 1 is what a constant gives.
    """

    QUARTERS = 2
    TARGETS = 3

    def __init__(
        self, model: DualFormer, preprocessing: Preprocessing, *, label_smoothing: float = 0.0, weight: float = 1.0
    ) -> None:
        super().__init__(model, preprocessing, label_smoothing=label_smoothing)
        self.weight = weight
        self.extra = nn.Linear(model.num_features, self.QUARTERS**2 * self.TARGETS)
        nn.init.zeros_(self.extra.weight)  # the loss starts at 1, whatever the features
        nn.init.zeros_(self.extra.bias)

    def forward(self, batch: Batch) -> Step:
        features = self.model.forward_features(normalize(batch["clip"], self.preprocessing))
        logits = self.model.forward_head(features).float()
        clip_loss = self.classification_loss(logits, batch)
        assert self.extra is not None
        motion = self.extra(features.permute(0, 2, 3, 4, 1)).float()
        target = motion_targets(batch["moving"], batch["velocity"], features.shape[2:], self.QUARTERS)
        motion_loss = F.mse_loss(motion, target) / target.var().clamp_min(1e-6)
        return Step(clip_loss + self.weight * motion_loss, logits, {"clip": clip_loss, "motion": motion_loss})


def motion_targets(moving: Tensor, velocity: Tensor, tokens: torch.Size, quarters: int) -> Tensor:
    """``moving`` B T h w, ``velocity`` B T h w 2 (pixels per frame) → B T' H' W' (quarters² · 3), T' H' W' of tokens.

    Averages over each quarter of a token: what part of it the actor covers, and that part's velocity divided by 3.
    """
    t, h, w = tokens
    cells = torch.cat([moving[..., None], velocity * moving[..., None] / 3], dim=-1).permute(0, 4, 1, 2, 3)
    pooled = F.adaptive_avg_pool3d(cells, (t, h * quarters, w * quarters))
    return pooled.unflatten(4, (w, quarters)).unflatten(3, (h, quarters)).permute(0, 2, 3, 5, 4, 6, 1).flatten(4)
