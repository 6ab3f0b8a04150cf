"""The network as a backbone: the maps of chosen stages, and no head."""

from collections.abc import Sequence

from torch import Tensor, nn

from dualformer.model.contract import Features, wanted_stages
from dualformer.model.network import DualFormer


class FeatureExtractor(nn.Module):
    """B 3 T H W → the maps B C T' H' W' of some stages, for detection, segmentation or localisation heads.

    ``out_indices`` numbers stages from 0; an integer n means the last n, None all. ``model`` is kept, not copied, and
    loses its classifier; its final norm stays unused. Weights keep the network's names behind ``model.``.
    """

    def __init__(self, model: DualFormer, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        self.out_indices = wanted_stages(out_indices, len(model.stages))
        model.reset_classifier(0)
        self.model = model

    @property
    def feature_info(self) -> tuple[Features, ...]:
        """Channels and reduction of every map that comes out, in order."""
        return tuple(self.model.feature_info[index] for index in self.out_indices)

    def forward(self, video: Tensor) -> list[Tensor]:
        """B 3 T H W → a list of B C T' H' W'."""
        return self.model.forward_intermediates(video, self.out_indices, stop_early=True, intermediates_only=True)
