"""Folders of copies that take so many bytes and no more: those that were used last stay. Processes may share one.

What is read of files at URLs is kept in one where the user allows it, so that the next epoch or run finds it here.
"""

import contextlib
import hashlib
import logging
import os
import re
from functools import lru_cache
from pathlib import Path

from dualformer.files import FileWriteError, atomic_write
from dualformer.user_cache import user_cache

SIZE_VARIABLE = "DUALFORMER_REMOTE_CACHE_GB"
_PART = re.compile(r"\.?[0-9a-f]{64}\.part(\.[0-9a-f]+\.tmp)?")
"""Names in the folder: also of what a process that was killed left."""
_FULL, _AFTER = 0.95, 0.8
"""Shares of the limit: at the first room is made, and the second is left."""
_SHARE = 8
"""The part of the room that a process fills before it looks again how much the others have left."""

_log = logging.getLogger("dualformer")


class PartCache:
    """Keeps parts of files in ``folder``, at most ``limit`` bytes, under names that tell nothing of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit, self._room = folder, limit, 0

    def read(self, name: str, size: int) -> bytes | None:
        """Returns the part that was kept under a name, if it is here, can be read, and has ``size`` bytes."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            mark_used(path)
        except OSError:
            return None
        return data if len(data) == size else None

    def write(self, name: str, data: bytes) -> None:
        """Keeps a part, unless it alone would take most of the room. Where that fails, it says so, once, and no more is
        kept: whoever reads a video has its bytes."""
        if len(data) > self._limit * (1 - _AFTER):
            return
        try:
            if len(data) > self._room:
                most = int(_FULL * self._limit) - len(data)
                evict_oldest(self._folder, _PART, limit=most, leave=int(_AFTER * self._limit))
                left = self._limit - sum(size for _, size, _ in _files(self._folder, _PART))
                self._room = max(len(data), left // _SHARE)
            atomic_write(self._path(name), lambda path: path.write_bytes(data))
        except (OSError, FileWriteError) as error:
            _log.warning("%s: parts of files at URLs are not kept any more (%s)", self._folder, error)
            self._limit = 0
        self._room -= len(data)

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()}.part"


def part_cache() -> PartCache | None:
    """Returns the cache that the environment asks for, with so many gigabytes as `SIZE_VARIABLE` says; None without it.

    Raises ``ValueError`` for what is no size.
    """
    return _part_cache(os.environ.get(SIZE_VARIABLE, ""), user_cache())


@lru_cache(maxsize=1)
def _part_cache(text: str, folder: Path | None) -> PartCache | None:
    try:
        limit = int(float(text or 0) * 1e9)
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise ValueError(f"{SIZE_VARIABLE}={text}: not a number of gigabytes, such as 20; 0 or nothing keeps nothing")
    return PartCache(folder / "remote", limit) if limit and folder else None


def mark_used(path: Path) -> bool:
    """Marks a file as used now; False if it is not there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def evict_oldest(
    folder: Path, names: re.Pattern[str], *, limit: int, leave: int | None = None, keep: Path | None = None
) -> None:
    """Where files of these ``names`` have more than ``limit`` bytes, removes what was not used for longest, down to
    ``leave`` bytes (default: ``limit``). ``keep`` stays."""
    files = sorted(_files(folder, names))
    total = sum(size for _, size, _ in files)
    if total <= limit:
        return
    for _, size, path in files:
        if total <= (limit if leave is None else leave):
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= size


def _files(folder: Path, names: re.Pattern[str]) -> list[tuple[float, int, Path]]:
    """Returns when each file was used, and its size."""
    found: list[tuple[float, int, Path]] = []
    with contextlib.suppress(FileNotFoundError):  # there is no folder yet
        for path in folder.iterdir():
            if names.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):  # another process removes, too
                    facts = path.stat()
                    found.append((facts.st_mtime_ns, facts.st_size, path))
    return found
