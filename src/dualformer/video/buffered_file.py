"""The content of a file that came by another way than its path, in memory or in a temporary file."""

import io
import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

from dualformer.video.file_slices import FileSlice, SliceReader


@dataclass(frozen=True, kw_only=True, eq=False)
class BufferedFile(FileSlice):
    """The content of a file that came by another way than its path. ``data``: its bytes, or the file that keeps them.
    ``name``: in messages and answers."""

    name: str
    data: bytes | Path

    def __str__(self) -> str:
        return self.name

    def open_unbuffered(self) -> SliceReader:
        file = io.BytesIO(self.data) if isinstance(self.data, bytes) else self.data.open("rb", buffering=0)
        return SliceReader(file, 0, self.size)


def temporary_file() -> Path:
    """Makes an empty file."""
    number, name = tempfile.mkstemp(prefix="dualformer-")
    os.close(number)
    return Path(name)


def buffer_temporary(name: str, path: Path, file: Path) -> BufferedFile:
    """Returns a temporary file, which is deleted when it is no longer used. ``path``: see `FileSlice`."""
    buffered = BufferedFile(path=path, size=file.stat().st_size, name=name, data=file)
    weakref.finalize(buffered, file.unlink, missing_ok=True)
    return buffered


def format_name(path: Path) -> Path:
    """Returns a name that tells the format. Not even a URL may look like the pattern of a folder of frames."""
    return Path(path.name.replace("%", "_") or "file")
