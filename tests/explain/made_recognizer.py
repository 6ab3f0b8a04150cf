"""Small random networks of any preset, ready to explain."""

import pytest

from dualformer.inference.recognizer import Recognizer
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card

LABELS = ("up", "down", "left", "right", "still")


def small_recognizer(
    name: str = "dualformer_nano", *, size: int = 64, multi_label: bool = False, seed: int = 3
) -> Recognizer:
    """Random weights; clips of 4 frames, every second one, of ``size`` pixels."""
    pytest.importorskip("captum", reason="the extra [explain] is not installed")
    model = create_model(name, clip=(4, size, size), num_classes=len(LABELS), seed=seed)
    model.state_dict()["head.weight"].mul_(30)  # so that clips differ in what the random network says of them
    pre = kinetics(frames=4, stride=2, size=size)
    card = Card(
        config=model.config,
        labels=LABELS,
        preprocessing=pre,
        provenance="a test",
        licence="",
        multi_label=multi_label,
    )
    return Recognizer(model, card, device="cpu")
