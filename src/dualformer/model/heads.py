"""Heads beside the paper's pooled one: an answer at every moment, and the second head of a student of token labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Config, Stage
from dualformer.model.kernels.dense_convolution import DenseConv3d
from dualformer.model.kernels.linear import Linear


class TemporalPyramid(nn.Module):
    """Tells the time steps of a clip apart by what every stage saw, before the classifier reads each of them.

    Each stage's map is pooled over space, normalised, projected to one width, and brought to the steps of the finest
    stage. Their sum goes through a GELU and one convolution over three steps; what comes out is added to all places of
    a step. That convolution begins at zero: a network that gets this head begins as the one that it was.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        channels = stages[-1].channels
        width = max(1, channels // 4)
        self.norms = nn.ModuleList(nn.LayerNorm(stage.channels) for stage in stages)
        self.laterals = nn.ModuleList(Linear(stage.channels, width) for stage in stages)
        self.conv = DenseConv3d(width, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, maps: Sequence[Tensor], last: Tensor) -> Tensor:
        """The stages' ``maps`` B T H W C and the ``last`` after the final norm → B T* H W C, with the finest's T*."""
        steps = max(x.shape[1] for x in maps)
        each = zip(maps, self.norms, self.laterals, strict=True)
        rows = torch.stack([at_steps(lateral(norm(x.mean((2, 3)))), steps) for x, norm, lateral in each])
        added = self.conv(F.gelu(rows.sum(0)).transpose(1, 2)[..., None, None])
        return at_steps(last, steps) + added.permute(0, 2, 3, 4, 1)


def at_steps(x: Tensor, steps: int) -> Tensor:
    """B T … C → B ``steps`` … C, interpolated linearly between the middles of the T steps."""
    if x.shape[1] == steps:
        return x
    rows = x.movedim(1, -1)
    fitted = F.interpolate(rows.flatten(1, -2), size=steps, mode="linear", align_corners=False)
    return fitted.unflatten(1, rows.shape[1:-1]).movedim(-1, 1)


class TokenHead(nn.Sequential):
    """Class scores for every token of the last stage: three linear layers, C → 2C → 4C → classes.

    It is trained beside the network on a teacher's `DualFormer.token_scores` and left out afterwards.
    """

    def __init__(self, channels: int, num_classes: int, *, dropout: float = Config.dropout) -> None:
        super().__init__(
            nn.Linear(channels, 2 * channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels, 4 * channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * channels, num_classes),
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that Sequential gives it)
        """B C T H W (a map after the final norm) → B T H W classes."""
        return super().forward(input.permute(0, 2, 3, 4, 1))
