"""Reads and writes weights files: safetensors with a card of their network, labels and preprocessing."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dualformer.files import atomic_write, text_in_place_of, write_text
from dualformer.model.config import Size3
from dualformer.model.network import DualFormer
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError, check_tensors
from dualformer.weights.exported.exported_files import is_exported
from dualformer.weights.layouts import is_exact, standard_layout
from dualformer.weights.locate import CARD_FILE, TENSORS_FILE, has_checkpoint_start, resolve_weights
from dualformer.weights.resample import HEAD, TEMPORAL, resample_state
from dualformer.weights.resize_clip import resize_clip
from dualformer.weights.segment_settings import SegmentSettings
from dualformer.weights.twins import is_twins, twins_card, twins_state
from dualformer.weights.wrapped_network import RELEASED_KEY, plain_names, unwrap_network

METADATA_KEY = "dualformer"

_log = logging.getLogger("dualformer")


def save_weights(
    path: Path | str,
    model: nn.Module,
    card: Card,
    *,
    labels: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes a weights file, as a whole or not at all.

    ``model``: the network, or one in a wrapper, as `unwrap_network` takes it. ``labels``: the class names of a network
    whose classes have changed since ``card``; what the card says of the old ones, metrics, thresholds and timelines,
    is left out. ``dtype`` stores floating tensors in another precision (``torch.float16`` halves the file; loading
    gives float32 again). Errors: ``ValueError`` if the
    card describes another network, or the network is folded; ``WeightsError`` if the file cannot be written, or a value
    does not fit ``dtype``.
    """
    path = Path(path)
    try:
        model = unwrap_network(model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if model.folded:
        raise ValueError(f"{path}: a folded network has no longer the weights of its config: save it before fold()")
    if labels is not None:
        changed = card.config.replace(num_classes=model.config.num_classes)
        card = replace(card, config=changed, labels=tuple(labels), metrics={}, thresholds=(), timeline=None)
    if card.config != model.config:
        if card.config.replace(num_classes=model.config.num_classes) == model.config:
            counts = f"{card.config.num_classes} classes, and the network has {model.config.num_classes}"
            raise ValueError(f"{path}: the card is of {counts}: give their names with labels=")
        raise ValueError(f"{path}: the card's config is not the model's: make the card with config=model.config")
    tensors = {key: _convert(path, key, tensor, dtype) for key, tensor in plain_names(model.state_dict()).items()}
    _write(path, tensors, {"format": "pt", METADATA_KEY: card.to_json()})


def store_timeline_settings(path: Path | str, settings: SegmentSettings | None) -> Card:
    """Writes settings of timelines into the card of a weights file, as a whole or not at all, and returns the card.
    The tensors stay as they are, bit for bit.

    ``path``: the file, or a folder with ``model.safetensors``, whose ``config.json``, if there is one, follows.
    Errors: ``ValueError`` for background that is none of the classes; ``FileNotFoundError``; ``WeightsError`` for what
    is no weights file with a card, and where it cannot be written.
    """
    path = Path(path)
    path = path / TENSORS_FILE if path.is_dir() else path
    card, inside = _read_card(path)
    if not inside:
        raise WeightsError(f"{path}: there is no card in it to write to: convert it with `dualformer convert`")
    card = replace(card, timeline=settings)
    with _open_safetensors(path) as file:
        metadata = {**file.metadata(), METADATA_KEY: card.to_json()}
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a dict)
    _write(path, tensors, metadata)
    beside = path.with_name(CARD_FILE)
    if path.name == TENSORS_FILE and beside.is_file():
        write_text(beside, card.to_json())
    return card


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # what it makes of an OSError
            code = re.search(r"(.*) \(os error (\d+)\)", str(error))
            raise (OSError(int(code[2]), code[1].split(": ")[-1]) if code else OSError(str(error))) from error

    atomic_write(path, write)


def read_card(path: Path | str) -> Card:
    """Reads the card of a weights file without its tensors; of a Twins-SVT file, which has none, it is made.

    Errors: ``FileNotFoundError``; ``WeightsError`` that says what the file seems to be instead.
    """
    return _read_card(Path(path))[0]


def has_card(path: Path | str) -> bool:
    """Whether a safetensors file has a card inside. Errors: as `read_card`."""
    with _open_safetensors(Path(path)) as file:
        return METADATA_KEY in (file.metadata() or {})


def _read_card(path: Path) -> tuple[Card, bool]:
    """Returns the card, and whether the file has it inside."""
    with _open_safetensors(path) as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
        names = file.keys() if text is None else ()
        shapes = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in names}
    if text is None:
        if is_twins(path, shapes):
            return twins_card(path, shapes), False
        kind = " with the tensors of a released DualFormer checkpoint" if RELEASED_KEY in shapes else ""
        raise WeightsError(
            f"{path}: a safetensors file{kind} without a dualformer card (network, labels, preprocessing), so it "
            "cannot be loaded by itself; save it with dualformer, or convert the .pth that it comes from"
        )
    try:
        return Card.from_json(text), True
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def load_state(path: Path | str) -> dict[str, Tensor]:
    """Reads the tensors of a weights file onto the CPU, floating ones in float32, by our names those of Twins-SVT, too.

    Errors: as `read_card`; ``WeightsError`` for a Twins-SVT file that lacks tensors or has others.
    """
    with _open_safetensors(Path(path)) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    tensors = plain_names(tensors)  # an earlier version wrote compiled networks with the names of their wrapper
    if is_twins(path, tensors):
        tensors = twins_state(path, tensors)
    # Copies, because what safetensors gives is mapped from the file: writing into the file would change the model.
    return {
        key: tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()
        for key, tensor in tensors.items()
    }


