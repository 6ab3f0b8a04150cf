"""The content of a file that came by another way than its path, in memory or in a temporary file."""

import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

from dualformer.video.file_slices import FileSlice, SliceReader


@dataclass(frozen=True, kw_only=True, eq=False)
class BufferedFile(FileSlice):
    """The content of a file that came by another way than its path. ``data``: its bytes, or an open temporary file,
    best without a name: it is gone with the last process that uses it, however that ends. ``name``: in messages and
    answers."""

    name: str
    data: bytes | IO[bytes]

    def __str__(self) -> str:
        return self.name

    def open_unbuffered(self) -> SliceReader:
        file = io.BytesIO(self.data) if isinstance(self.data, bytes) else _PlaceReader(self.data)
        return SliceReader(file, 0, self.size)  # type: ignore[arg-type]  # it seeks, reads and closes


class _PlaceReader:
    """Reads a file that others, threads and forks, read as well: its own place is not theirs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._place = file, 0

    def seek(self, place: int) -> None:
        self._place = place

    def read(self, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, self._place)
        with _one_reader:
            self._file.seek(self._place)
            return self._file.read(size)

    def close(self) -> None:
        pass


_one_reader = Lock()


def temporary_file() -> Path:
    """Makes an empty file."""
    number, name = tempfile.mkstemp(prefix="dualformer-")
    os.close(number)
    return Path(name)


def buffer_temporary(name: str, path: Path, file: Path) -> BufferedFile:
    """Returns a temporary file, which has no name from here on. ``path``: see `FileSlice`."""
    once = getattr(os, "O_TEMPORARY", 0)  # on Windows, which deletes no file that is open
    number = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0) | once)
    if not once:
        file.unlink()
    return BufferedFile(path=path, size=os.fstat(number).st_size, name=name, data=os.fdopen(number, "rb", buffering=0))


def format_name(path: Path) -> Path:
    """Returns a name that tells the format. Not even a URL may look like the pattern of a folder of frames."""
    return Path(path.name.replace("%", "_") or "file")
