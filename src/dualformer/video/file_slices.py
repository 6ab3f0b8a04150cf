"""Videos that are slices of a larger file, such as members of a tar file; they are read wherever a path is.

A slice is named by a path, as if the larger file were a folder: ``a.tar/000001.mp4``.
Imports nothing heavy.
"""

import io
import tarfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from dualformer.video.file_formats import frame_name_regex, is_frame_pattern


@dataclass(frozen=True, kw_only=True)
class FileSlice(ABC):
    """``size`` bytes that are a video, an image, or the frames of a video one behind the other, as tar members."""

    path: Path
    """Its name, whose extension tells its format, as that of a file does: ``…/000001.%05d.jpg`` for frames."""
    size: int

    @property
    def content_key(self) -> str | None:
        """What no other bytes have, where that is known without reading them."""
        return None

    @property
    def is_fetched(self) -> bool:
        """Whether what is read of it comes over a network, part by part."""
        return False

    @abstractmethod
    def open_unbuffered(self) -> "SliceReader":
        """Opens its bytes without a buffer. Raises ``FileNotFoundError`` where the larger file is gone."""

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """Opens it as `Path.open` does: a file that holds nothing else."""
        return io.BufferedReader(self.open_unbuffered())

    def __str__(self) -> str:
        return str(self.path)

    def frames(self) -> "list[FileSlice]":
        """Returns the images of a slice whose ``path`` is a pattern, in the order of their numbers, each a slice."""
        with self.open() as file, tarfile.open(fileobj=file, mode="r:") as members:
            found = [
                _Part(path=self.path.parent / m.name, size=m.size, whole=self, offset=m.offset_data) for m in members
            ]
        number = frame_name_regex(self.path.name)
        return sorted(found, key=lambda part: int(number.sub(r"\1", part.path.name)))


Media = Path | FileSlice
"""Where a video is: a file, or a slice of one."""


@dataclass(frozen=True, kw_only=True)
class LocalFileSlice(FileSlice):
    """A slice of a file on this machine, from byte ``offset`` on."""

    file: Path
    offset: int

    def open_unbuffered(self) -> "SliceReader":
        try:
            return SliceReader(self.file.open("rb", buffering=0), self.offset, self.size)
        except FileNotFoundError:
            raise FileNotFoundError(f"no such file any more: {self.file}") from None


@dataclass(frozen=True, kw_only=True)
class _Part(FileSlice):
    """A part of a slice."""

    whole: FileSlice
    offset: int

    def open_unbuffered(self) -> "SliceReader":
        return SliceReader(self.whole.open_unbuffered(), self.offset, self.size)


class SliceReader(io.RawIOBase):
    """``size`` bytes of ``file`` from ``start`` on, as a file. Closing it closes ``file``."""

    def __init__(self, file: BinaryIO | io.RawIOBase, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size = file, start, size
        self._place = 0
        self.name = ""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is private
        view = memoryview(buffer)
        wanted = min(len(view), self._size - self._place)
        if wanted <= 0:
            return 0
        self._file.seek(self._start + self._place)
        data = self._file.read(wanted) or b""
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def media_path(media: Media) -> Path:
    """Returns the path of a file, or the name of a slice."""
    return media if isinstance(media, Path) else media.path


def is_frame_folder(media: Media) -> bool:
    """Returns whether it is a folder of numbered images, named by their pattern.

    A file of that name is a file, or its name would make us read others.
    """
    return is_frame_pattern(media_path(media)) and not (isinstance(media, Path) and media.is_file())


def media_size(media: Media) -> int:
    """Returns its size in bytes. Raises ``FileNotFoundError`` for a file that is not there."""
    return media.stat().st_size if isinstance(media, Path) else media.size
