"""Reads the card of an exported model in each of the formats, and checks its digest.

``torch``: a ``.pt2`` file, a zip archive that `torch.export.save` wrote, with the card as one of its extra files.
``onnx``: one ``.onnx`` file, with the card in its metadata. ``openvino``: a folder with ``model.xml`` and
``model.bin``, with the card in the ``rt_info`` of the former. ``executorch``: one ``.pte`` file, in which the card is
what a method returns. None of the runtimes is needed to read it.
"""

import hashlib
import mmap
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.export_card import DIGEST_PLACEHOLDER, ExportCard, ExportFormat
from dualformer.weights.locate import TENSORS_FILE

CARD_KEY = "dualformer"
"""The card's name in every format."""
GRAPH, CONSTANTS = "model.xml", "model.bin"

_SUFFIXES: dict[str, ExportFormat] = {".pt2": "torch", ".onnx": "onnx", ".pte": "executorch"}
_EXTRA = f"/extra/{CARD_KEY}"
_ONNX_METADATA = 14  # number of the field in ONNX's ModelProto
_PTE_HEADER = struct.Struct("<4x2s2x4s4xQQQ")
"""The head of a ``.pte`` file: its kind and that of the header, the bytes of the program, where segments begin, and how
many bytes they have."""
_CARD_BEGINS = b'{"card": {'


def format_of(path: Path | str) -> ExportFormat | None:
    """Returns the format of an exported model with this path, there or not; None for anything else."""
    path = Path(path)
    if path.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[path.suffix.lower()]
    folder = _folder(path)
    parts = any((folder / name).is_file() for name in (GRAPH, CONSTANTS))
    return "openvino" if parts and not (folder / TENSORS_FILE).is_file() else None


def is_exported(path: Path | str) -> bool:
    """Whether the path names an exported model, with a card or without one."""
    return format_of(path) is not None


def has_card(path: Path | str) -> bool:
    """Whether there is an exported model that ``dualformer export`` wrote, and not one from elsewhere."""
    path = Path(path)
    return path.exists() and (kind := format_of(path)) is not None and _read_text(path, kind) is not None


def read_export_card(path: Path | str, *, check: bool = True) -> ExportCard:
    """Reads the card of an exported model. With ``check`` it reads every byte and compares the digest.

    Errors: ``FileNotFoundError``; ``WeightsError`` for what is no exported model, has no card, lacks a part, or was
    changed after it was exported.
    """
    path = Path(path)
    kind = format_of(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such exported model")
    if kind is None:
        raise WeightsError(f"{path}: not an exported model (a .pt2, .onnx or .pte file, or a folder with {GRAPH})")
    text = _read_text(path, kind)
    if text is None:
        raise WeightsError(
            f"{path}: an exported model without a dualformer card (labels, preprocessing), so it cannot be loaded by "
            "itself; export the weights that it was made from with `dualformer export`"
        )
    try:
        card = ExportCard.from_json(text)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; export it anew with `dualformer export`") from error
    if card.format != kind:
        raise WeightsError(f"{path}: its card is that of a model for {card.format}; export it anew")
    if check and card.digest != _digest(path, kind, text, card.digest):
        raise WeightsError(
            f"{path}: its weights, labels or preprocessing were changed after it was exported (the digest is another "
            "one); get it anew, or export it anew with `dualformer export`"
        )
    return card


def write_digest(path: Path, card: ExportCard) -> ExportCard:
    """Writes the digest into a model that was just written, and returns its card as it is in the file.

    The model holds the card already, with a placeholder; a ``.pt2`` file gets it here.
    """
    text = card.to_json()
    if card.format == "torch":
        with zipfile.ZipFile(path, "a") as archive:
            digest = _archive_digest(archive, text)
            top = archive.namelist()[0].split("/")[0]
            archive.writestr(f"{top}{_EXTRA}", text.replace(DIGEST_PLACEHOLDER, digest))
    else:
        digest = _digest(path, card.format, text, DIGEST_PLACEHOLDER)
        file = _folder(path) / GRAPH if card.format == "openvino" else path
        with file.open("r+b") as stream:
            place = _find(stream.fileno(), DIGEST_PLACEHOLDER)
            assert place >= 0, "the card was not written"
            stream.seek(place)
            stream.write(digest.encode())
    return ExportCard.from_json(text.replace(DIGEST_PLACEHOLDER, digest))


def size_of(path: Path) -> int:
    """Returns the bytes of an exported model, all its parts together."""
    return path.stat().st_size if path.is_file() else sum((path / name).stat().st_size for name in (GRAPH, CONSTANTS))


def openvino_files(path: Path) -> tuple[Path, Path]:
    """Returns the paths of ``model.xml`` and ``model.bin``. Errors: ``WeightsError`` that names a missing one."""
    folder = _folder(path)
    for name in (GRAPH, CONSTANTS):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder / name}: this part of the exported model is missing; copy {GRAPH} and {CONSTANTS} together"
            )
    return folder / GRAPH, folder / CONSTANTS