def load_weights(
    path_or_hub_id: Path | str, *, clip: Size3 | None = None, device: torch.device | str = "cpu"
) -> tuple[DualFormer, Card]:
    """Loads a file, a folder with ``model.safetensors``, or a hub id: the network in eval mode, and its card. Twins-SVT
    files, as ``timm/twins_svt_small.in1k`` on the hub, are networks of images.

    ``clip`` (frames, height, width) resizes both for other clips, as `resize_clip` does; changes are logged. Errors:
    ``FileNotFoundError``; ``WeightsError`` if the file cannot be read or does not fit its own config, or if the
    ``config.json`` of a folder or repository differs from its card; ``ValueError`` for a clip that is none.
    """
    path = resolve_weights(path_or_hub_id)
    card, inside = _read_card(path)
    if inside and not Path(path_or_hub_id).is_file():
        _check_against_folder(path.with_name(CARD_FILE), card)
    state = load_state(path)
    try:
        with torch.device("meta"):  # no time for random weights that are thrown away
            model = DualFormer(card.config, seed=0)
    except ValueError as error:
        raise WeightsError(f"{path}: the card's config makes no network ({error})") from error
    check_tensors(path, model.state_dict(), state, remedy="the file is damaged or was edited: get it anew")
    model.load_state_dict(state, assign=True)
    if clip is not None:
        model, card, notes = resize_clip(model, card, clip)
        for note in notes:
            _log.info("%s: %s", path_or_hub_id, note)
    return model.to(device).eval(), card


def load_model(
    path_or_hub_id: Path | str,
    *,
    clip: Size3 | None = None,
    num_classes: int | None = None,
    seed: int | None = None,
    device: torch.device | str = "cpu",
) -> DualFormer:
    """`load_weights` without the card. ``num_classes``: give the network a new classifier for so many classes, drawn
    from ``seed``, whatever it had; 0 for none, so that it returns features. None: its own."""
    if num_classes is not None and num_classes < 0:
        raise ValueError(f"num_classes must be 0 or more, not {num_classes}")
    model, _ = load_weights(path_or_hub_id, clip=clip, device=device)
    if num_classes is not None:
        model.reset_classifier(num_classes, seed=seed)
    return model


def load_pretrained(model: nn.Module, path_or_hub_id: Path | str, *, labels: Sequence[str] = ()) -> list[str]:
    """Loads a weights file into ``model``, whose clip and classes may differ, and returns lines to print.

    Weights of a network of images are inflated if ``model`` is one of videos, and those of the exact layout get the
    standard one if it has that. The model's own temporal head stays as it is if the file has none, and its classifier
    if the number of classes differs, or if ``labels`` (its class names) are given and the file has others: the same
    number of classes does not make them the same classes. Errors: as `load_weights` and `resample_state`.
    """
    model, path = unwrap_network(model), resolve_weights(path_or_hub_id)
    card = read_card(path)
    try:
        state, config, standard = load_state(path), card.config, list[str]()
        if is_exact(config) and not is_exact(model.config):
            state, config, standard = standard_layout(state, config)
        state, notes = resample_state(state, config, model.config)
        notes = standard + notes
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    if any(key.startswith(HEAD) for key in state) and labels and tuple(labels) != card.labels:
        state = {key: tensor for key, tensor in state.items() if not key.startswith(HEAD)}
        notes.append(
            f"classifier: {card.config.num_classes} classes with other names or in another order, started anew"
        )
    wrapped = {plain: key for key in model.state_dict() for plain in plain_names({key: key})}  # compiled parts
    own = plain_names(model.state_dict())
    kept = {key: tensor for key, tensor in own.items() if key.startswith((HEAD, TEMPORAL)) and key not in state}
    check_tensors(path, own, {**kept, **state}, remedy="the model was changed after it was made: start with a new one")
    model.load_state_dict({wrapped[key]: tensor for key, tensor in {**kept, **state}.items()})
    return notes


def _convert(path: Path, key: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
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
        raise WeightsError(f"{config}: {error}; delete it, {TENSORS_FILE} says all of it") from error
    if differing := [name for name in card.__dataclass_fields__ if getattr(card, name) != getattr(said, name)]:
        raise WeightsError(
            f"{config}: disagrees with {TENSORS_FILE} on {', '.join(differing)}; delete it, "
            f"{TENSORS_FILE} says all of it"
        )


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such weights file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: {_likely_problem(path, error)}") from error


def _likely_problem(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "an empty file; get it anew"
    if start[8:9] == b"{":
        return f"a damaged or incomplete safetensors file ({error}); get it anew"
    if is_exported(path):
        return "an exported model: give the weights that it was made from"
    if has_checkpoint_start(start):
        return (
            "a PyTorch checkpoint; turn it into a weights file with `dualformer convert`, a released DualFormer "
            "checkpoint with `preprocessing=kinetics` or `preprocessing=transfer`"
        )
    if text := text_in_place_of(start):
        return text
    return "not a safetensors file"
