"""Finds a weights file by its path, its folder, or its repository on the Hugging Face hub."""

import re
from pathlib import Path

from dualformer.weights.errors import WeightsError, first_line

SHIPPED = {"rendered": "nano-conv-rendered.safetensors", "rendered-nano": "nano-rendered.safetensors"}
"""Weights that come with the package, by the name that stands for them wherever a weights file is asked for."""

TENSORS_FILE = "model.safetensors"
CARD_FILE = "config.json"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CHECKPOINT_SUFFIXES = {".pth", ".pt", ".ckpt", ".bin"}
_FILE_SUFFIXES = {".safetensors", *CHECKPOINT_SUFFIXES}


def resolve_weights(path_or_hub_id: Path | str) -> Path:
    """Returns the path of a weights file: of a name in `SHIPPED`, a file, a folder with one, or a hub id.

    A hub id is ``owner/name``. Errors: ``FileNotFoundError`` if it is none of these; ``WeightsError`` if a folder
    or repository has no weights or the download fails.
    """
    path = find_local_weights(path_or_hub_id)
    return _in_folder(_download(str(path_or_hub_id)), str(path_or_hub_id)) if path is None else path


def find_local_weights(path_or_hub_id: Path | str) -> Path | None:
    """Returns what `resolve_weights` does, without a network: None for a hub id. Errors: likewise."""
    if path_or_hub_id in SHIPPED:
        return Path(__file__).parent / "shipped" / SHIPPED[str(path_or_hub_id)]
    path = Path(path_or_hub_id)
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(path, str(path))
    text = str(path_or_hub_id)
    if isinstance(path_or_hub_id, str) and _HUB_ID.fullmatch(text) and path.suffix not in _FILE_SUFFIXES:
        return None
    raise FileNotFoundError(f"{text}: no such weights file or folder, nor an id on the hub (owner/name)")


def is_checkpoint(path_or_hub_id: Path | str) -> bool:
    """Whether a path names a PyTorch checkpoint and not a weights file, by its first bytes or its name."""
    path = Path(path_or_hub_id)
    if not path.is_file():
        return path.suffix in CHECKPOINT_SUFFIXES
    with path.open("rb") as file:
        start = file.read(9)
    is_safetensors = start[8:] == b"{"
    return not is_safetensors and (has_checkpoint_start(start) or path.suffix in CHECKPOINT_SUFFIXES)


def has_checkpoint_start(start: bytes) -> bool:
    """Whether the first bytes are those of ``torch.save``: of a zip archive, or a pickle in old versions.

    A header's length, with which safetensors files begin, may be the same two bytes: see whether ``{`` follows it.
    """
    return start.startswith((b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))))


def _in_folder(folder: Path, named: str) -> Path:
    if (folder / TENSORS_FILE).is_file():
        return folder / TENSORS_FILE
    snapshots = sorted(folder.glob(f"snapshots/*/{TENSORS_FILE}"))  # of a folder of the hub's cache
    if len(snapshots) == 1:
        return snapshots[0]
    remedy = f"name one of its snapshots, as {snapshots[0].parent}" if snapshots else "name the weights file itself"
    raise WeightsError(f"{named}: there is no {TENSORS_FILE} in it; {remedy}")


def _download(hub_id: str) -> Path:
    import huggingface_hub  # here, because it takes a second to import and most weights are local

    try:
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=[TENSORS_FILE, CARD_FILE]))
    except hub_errors() as error:
        raise WeightsError(
            f"{hub_id}: no such file here, and it could not be had from the hub ({first_line(error)}); "
            f"check the name and the connection, log in with `hf auth login` if it is private, or fetch {TENSORS_FILE} "
            f"and {CARD_FILE} of https://huggingface.co/{hub_id} elsewhere and name their folder"
        ) from error


def hub_errors() -> tuple[type[Exception], ...]:
    """Returns the errors of ``huggingface_hub`` where the hub refuses or is not reached, or the id is none."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are the errors of the HTTP library beneath, which differs between versions of huggingface_hub.
    return (OSError, ValueError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))
