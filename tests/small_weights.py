"""Small random networks with their cards, in memory and as weights files."""

from pathlib import Path
from typing import Literal

from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights


def small_network(
    labels: tuple[str, ...],
    *,
    name: str = "dualformer_nano",
    size: int = 32,
    seed: int = 3,
    scale: float = 30,
    multi_label: bool = False,
    head: Literal["pooled", "temporal"] = "pooled",
) -> tuple[DualFormer, Card]:
    """Random weights for clips of 4 frames, every second one, of ``size`` pixels.

    ``scale`` multiplies the classifier's weights, so that clips differ in what the random network says of them.
    """
    model = create_model(name, clip=(4, size, size), num_classes=len(labels), seed=seed, head=head)
    model.state_dict()["head.weight"].mul_(scale)
    card = Card(
        config=model.config,
        labels=labels,
        preprocessing=kinetics(frames=4, stride=2, size=size),
        provenance="a test",
        licence="",
        multi_label=multi_label,
    )
    return model, card


def save_small_weights(path: Path, labels: tuple[str, ...], *, size: int = 32, scale: float = 30) -> None:
    """Writes a `small_network` to ``path``."""
    model, card = small_network(labels, size=size, scale=scale)
    save_weights(path, model, card)
