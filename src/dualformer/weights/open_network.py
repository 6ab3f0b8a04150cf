"""Opens a network and its card, be it weights or an exported model."""

from pathlib import Path

import torch

from dualformer.model.network import DualFormer
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_files import is_exported, read_export_card
from dualformer.weights.exported.exported_network import ExportedNetwork, load_exported
from dualformer.weights.locate import resolve_weights
from dualformer.weights.safetensors_file import load_weights, read_card

Network = DualFormer | ExportedNetwork


def open_network(
    path_or_hub_id: Path | str, *, device: torch.device | str = "cpu", threads: int | None = None
) -> tuple[Network, Card]:
    """Opens a weights file, a folder with one, a hub id or an exported model: the network, ready to run, and its card.

    ``threads`` is for exported models. Errors: those of `load_weights` and `load_exported`.
    """
    if is_exported(path_or_hub_id):
        network = load_exported(path_or_hub_id, device=device, threads=threads)
        return network, network.card
    return load_weights(path_or_hub_id, device=device)


def open_card(path_or_hub_id: Path | str) -> Card:
    """Reads the card alone. Errors: those of `read_card` and `read_export_card`."""
    if is_exported(path_or_hub_id):
        return read_export_card(path_or_hub_id, check=False).card
    return read_card(resolve_weights(path_or_hub_id))
