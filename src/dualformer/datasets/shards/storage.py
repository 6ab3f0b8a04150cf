"""Reads shards from a folder, or from anything that fsspec reaches (``s3://``, ``gs://``, ``hf://``, ``https://``, …).

From a URL, each video is fetched by a request for its bytes alone, and of a large one the blocks that are read; or the
whole shard is fetched once and kept in a local folder of limited size. Requests that fail are tried again.
"""

import contextlib
import errno
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from dualformer.datasets.samples import DatasetError
from dualformer.disk_cache import evict_oldest, mark_used
from dualformer.files import partial_file
from dualformer.remote_files import open_filesystem, retry
from dualformer.remote_paths import RemotePath, as_path
from dualformer.video.container import VideoError
from dualformer.video.file_slices import FileSlice, SliceReader
from dualformer.video.remote_video import RemoteFile

_T = TypeVar("_T")
_CHUNK_BYTES = 8 * 2**20  # bytes
_AT_ONCE = 64 * 2**20
"""Bytes of a video up to which all of it is fetched at once, and not in the parts that are read."""
_CACHED = re.compile(r"[0-9a-f]{16}-.+\.tar")


class StorageError(DatasetError):
    """Storage that cannot be read, or gives the wrong bytes. The videos themselves may be good."""


@dataclass(frozen=True, kw_only=True)
class ShardCache:
    """A local folder for copies of remote shards: at most ``limit`` bytes, those that were used last."""

    folder: Path
    limit: int

    @classmethod
    def parse(cls, folder: str | Path | None, gigabytes: float) -> "ShardCache | None":
        """Returns the cache that options describe. Raises ``ValueError`` for no room."""
        if not gigabytes > 0:
            raise ValueError(f"`shard_cache_gb` must be more than 0, not {gigabytes}")
        return cls(folder=Path(folder).expanduser(), limit=int(gigabytes * 1e9)) if folder else None


@dataclass(frozen=True, kw_only=True)
class RemoteShard:
    """A shard at a URL, with the size and checksum that it must have."""

    url: str
    bytes: int
    sha256: str
    cache: ShardCache | None = None

    def as_file(self) -> RemoteFile:
        """Returns the shard as a file of which parts are fetched."""
        at = as_path(self.url)
        assert isinstance(at, RemotePath)
        return RemoteFile(path=at, size=self.bytes, at=at, version=self.sha256)


@dataclass(frozen=True, kw_only=True)
class RemoteFileSlice(FileSlice):
    """A video in a shard at a URL."""

    shard: RemoteShard
    offset: int

    def __str__(self) -> str:
        return f"{self.shard.url}/{self.path.name}"

    @property
    def content_key(self) -> str:
        return f"{self.shard.sha256}@{self.offset}+{self.size}"

    def open_unbuffered(self) -> SliceReader:
        if self.shard.cache is None and self.size > _AT_ONCE:
            return SliceReader(self.shard.as_file().open_unbuffered(), self.offset, self.size)
        if self.shard.cache is None:
            return SliceReader(io.BytesIO(fetch_part(self.shard, self.offset, self.size)), 0, self.size)
        for _ in range(10):
            copy = cached_shard(self.shard)
            with contextlib.suppress(FileNotFoundError):  # another process made room just now
                return SliceReader(copy.open("rb", buffering=0), self.offset, self.size)
        raise StorageError(f"{self.shard.cache.folder}: shards are thrown out before they are read: allow it more room")


def read_remote_text(url: str) -> str:
    """Reads a small file. Raises ``FileNotFoundError`` where there is none, and `StorageError`."""
    return _retry(url, lambda files, path: files.cat_file(path)).decode("utf-8", "replace")


@lru_cache(maxsize=1)  # a video that is opened a second time was the last one that was read
def fetch_part(shard: RemoteShard, offset: int, size: int) -> bytes:
    """Reads ``size`` bytes from ``offset`` on, by one request, or from where parts are kept. Raises `StorageError`."""
    try:
        return shard.as_file().read_part(offset, size)
    except VideoError as error:
        raise StorageError(
            f"{error}; where that is so for good, upload the shard again, or keep whole shards here with `shard_cache`"
        ) from error


def remote_sizes(urls: list[str]) -> list[int]:
    """Returns the bytes of each file. Raises `StorageError`, naming the first that is not there."""
    if not urls:
        return []
    try:
        found = _retry(urls[0], lambda files, _: files.sizes([open_filesystem(url)[1] for url in urls]))
    except FileNotFoundError:
        missing = next((url for url in urls if not _retry(url, lambda files, path: files.exists(path))), urls[0])
        raise StorageError(f"{missing}: this shard is missing: upload it from where it was made") from None
    return [-1 if size is None else int(size) for size in found]


def read_chunks(location: str | Path) -> Iterator[bytes]:
    """Yields a local file or the file at a URL from its start to its end. Raises `StorageError` for the latter."""
    if isinstance(location, Path):
        with location.open("rb") as file:
            while data := file.read(_CHUNK_BYTES):
                yield data
        return
    try:
        with _retry(location, lambda files, path: files.open(path, "rb", block_size=_CHUNK_BYTES)) as file:
            while data := _retry(location, lambda *_: file.read(_CHUNK_BYTES)):
                yield data
    except FileNotFoundError as error:
        raise StorageError(f"no such shard: {location}") from error


def cached_shard(shard: RemoteShard, *, wanted: Callable[[], bool] = lambda: True) -> Path:
    """Returns the local copy of a shard, fetched if need be; processes that want the same one wait for each other.

    ``wanted`` is asked while it is fetched: where it is not any more, that ends, with an error.
    Raises `StorageError`, also where what comes is not what the index promises.
    """
    cache = shard.cache
    assert cache is not None
    # By content: the copy of a shard that was written anew is not taken for it.
    target = cache.folder / f"{shard.sha256[:16]}-{shard.url.rsplit('/', 1)[1]}"
    try:
        if mark_used(target):
            return target
        (cache.folder / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(cache.folder / "locks" / f"{target.name}.lock"):
            if not mark_used(target):
                _fetch_shard(shard, target, wanted)
                evict_oldest(cache.folder, _CACHED, limit=cache.limit, keep=target)
    except OSError as error:
        room = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space, or lower `shard_cache_gb`" if room else "choose another `shard_cache`"
        raise StorageError(f"{cache.folder}: cannot keep shards here ({error.strerror or error}); {remedy}") from error
    return target


def _fetch_shard(shard: RemoteShard, target: Path, wanted: Callable[[], bool]) -> None:
    digest = hashlib.sha256()
    with partial_file(target) as partial:
        with partial.open("wb") as file:
            for part in read_chunks(shard.url):
                if not wanted():
                    raise StorageError(f"{shard.url}: not wanted any more")
                file.write(part)
                digest.update(part)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != shard.sha256:
            raise StorageError(f"{shard.url}: not the shard that the index was made with: upload it again")


def _retry(url: str, work: Callable[[Any, str], _T]) -> _T:
    """Returns `retry`, whose error is `StorageError`. ``work`` gets the file system and the path in it."""
    return retry(url, work, lambda location, reason: StorageError(f"{location}: {reason}"))
