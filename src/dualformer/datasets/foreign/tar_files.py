"""Reads tar files of WebDataset that others made: ``KEY.mp4`` beside ``KEY.cls``, ``KEY.txt`` or ``KEY.json``.

A tar file has no table of what is in it, and is gone through once.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dualformer.datasets.foreign.asked_columns import AskedColumns
from dualformer.datasets.foreign.foreign_rows import make_row, open_bytes, place_of
from dualformer.datasets.row_table import Row
from dualformer.datasets.samples import DatasetError
from dualformer.remote_paths import as_path
from dualformer.video.file_formats import is_image, is_media

_TEXTS = ("cls", "txt", "text", "label", "class", "caption", "json")
_LARGEST = 2**20
"""Bytes of what describes a video."""


def read_tars(asked: AskedColumns, files: Sequence[tuple[Path, str]]) -> Iterator[Row]:
    """Yields the videos of tar files. Columns are the endings of members that hold text, and the names in their JSON,
    those within others with a dot between.

    Raises `DatasetError` for what cannot be read, and as `AskedColumns.choose`.
    """
    video = label = ""
    for path, split in files:
        samples = _samples(path)
        if not video:
            endings = list(dict.fromkeys(ending for members, _ in samples.values() for ending in members))
            films = [ending for ending in endings if not is_image(Path(f"x.{ending}"))]
            video = asked.choose("video", endings, path, typed=films or endings)
            columns = list(dict.fromkeys(name for _, values in samples.values() for name in values))
            label = asked.choose("label", columns, path)
        for key, (members, values) in samples.items():
            listed = f"{path}: {key}"
            if video not in members:
                raise DatasetError(f"{listed}: there is no {key}.{video}: leave the sample out, or name another ending")
            yield make_row(
                as_path(f"tar://{members[video]}::{place_of(path)}"),
                listed,
                values,
                label=values.get(label),
                split=split,
            )


def _samples(path: Path) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """Returns for each key the names of the media by their endings, and what is said of them."""
    found: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
    try:
        with open_bytes(path) as file, tarfile.open(fileobj=file, mode="r:") as members:
            for info in members:
                name = info.name.removeprefix("./")
                folder, slash, base = name.rpartition("/")
                stem, _, ending = base.partition(".")
                if not info.isfile() or not stem or not ending:
                    continue
                media, values = found.setdefault(f"{folder}{slash}{stem}", ({}, {}))
                last = ending.rpartition(".")[2].lower()
                if is_media(Path(f"x.{last}")):
                    media[ending] = name
                elif last in _TEXTS and info.size <= _LARGEST and (content := members.extractfile(info)):
                    values |= _values(ending, content.read(), f"{path}: {name}")
    except tarfile.TarError as error:
        raise DatasetError(
            f"{path}: it cannot be read as a tar file ({error}): a compressed one is to be unpacked to a plain one"
        ) from error
    return {key: sample for key, sample in found.items() if sample[0]}


def _values(ending: str, content: bytes, where: str) -> dict[str, Any]:
    text = content.decode("utf-8", "replace").strip()
    if not ending.endswith("json"):
        return {ending: text}
    try:
        return _flat(json.loads(text), "") or {}
    except ValueError as error:
        raise DatasetError(f"{where}: not JSON ({error}): write it anew") from error


def _flat(value: Any, name: str) -> dict[str, Any]:
    """Returns the values of JSON by their names."""
    if not isinstance(value, dict):
        return {name or "json": value}
    return {
        key: each
        for own, inner in value.items()
        for key, each in _flat(inner, f"{name}.{own}" if name else own).items()
    }
