"""The project's own weights files: one safetensors file that knows its network, labels and preprocessing."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dualformer.files import atomic_write
from dualformer.model.config import Size3
from dualformer.model.network import DualFormer
from dualformer.weights.card import FORMAT_VERSION, Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.keys import check_keys
from dualformer.weights.locate import CARD, TENSORS, resolve
from dualformer.weights.resize_clip import resize_clip
from dualformer.weights.safetensors_reader import METADATA_KEY, load_state, read_card

__all__ = [
    "FORMAT_VERSION",
    "Card",
    "WeightsError",
    "load_model",
    "load_state",
    "load_weights",
    "read_card",
    "resolve",
    "save_weights",
]

_log = logging.getLogger("dualformer")


def save_weights(path: Path | str, model: DualFormer, card: Card, *, dtype: torch.dtype | None = None) -> None:
    """Writes one file, as a whole or not at all.

    ``dtype`` stores floating tensors in another precision (``torch.float16`` halves the file; loading gives float32
    again). Errors: ``ValueError`` if the card describes another network, or the network is folded; ``WeightsError`` if
    the file cannot be written, or a value does not fit ``dtype``.
    """
    path = Path(path)
    if model.folded:
        raise ValueError(f"{path}: a folded network has no longer the weights of its config: save it before fold()")
    if card.config != model.config:
        raise ValueError(f"{path}: the card's config is not the model's: make the card with config=model.config")
    tensors = {key: _stored(path, key, tensor, dtype) for key, tensor in model.state_dict().items()}
    metadata = {"format": "pt", METADATA_KEY: card.to_json()}

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # what it makes of an OSError
            code = re.search(r"(.*) \(os error (\d+)\)", str(error))
            raise (OSError(int(code[2]), code[1].split(": ")[-1]) if code else OSError(str(error))) from error

    atomic_write(path, write)


def load_weights(
    path_or_hub_id: Path | str, *, clip: Size3 | None = None, device: torch.device | str = "cpu"
) -> tuple[DualFormer, Card]:
    """A file, a folder with ``model.safetensors``, or a hub id → the network in eval mode, and its card.

    ``clip`` (frames, height, width) cuts both for clips of another size, as `resize_clip` does; what is changed
    is logged. Errors: ``FileNotFoundError``; ``WeightsError`` if the file cannot be read or does not fit its own
    config, or if the ``config.json`` of a folder or repository says something else than the weights file in it;
    ``ValueError`` for a clip that is none.
    """
    path = resolve(path_or_hub_id)
    card = read_card(path)
    if not Path(path_or_hub_id).is_file():
        _check_against_folder(path.with_name(CARD), card)
    state = load_state(path)
    try:
        with torch.device("meta"):  # no time for random weights that are thrown away
            model = DualFormer(card.config, seed=0)
    except ValueError as error:
        raise WeightsError(f"{path}: the card's config makes no network ({error})") from error
    check_keys(path, model.state_dict(), state, remedy="the file is damaged or was edited: get it anew")
    model.load_state_dict(state, assign=True)
    if clip is not None:
        model, card, notes = resize_clip(model, card, clip)
        for note in notes:
            _log.info("%s: %s", path_or_hub_id, note)
    return model.to(device).eval(), card


def load_model(
    path_or_hub_id: Path | str, *, clip: Size3 | None = None, device: torch.device | str = "cpu"
) -> DualFormer:
    """`load_weights` without the card."""
    return load_weights(path_or_hub_id, clip=clip, device=device)[0]


def _stored(path: Path, key: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if dtype is None or not tensor.is_floating_point():
        return tensor
    stored = tensor.to(dtype)
    if tensor.isfinite().all() and not stored.isfinite().all():
        raise WeightsError(f"{path}: values of {key} are too large for {dtype}; save without dtype, in float32")
    return stored


def _check_against_folder(config: Path, card: Card) -> None:
    if not config.is_file():
        return
    try:
        said = Card.from_json(config.read_text(encoding="utf-8"))
    except (WeightsError, UnicodeDecodeError) as error:
        raise WeightsError(f"{config}: {error}; delete it, {TENSORS} says all of it") from error
    if differing := [name for name in card.__dataclass_fields__ if getattr(card, name) != getattr(said, name)]:
        raise WeightsError(
            f"{config}: disagrees with {TENSORS} on {', '.join(differing)}; delete it, {TENSORS} says all of it"
        )
