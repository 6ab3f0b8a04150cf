"""What can go wrong with weights."""

from __future__ import annotations

from dualformer.errors import DualFormerError


class WeightsError(DualFormerError):
    """Weights that could not be read, written or fitted to a network. One line that names the file and the remedy."""
