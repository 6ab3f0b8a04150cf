"""The network with its normalisation as one program: uint8 views in, logits out."""

import copy

import torch
from torch import Tensor, nn

from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

INPUT, OUTPUT = "views", "logits"
"""Names in the exported models."""


class ViewNetwork(nn.Module):
    """uint8 views B T H W 3 → logits float32 B classes. The network computes in the precision of its weights."""

    def __init__(self, network: DualFormer, pre: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self._pre = pre

    def forward(self, views: Tensor) -> Tensor:
        return self.network(normalize(views, self._pre, dtype=self.network.norm.weight.dtype)).float()


def make_program(
    model: DualFormer, pre: Preprocessing, *, dtype: torch.dtype = torch.float32, batch: int | None = None
) -> torch.export.ExportedProgram:
    """The program of a network, which stays as it is. ``batch``: views that it takes at a time; None: any number."""
    network = copy.deepcopy(model).fold().to("cpu", dtype).requires_grad_(False)
    # Two views stand for any number: PyTorch takes a length of one for a constant.
    views = torch.zeros((batch or 2, pre.frames, pre.crop, pre.crop, 3), dtype=torch.uint8)
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    with torch.no_grad():
        return torch.export.export(ViewNetwork(network, pre).eval(), (views,), dynamic_shapes=shapes)
