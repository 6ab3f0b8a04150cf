"""Writes and uploads weights as the Hugging Face hub keeps them: a folder of tensors, ``config.json`` and a page.

``config.json`` repeats the card of the weights file, for people and for the hub. Where the two differ, since somebody
edited one of them, loading raises an error.
"""

import json
from pathlib import Path

import torch

from dualformer.files import write_text
from dualformer.model.network import DualFormer
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError, first_line, size_text
from dualformer.weights.locate import CARD_FILE, TENSORS_FILE, hub_errors
from dualformer.weights.safetensors_file import load_weights, save_weights

PAGE = "README.md"

_HUB_LICENCES = {
    *("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("gpl-3.0", "agpl-3.0", "openrail", "unknown"),
}
"""Identifiers that the hub knows; any other licence it lists under "other"."""


def save_to_folder(
    folder: Path | str, model: DualFormer, card: Card, *, dtype: torch.dtype | None = None, title: str | None = None
) -> None:
    """Writes ``model.safetensors``, ``config.json`` and ``README.md``, a model card headed ``title`` (default: the
    folder's name). Errors as `save_weights`."""
    folder = Path(folder)
    # A config.json of earlier weights must not stay beside the new ones if the work ends half-way.
    (folder / CARD_FILE).unlink(missing_ok=True)
    save_weights(folder / TENSORS_FILE, model, card, dtype=dtype)
    page = model_page(card, title or folder.resolve().name, parameters=sum(p.numel() for p in model.parameters()))
    write_text(folder / CARD_FILE, card.to_json() + "\n")
    write_text(folder / PAGE, page)


def load_from_folder(folder: Path | str, *, device: torch.device | str = "cpu") -> tuple[DualFormer, Card]:
    """Loads what `save_to_folder` wrote. Errors: ``FileNotFoundError`` without the folder; as `load_weights`."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    return load_weights(Path(folder), device=device)


def push_to_hub(
    folder: Path | str,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload DualFormer weights",
) -> str:
    """Uploads what `save_to_folder` wrote to the hub, as ``owner/name``, and returns the address.

    The folder is loaded first, as a check. Without ``token`` the one of ``hf auth login`` is used.
    Errors: as `load_from_folder`; ``WeightsError`` if the hub refuses or cannot be reached.
    """
    import huggingface_hub  # here, because it takes a second to import

    load_from_folder(folder)
    api = huggingface_hub.HfApi(token=token)
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=[TENSORS_FILE, CARD_FILE, PAGE], commit_message=message
        )
    except hub_errors() as error:
        raise WeightsError(
            f"{repo_id}: could not be uploaded ({first_line(error)}); check the name and the connection, and log "
            "in with `hf auth login` or give a token"
        ) from error
    return str(address)


def model_page(card: Card, title: str, *, parameters: int) -> str:
    """Returns the text of a model card, in the form that the hub reads."""
    licence = card.licence.lower()
    known = licence in _HUB_LICENCES
    front = {"license": licence} if known else {"license": "other", "license_name": card.licence}
    front |= {"pipeline_tag": "video-classification", "library_name": "dualformer"}
    pre, clip = card.preprocessing, size_text(card.config.clip)
    metrics = [f"- {name}: {value:g}" for name, value in card.metrics.items()]
    examples = f" ({', '.join(card.labels[:5])}{', …' if len(card.labels) > 5 else ''})" if card.labels else ""
    lines = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()),
        "tags: [video-classification, dualformer]",
        "---",
        "",
        f"# {title}",
        "",
        "A DualFormer video recognition network (Liang et al., ECCV 2022).",
        "",
        f"- Parameters: {parameters / 1e6:.1f} M, cut for clips of {clip} (frames x height x width)",
        f"- Classes: {card.config.num_classes}{examples}",
        f"- Preprocessing: {pre.describe()}, mean {pre.mean}, std {pre.std} (R, G, B on 0..255)",
        f"- Provenance: {card.provenance}",
        f"- Licence: {card.licence}",
        *(["", "## Measured", "", *metrics] if metrics else []),
        "",
        "## Use",
        "",
        "```python",
        "import dualformer",
        "",
        "# this repository's id (owner/name), or a folder with its files",
        f'recognizer = dualformer.Recognizer.load("{title}")',
        'recognizer("clip.mp4").top(5)',
        "```",
        "",
    ]
    return "\n".join(lines)
