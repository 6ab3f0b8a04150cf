"""The second head of a student that learns from token labels (Jiang et al., 2021), as Tiny and Small did."""

from torch import Tensor, nn

from dualformer.model.config import Config


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
