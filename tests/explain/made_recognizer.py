"""Small random networks of any preset, ready to explain."""

import pytest

from dualformer.inference.recognizer import Recognizer
from small_weights import small_network

LABELS = ("up", "down", "left", "right", "still")


def small_recognizer(
    name: str = "dualformer_nano", *, size: int = 64, multi_label: bool = False, seed: int = 3
) -> Recognizer:
    """Random weights; clips of 4 frames, every second one, of ``size`` pixels."""
    pytest.importorskip("captum", reason="the extra [explain] is not installed")
    model, card = small_network(LABELS, name=name, size=size, seed=seed, multi_label=multi_label)
    return Recognizer(model, card, device="cpu")
