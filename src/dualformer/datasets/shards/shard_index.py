"""The index of shards: a JSON file beside them with what they hold and the offset of each video."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dualformer.datasets.samples import DatasetError, MissingSample

INDEX = "index.json"
FORMAT = "dualformer shards"
VERSION = 1
"""Of an index of whole videos, and of plans."""
SEGMENTS_VERSION = 2
"""Of an index with parts of videos, which versions before could not read."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One video in a shard: ``size`` bytes from ``offset`` on. Of a folder of frames, all their tar members.

    With ``start`` and ``end`` it is the part of the video between these times, in seconds; parts may share a video.
    """

    member: str
    """Name in the tar file; of frames their pattern, as in 000000007.img_%05d.jpg."""
    offset: int
    size: int
    label: int
    place: int
    """Its number in the list of its split that the shards were made from."""
    name: str
    """Its path in the data set that the shards were made from."""
    fps: float | None = None
    start: float | None = None
    end: float | None = None


_ENTRY = tuple(field.name for field in fields(Entry))
"""The fields of an entry, in their order in the file; whole videos have no times there."""
_TIMES = ("start", "end")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file."""

    file: str
    split: str
    bytes: int
    sha256: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True)
class Index:
    """The contents of a folder of shards."""

    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    missing: Mapping[str, tuple[MissingSample, ...]]
    """Videos of each split that the data set listed and did not have."""
    made_from: str
    """The data set in words."""
    manifest_hash: str
    """`hash_manifest` of the data set that they were made from."""
    plan: str
    """Equal for the same videos written in the same way."""

    def to_json(self) -> str:
        """Returns the file's text, a line for each video: large, but to be read by people, too."""
        whole = all(entry.start is None for shard in self.shards for entry in shard.entries)
        head = {
            "format": FORMAT,
            "version": VERSION if whole else SEGMENTS_VERSION,
            "made_from": self.made_from,
            "manifest_hash": self.manifest_hash,
            "plan": self.plan,
            "classes": self.classes,
            "missing": [
                {"split": split, "label": one.label, "name": one.name, "listed": one.listed}
                for split, missing in self.missing.items()
                for one in missing
            ],
            "entries": [name for name in _ENTRY if not (whole and name in _TIMES)],
        }
        start = json.dumps(head, indent=1).removesuffix("\n}")
        return f'{start},\n "shards": [\n{_lines(shard_to_json(shard) for shard in self.shards)}\n]\n}}\n'


def shard_to_json(shard: Shard) -> str:
    head = {"file": shard.file, "split": shard.split, "samples": len(shard.entries)}
    head |= {"bytes": shard.bytes, "sha256": shard.sha256}
    rows = (
        json.dumps([getattr(entry, name) for name in _ENTRY if entry.start is not None or name not in _TIMES])
        for entry in shard.entries
    )
    return f'{json.dumps(head).removesuffix("}")}, "entries": [\n{_lines(rows)}\n]}}'


def shard_from_json(data: Mapping[str, Any]) -> Shard:
    """Reads what `shard_to_json` wrote. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
    entries = tuple(_entry(row) for row in data["entries"])
    if len(entries) != data["samples"]:
        raise ValueError(f"{data['file']} lists {len(entries)} of {data['samples']} samples")
    return Shard(
        file=str(data["file"]),
        split=str(data["split"]),
        bytes=int(data["bytes"]),
        sha256=str(data["sha256"]),
        entries=entries,
    )


def read_index(text: str, location: str) -> Index:
    """Reads what `Index.to_json` wrote. ``location`` is the file's name in messages.

    Raises `DatasetError` for anything else, an index of another version and one that contradicts itself.
    """
    try:
        data = json.loads(text)
        if data.get("format") != FORMAT:
            raise ValueError(f"it does not say {FORMAT!r}")
        if data["version"] not in (VERSION, SEGMENTS_VERSION):
            raise DatasetError(
                f"{location}: written by another version of dualformer (its layout is {data['version']}, this one "
                f"reads up to {SEGMENTS_VERSION}): write the shards anew with `dualformer shards`, or read them with "
                "that version"
            )
        index = Index(
            classes=tuple(map(str, data["classes"])),
            shards=tuple(map(shard_from_json, data["shards"])),
            missing=_missing(data["missing"]),
            made_from=str(data["made_from"]),
            manifest_hash=str(data["manifest_hash"]),
            plan=str(data["plan"]),
        )
        _check(index)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DatasetError(
            f"{location}: this is no index of shards, or a damaged one ({what}): copy it again from where they were "
            "made"
        ) from error
    return index


def _lines(parts: Iterable[str]) -> str:
    return ",\n".join(parts)


def _missing(rows: list[dict[str, Any]]) -> dict[str, tuple[MissingSample, ...]]:
    found: dict[str, list[MissingSample]] = {}
    for row in rows:
        one = MissingSample(path=Path(row["name"]), label=row["label"], listed=row["listed"])
        found.setdefault(row["split"], []).append(one)
    return {split: tuple(missing) for split, missing in found.items()}


def _entry(row: list[Any]) -> Entry:
    member, offset, size, label, place, name, fps, *times = row
    start, end = map(float, times) if times else (None, None)
    numbers = {"offset": int(offset), "size": int(size), "label": int(label), "place": int(place)}
    rate = None if fps is None else float(fps)
    return Entry(member=str(member), name=str(name), fps=rate, start=start, end=end, **numbers)


def _check(index: Index) -> None:
    files = [shard.file for shard in index.shards]
    if len(set(files)) != len(files) or any("/" in file or "\\" in file for file in files):
        raise ValueError("the names of its shards repeat, or lead elsewhere")
    for split in {shard.split for shard in index.shards}:
        if split not in SPLITS:
            raise ValueError(f"{split} is none of {', '.join(SPLITS)}")
        places = sorted(entry.place for shard in index.shards if shard.split == split for entry in shard.entries)
        if places != list(range(len(places))):
            raise ValueError(f"samples of {split} are missing or there twice")
    for shard in index.shards:
        for entry in shard.entries:
            if not 0 <= entry.label < len(index.classes):
                raise ValueError(f"label {entry.label} of {shard.file}/{entry.member} is outside its classes")
            if not 0 <= entry.offset <= entry.offset + entry.size <= shard.bytes:
                raise ValueError(f"{shard.file}/{entry.member} lies outside its shard")
            if entry.start is not None and entry.end is not None and not 0 <= entry.start <= entry.end < math.inf:
                raise ValueError(f"a part of {shard.file}/{entry.member} from {entry.start} to {entry.end} s")
