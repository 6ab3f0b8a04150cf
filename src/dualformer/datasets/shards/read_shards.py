"""Reads a folder or URL of shards as the lists of videos that they were made from, and compares checksums."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dualformer.datasets.benchmarks.listing import Listing
from dualformer.datasets.manifest import Verdict
from dualformer.datasets.samples import ArchivedSample, ArchivedSegment, DatasetError, VideoList
from dualformer.datasets.shards.shard_index import FORMAT, INDEX, SPLITS, Entry, Index, Shard, read_index
from dualformer.datasets.shards.storage import (
    RemoteFileSlice,
    RemoteShard,
    ShardCache,
    read_chunks,
    read_remote_text,
    remote_sizes,
)
from dualformer.remote_paths import RemotePath, as_path, is_listed_file
from dualformer.video.file_slices import FileSlice, LocalFileSlice
from dualformer.video.video_segment import VideoSegment

PREFIX = "shards:"
PARTIAL = f"{INDEX}.partial"
"""The file in place of the index while shards are being written."""


@dataclass(frozen=True, kw_only=True)
class ShardLocation:
    """Where shards are: a folder or a URL."""

    folder: Path
    """Of a URL, its `RemotePath`."""
    url: str | None = None

    def __str__(self) -> str:
        return self.url or str(self.folder)


def find_shards(data: str | Path) -> ShardLocation | None:
    """Returns where the shards are that ``data`` names, or None for other data.

    Shards are named by a folder, or a URL of one, with an index of shards in it, the index itself, or anything behind
    ``shards:``. Raises `StorageError` where a server does not say whether there is an index.
    """
    text = str(data)
    named = text.removeprefix(PREFIX)
    path = as_path(named).expanduser()
    folder = path.parent if path.name == INDEX else path
    if isinstance(folder, RemotePath):
        said = text != named or path != folder
        there = said or (not is_listed_file(folder) and _is_remote_index(str(folder / INDEX)))
        return ShardLocation(folder=folder, url=str(folder)) if there else None
    if text != named or (folder / PARTIAL).is_file() or _is_index(folder / INDEX):
        return ShardLocation(folder=folder.resolve())
    return None


def read_shards(at: ShardLocation, *, cache: ShardCache | None = None) -> Listing:
    """Reads every split, each with its videos in the order that they had before.

    ``cache``: where to keep shards of a URL; without it, each video is fetched when it is read.
    Raises ``FileNotFoundError`` where there is no index, `DatasetError` for a damaged one, for a shard that is
    missing or has another size than it had, and for shards that are still being written.
    """
    index = load_index(at)
    _check_sizes(at, index)
    splits: dict[str, VideoList] = {}
    for split in SPLITS:
        found = [(shard, entry) for shard in index.shards if shard.split == split for entry in shard.entries]
        missing = index.missing.get(split, ())
        if not found and not missing:
            continue
        files = {shard.file: _file(at, shard, cache) for shard in index.shards if shard.split == split}
        found.sort(key=lambda pair: pair[1].place)
        splits[split] = VideoList(
            classes=index.classes,
            samples=tuple(_sample(entry, *files[shard.file]) for shard, entry in found),
            source=f"shards {at}, {split}",
            missing=missing,
            manifest_hash=index.manifest_hash,
        )
    return Listing(title=f"shards {at}", classes=index.classes, splits=splits, notes=(f"from {index.made_from}",))


def damaged_shards(at: ShardLocation, *, progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
    """Reads all shards and returns the file names of those that are not as they were written, with the reason.

    ``progress`` is called with the number of shards read and their total. Raises as `read_shards` does.
    """
    shards = load_index(at).shards
    damaged: dict[str, str] = {}
    for done, shard in enumerate(shards, 1):
        digest = hashlib.sha256()
        for part in read_chunks(f"{at.url}/{shard.file}" if at.url else at.folder / shard.file):
            digest.update(part)
        if digest.hexdigest() != shard.sha256:
            damaged[shard.file] = "its checksum is not that of the shard that was written: copy it again"
        if progress is not None:
            progress(done, len(shards))
    return damaged


def mark_damaged(verdicts: list[Verdict], damaged: Mapping[str, str]) -> list[Verdict]:
    """Returns the verdicts with videos in damaged shards bad, even where they decode."""
    return [
        Verdict(path=v.path, ok=False, reason=f"its shard is damaged: {damaged[v.path.parent.name]}")
        if v.ok and v.path.parent.name in damaged
        else v
        for v in verdicts
    ]


def _is_remote_index(url: str) -> bool:
    try:
        return FORMAT in read_remote_text(url)[:200]
    except FileNotFoundError:
        return False


def _is_index(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return FORMAT.encode() in file.read(200)


def load_index(at: ShardLocation) -> Index:
    """Reads the index of shards. Raises ``FileNotFoundError`` where there is none, `DatasetError` for a damaged one."""
    name = f"{at}/{INDEX}"
    if at.url:
        try:
            return read_index(read_remote_text(name), name)
        except FileNotFoundError:
            raise FileNotFoundError(f"no shards at {at}: there is no {INDEX}") from None
    path = at.folder / INDEX
    if path.is_file():
        return read_index(path.read_text("utf-8", "replace"), name)
    if (at.folder / PARTIAL).is_file():
        raise DatasetError(f"{at}: these shards are not complete: give the command again that writes them")
    raise FileNotFoundError(f"no shards at {at}: there is no {INDEX}, which `dualformer shards` writes beside them")


def _check_sizes(at: ShardLocation, index: Index) -> None:
    if at.url:
        found = remote_sizes([f"{at.url}/{shard.file}" for shard in index.shards])
    else:
        found = [_size(at.folder / shard.file) for shard in index.shards]
    for shard, size in zip(index.shards, found, strict=True):
        if size not in (shard.bytes, -1):  # a server need not tell
            raise DatasetError(
                f"{at}/{shard.file}: {size} bytes, where {shard.bytes} were written: copy this shard again"
            )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise DatasetError(f"{path}: this shard is missing: copy it here from where the others are from") from None


def _file(at: ShardLocation, shard: Shard, cache: ShardCache | None) -> tuple[Path, RemoteShard | None]:
    file = at.folder / shard.file
    if at.url is None:
        return file, None
    url = f"{at.url}/{shard.file}"
    return file, RemoteShard(url=url, bytes=shard.bytes, sha256=shard.sha256, cache=cache)


def _sample(entry: Entry, file: Path, remote: RemoteShard | None) -> ArchivedSample:
    path = file / entry.member
    piece: FileSlice
    if remote is None:
        piece = LocalFileSlice(path=path, size=entry.size, file=file, offset=entry.offset)
    else:
        piece = RemoteFileSlice(path=path, size=entry.size, shard=remote, offset=entry.offset)
    about = {"label": entry.label, "fps": entry.fps, "piece": piece, "original": entry.name}
    if entry.start is None or entry.end is None:
        return ArchivedSample(path=path, **about)
    part = VideoSegment(file=piece, start=entry.start, end=entry.end)
    return ArchivedSegment(path=part.path, segment=part, **about)
