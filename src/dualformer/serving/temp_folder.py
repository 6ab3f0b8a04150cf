"""A private folder for a server's temporary files, removed even where the server was killed."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dualformer.errors import DualFormerError

_PREFIX = "dualformer-serve-"
_LOCK = "in-use"
_ATTEMPTS = 20


class TempFolder:
    """A folder that nobody else may read, below ``parent`` (the system's temporary folder).

    A server that was killed leaves its folder behind; making a new one removes it. A running server holds a lock on a
    file in its folder, by which the two are told apart. Raises ``FileNotFoundError`` where ``parent`` is no folder, and
    ``DualFormerError`` where nothing can be locked below it.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        if not parent.is_dir():
            raise FileNotFoundError(f"{parent}: there is no such folder for temporary files: choose another `temp`")
        remove_stale(parent)
        for _ in range(_ATTEMPTS):
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = FileLock(self.path / _LOCK)
            try:
                self._lock.acquire(blocking=False)
            except (Timeout, OSError):  # another server that starts just now takes it for one that was left
                shutil.rmtree(self.path, ignore_errors=True)
                continue
            if self.path.exists():
                return
        raise DualFormerError(f"{parent}: no file can be locked there, as a server needs: choose another `temp`")

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Yields a path for a new file and removes the file at the end, if there is one."""
        path = self.path / secrets.token_hex(8)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the folder with its files. A second call does nothing."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def remove_stale(parent: Path) -> list[Path]:
    """Removes the folders of servers that no longer run and returns their paths."""
    removed: list[Path] = []
    for path in parent.glob(f"{_PREFIX}*"):
        if not path.is_dir() or path.is_symlink():
            continue
        with suppress(Timeout, OSError):  # a server lives in it, or somebody else has just removed it
            if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
                continue
            with FileLock(path / _LOCK).acquire(blocking=False):
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
    return removed
