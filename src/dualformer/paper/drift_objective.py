"""The objective of the local × global bench: the class, and what drifts where, so that learning takes minutes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Size3
from dualformer.model.network import DualFormer
from dualformer.training.objective import Batch, ClipObjective, ObjectiveOutput
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

_CELL = 16
"""Side in pixels of what the truth is averaged over, and two frames."""


class DriftReader(nn.Module):
    """Reads from features B C T' H' W' which way cue and gesture drift in every place; its loss is the squared error.

    A place has 16 × 16 pixels and two frames. A token that covers several of them has a reading for each; of several
    tokens in one place the mean is read. The squared error is divided by the targets' variance, of cue and of gesture
    each by its own, so that 1 is what a constant gives, and the small gesture counts as much as the large cue.
    """

    def __init__(self, channels: int, *, clip: Size3, tokens: int) -> None:
        """``tokens``: H' and W'. Errors: ``ValueError`` where tokens and places do not divide one another."""
        super().__init__()
        places = clip[1] // _CELL
        if max(places, tokens) % min(places, tokens):
            raise ValueError(f"{tokens} tokens a side do not divide into {places} places, or the other way round")
        self.size = (clip[0] // 2, min(places, tokens), min(places, tokens))
        self.parts = max(1, places // tokens)
        self.layer = nn.Linear(channels, self.parts**2 * 2)
        nn.init.zeros_(self.layer.weight)  # the loss starts at 1, whatever the features
        nn.init.zeros_(self.layer.bias)

    def forward(self, features: Tensor, drifts: Tensor) -> Tensor:
        """Returns the loss for features B C T' H' W' and the truth B T h w 2."""
        tokens = F.adaptive_avg_pool3d(features, self.size).permute(0, 2, 3, 4, 1)
        predicted = self.layer(tokens).float().unflatten(-1, (self.parts, self.parts, 2))
        t, h, w = self.size
        target = F.adaptive_avg_pool3d(drifts.permute(0, 4, 1, 2, 3), (t, h * self.parts, w * self.parts))
        target = target.unflatten(4, (w, self.parts)).unflatten(3, (h, self.parts)).permute(0, 2, 3, 5, 4, 6, 1)
        squared = (predicted - target).square().flatten(0, -2).mean(0)
        return (squared / target.flatten(0, -2).var(0).clamp_min(1e-6)).mean()


class DriftObjective(ClipObjective):
    """Cross-entropy on the class, plus ``weight`` times the loss of a `DriftReader` on the last stage's features."""

    clip_extra = False

    def __init__(self, model: DualFormer, preprocessing: Preprocessing, *, weight: float = 1.0) -> None:
        super().__init__(model, preprocessing)
        self.weight = weight
        clip = (preprocessing.frames, preprocessing.crop, preprocessing.crop)
        tokens = model.config.map_sizes(clip)[-1][1]
        self.extra = DriftReader(model.num_features, clip=clip, tokens=tokens)

    def forward(self, batch: Batch) -> ObjectiveOutput:
        features = self.model.forward_features(normalize(batch["clip"], self.preprocessing))
        logits = self.model.forward_head(features).float()
        clip_loss = self.classification_loss(logits, batch)
        assert self.extra is not None
        with torch.autocast(features.device.type, enabled=False):
            drift_loss = self.extra(features.float(), batch["drifts"])
        return ObjectiveOutput(clip_loss + self.weight * drift_loss, logits, {"clip": clip_loss, "drifts": drift_loss})