def _folder(path: Path) -> Path:
    return path.parent if path.name == GRAPH else path


def _read_text(path: Path, kind: ExportFormat) -> str | None:
    read = {"torch": _read_archive, "onnx": _read_onnx, "openvino": _read_xml, "executorch": _read_executorch}[kind]
    try:
        return read(path)
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path}: its card is not text ({error.reason}); get it anew") from error


def _read_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(_EXTRA)]
            return archive.read(names[0]).decode() if names else None
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{path}: not a file that torch.export.save wrote, or a damaged one ({error}); get it anew"
        ) from error


def _read_onnx(path: Path) -> str | None:
    """Reads the metadata without the rest of the file, which may be large, and without the package ``onnx``."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise WeightsError(f"{path}: an empty file; get it anew")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                for start, end in _fields(data, 0, len(data), _ONNX_METADATA):
                    entry = {number: data[slice(*next(_fields(data, start, end, number)))] for number in (1, 2)}
                    if entry[1] == CARD_KEY.encode():
                        return entry[2].decode()
            except (IndexError, StopIteration, ValueError) as error:
                raise WeightsError(f"{path}: not an ONNX model, or a damaged one; get it anew") from error
    return None


def _fields(data: mmap.mmap, position: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yields start and end of every field with a length and the number ``wanted`` of a Protocol Buffers message.

    Raises ``IndexError`` or ``ValueError`` for what is none.
    """
    while position < end:
        tag, position = _varint(data, position)
        kind, start = tag & 7, position
        if kind == 0:
            position = _varint(data, position)[1]
        elif kind == 2:
            length, start = _varint(data, position)
            position = start + length
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError(f"no such kind of field: {kind}")
        if position > end:
            raise IndexError("a field that is longer than its message")
        if kind == 2 and tag >> 3 == wanted:
            yield start, position


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("a number that is too long")


def _read_xml(path: Path) -> str | None:
    graph, _ = openvino_files(path)
    try:
        found = ElementTree.parse(graph).getroot().find(f"rt_info/{CARD_KEY}")
    except ElementTree.ParseError as error:
        raise WeightsError(f"{graph}: not a model of OpenVINO, or a damaged one ({error}); get it anew") from error
    return None if found is None else found.get("value")


def _read_executorch(path: Path) -> str | None:
    """Reads the text that stands in the program, with its length before it, without the runtime."""
    with path.open("rb") as file:
        head = file.read(_PTE_HEADER.size)
        kind, header, program, segments, more = _PTE_HEADER.unpack(head.ljust(_PTE_HEADER.size, b"\0"))
        if (kind, header) != (b"ET", b"eh00") or path.stat().st_size < max(program, segments + more):
            raise WeightsError(f"{path}: not a program of ExecuTorch, or a damaged one; get it anew")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = data.find(_CARD_BEGINS, 0, program)
            if start < 0:
                return None
            return data[start : start + int.from_bytes(data[start - 4 : start], "little")].decode()


def _digest(path: Path, kind: ExportFormat, text: str, digest: str) -> str:
    """Returns the digest of the model as it was before ``digest`` was written into it."""
    if kind == "torch":
        try:
            with zipfile.ZipFile(path) as archive:
                return _archive_digest(archive, text.replace(digest, DIGEST_PLACEHOLDER))
        except zipfile.BadZipFile as error:  # a part whose own checksum does not fit
            raise WeightsError(f"{path}: damaged ({error}); get it anew") from error
    files = openvino_files(path) if kind == "openvino" else (path,)
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            place = _find(stream.fileno(), digest) if file == files[0] else -1
            if place >= 0:
                whole.update(stream.read(place))
                whole.update(DIGEST_PLACEHOLDER.encode())
                stream.seek(len(digest), 1)
            while block := stream.read(2**20):
                whole.update(block)
    return whole.hexdigest()


def _archive_digest(archive: zipfile.ZipFile, text: str) -> str:
    """Returns the digest of the names and contents of all files in it but the card, and of the card's text."""
    whole = hashlib.sha256()
    for name in sorted(archive.namelist()):
        if name.endswith(_EXTRA):
            continue
        whole.update(f"{name}\0{archive.getinfo(name).file_size}\0".encode())
        with archive.open(name) as stream:
            while block := stream.read(2**20):
                whole.update(block)
    whole.update(text.encode())
    return whole.hexdigest()


def _find(file: int, text: str) -> int:
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
        return data.find(text.encode())
