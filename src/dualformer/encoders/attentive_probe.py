"""An attentive probe: reads classes off the frozen features of a clip, and is trained in minutes.

A learned query looks at all tokens of a clip by attention of several heads; a linear layer reads the classes off what
it saw. As nothing of a token is projected but what the query asks for, a step costs little more than reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.encoders.feature_store import StoredFeatures
from dualformer.model.config import Size3

_BATCH, _EPOCHS, _STEPS = 32, 20, 400
"""Clips of a step; epochs at least; steps at least."""
_LR, _WEIGHT_DECAY, _WARMUP = 3e-3, 0.05, 0.05
_HEAD = 64
_IN_MEMORY = 512 * 2**20
"""Bytes of features up to which they are kept in memory while a probe is trained; more are read batch by batch."""


@dataclass(frozen=True, kw_only=True)
class LabelledFeatures:
    """The features of a video and its class."""

    features: StoredFeatures
    label: int


class ProbeOutput(NamedTuple):
    """What a probe says of clips: logits n classes, and what its query saw, n D."""

    logits: Tensor
    pooled: Tensor


class AttentiveProbe(nn.Module):
    """Features B t h w D → logits B classes and pooled features B D.

    Tokens are normalised (LayerNorm), and each time and place gets a learned vector added, as encoders of single images
    know nothing of time. ``heads``: by default one for every 64 features.
    """

    def __init__(self, width: int, num_classes: int, *, grid: Size3, heads: int | None = None) -> None:
        super().__init__()
        heads = heads or max(1, width // _HEAD)
        heads = next(count for count in range(heads, 0, -1) if width % count == 0)
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        t, h, w = grid
        self.time = nn.Parameter(torch.zeros(t, 1, 1, width))
        self.place = nn.Parameter(torch.zeros(1, h, w, width))
        self.query = nn.Parameter(torch.empty(width))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.head = nn.Linear(width, num_classes)
        for vectors, std in ((self.time, 0.1), (self.place, 0.1), (self.query, 1.0)):
            nn.init.normal_(vectors, std=std)

    def forward(self, features: Tensor) -> ProbeOutput:
        """B t h w D."""
        tokens = (self.norm(features) + self.time + self.place).flatten(1, 3)  # B n D
        each = len(self.query) // self.heads
        query = self.query.unflatten(0, (self.heads, each))
        # The query meets keys (heads, each, D) · token as (query · key) · token: one vector of D for each head.
        asked = torch.einsum("he,hed->hd", query, self.key.weight.unflatten(0, (self.heads, each)))
        attention = (tokens @ asked.T / math.sqrt(each)).softmax(dim=1)  # B n heads
        seen = torch.einsum("bnh,bnd->bhd", attention, tokens)
        values = torch.einsum("bhd,hed->bhe", seen, self.value.weight.unflatten(0, (self.heads, each)))
        pooled = self.out(values.flatten(1) + self.value.bias)
        return ProbeOutput(self.head(pooled), pooled)


def train_probe(
    videos: Sequence[LabelledFeatures],
    *,
    width: int,
    grid: Size3,
    clips: int,
    num_classes: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> AttentiveProbe:
    """Trains a probe on all clips of ``videos``: AdamW, cosine, the same probe for the same seed. It ends in eval mode.

    Features are read from disk, batch by batch where they are many. Errors: ``DatasetError``.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = AttentiveProbe(width, num_classes, grid=grid).to(device).train()
    decayed = [parameter for parameter in probe.parameters() if parameter.dim() == 2]
    others = [parameter for parameter in probe.parameters() if parameter.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}], lr=_LR
    )
    count = len(videos) * clips
    read = _reader(videos, small=count * math.prod(grid) * width * 2 <= _IN_MEMORY)
    batches = math.ceil(count / _BATCH)
    epochs = max(_EPOCHS, math.ceil(_STEPS / batches))
    generator = torch.Generator().manual_seed(seed)
    step, steps = 0, epochs * batches
    for _ in range(epochs):
        for chosen in torch.randperm(count, generator=generator).split(_BATCH):
            pairs = [divmod(number, clips) for number in chosen.tolist()]
            features = torch.stack([read(video, clip).float() for video, clip in pairs]).to(device)
            labels = torch.tensor([videos[video].label for video, _ in pairs], device=device)
            warm = min(1.0, (step + 1) / max(1, _WARMUP * steps))
            for group in optimizer.param_groups:
                group["lr"] = _LR * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
            F.cross_entropy(probe(features).logits, labels).backward()
            nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return probe.eval()


def _reader(videos: Sequence[LabelledFeatures], *, small: bool) -> Callable[[int, int], Tensor]:
    """Returns what reads the features of a video's clip: from memory where they are ``small``."""
    if not small:
        return lambda video, clip: videos[video].features.clip(clip)
    kept = [video.features.clips().half() for video in videos]
    return lambda video, clip: kept[video][clip]


@torch.no_grad()
def ask_probe(probe: AttentiveProbe, features: StoredFeatures) -> ProbeOutput:
    """Returns what a probe says of all clips of a video, float32 on the CPU."""
    output = probe(features.clips().to(probe.query.device))
    return ProbeOutput(output.logits.cpu(), output.pooled.cpu())


def count_right(probe: AttentiveProbe, videos: Sequence[LabelledFeatures]) -> int:
    """Returns of how many videos the class is the likeliest, by the mean of the probabilities of their clips."""
    said = (ask_probe(probe, video.features).logits.softmax(dim=1).mean(dim=0).argmax() for video in videos)
    return sum(int(best) == video.label for best, video in zip(said, videos, strict=True))
