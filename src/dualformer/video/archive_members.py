"""Videos in zip and tar files: one that is stored as it is, is read where it lies; a compressed one is unpacked whole.

A tar file has no table of what is in it, and is gone through once. The tables of archives opened last are kept.
"""

import shutil
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from dualformer.errors import DualFormerError
from dualformer.remote_paths import RemotePath
from dualformer.urls import TABLES
from dualformer.video.buffered_file import BufferedFile, buffer_temporary, format_name, temporary_file
from dualformer.video.container import VideoError
from dualformer.video.file_slices import FileSlice, Media, SliceReader

_KINDS = ("zip", "tar", *TABLES)
# Besides damage: unknown compression is a NotImplementedError, and an encrypted file a RuntimeError, of zipfile.
_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error)


@dataclass(frozen=True, kw_only=True)
class ArchiveMember(FileSlice):
    """A file that is stored in an archive as it is, from byte ``offset`` of the ``archive`` on."""

    at: RemotePath
    archive: Media
    offset: int

    def __str__(self) -> str:
        return str(self.at)

    @property
    def content_key(self) -> str | None:
        if isinstance(self.archive, Path):
            return f"{self.archive} {self.archive.stat().st_mtime_ns}@{self.offset}"
        return f"{self.archive.content_key}@{self.offset}" if self.archive.content_key else None

    @property
    def is_fetched(self) -> bool:
        return isinstance(self.archive, FileSlice) and self.archive.is_fetched

    def open_unbuffered(self) -> SliceReader:
        whole = (
            self.archive.open("rb", buffering=0) if isinstance(self.archive, Path) else self.archive.open_unbuffered()
        )
        return SliceReader(whole, self.offset, self.size)


@dataclass(frozen=True)
class _Entry:
    """A file in an archive. ``offset``: of its bytes, in a zip file of their header; None for a compressed one."""

    size: int
    offset: int | None


def split_member(path: RemotePath) -> tuple[str, str, str] | None:
    """Returns kind, name and archive of a file in a zip or tar file, or in a table; None for other URLs."""
    member, _, archive = str(path).partition("::")
    kind, _, name = member.partition("://")
    return (kind, name, archive) if kind in _KINDS and name and archive else None


def open_member(path: RemotePath, kind: str, name: str, archive: Media) -> ArchiveMember | BufferedFile:
    """Opens the file ``name`` of an ``archive``. Raises :class:`VideoError` where it is not there, or damaged."""
    if isinstance(archive, Path) and not archive.is_file():
        raise VideoError(path, f"there is no such archive: {archive}")
    stamp = archive.stat().st_mtime_ns if isinstance(archive, Path) else 0
    # A copy that was fetched or unpacked whole is gone when nobody has it: no table that is kept may hold it.
    read_table = _table.__wrapped__ if isinstance(archive, BufferedFile) else _table
    try:
        entry = read_table(kind, archive, stamp).get(name)
        if entry is None:
            raise VideoError(path, "there is no such file in the archive")
        if entry.offset is not None:
            offset = _behind_header(archive, entry.offset) if kind == "zip" else entry.offset
            return ArchiveMember(path=format_name(path), size=entry.size, at=path, archive=archive, offset=offset)
        target = temporary_file()
        try:
            with archive.open("rb") as file, target.open("wb") as out:
                _unpack(kind, name, file, out)
        except BaseException:
            target.unlink()
            raise
    except DualFormerError:
        raise
    except _ERRORS as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise VideoError(path, f"its archive cannot be read ({said})") from error
    return buffer_temporary(str(path), format_name(path), target)


@lru_cache(maxsize=64)
def _table(kind: str, archive: Media, _: int) -> dict[str, _Entry]:
    """Returns the files in an archive by name."""
    with archive.open("rb") as file:
        if kind == "zip":
            with zipfile.ZipFile(file) as members:
                return {info.filename: _zip_entry(info) for info in members.infolist() if not info.is_dir()}
        with tarfile.open(fileobj=file, mode="r:*") as members:
            plain = members.fileobj is file
            return {
                info.name.removeprefix("./"): _Entry(info.size, info.offset_data if plain else None)
                for info in members
                if info.isfile()
            }


def _zip_entry(info: zipfile.ZipInfo) -> _Entry:
    packed = info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1  # encrypted: unpacking it says so
    return _Entry(info.file_size, None if packed else info.header_offset)


def _behind_header(archive: Media, offset: int) -> int:
    """Returns where the bytes of a file in a zip file begin, whose header is at ``offset``."""
    with archive.open("rb") as file:
        file.seek(offset)
        name, extra = struct.unpack("<26x2H", file.read(30))
    return offset + 30 + name + extra


def _unpack(kind: str, name: str, file: IO[bytes], out: IO[bytes]) -> None:
    if kind == "zip":
        with zipfile.ZipFile(file) as members, members.open(name) as member:
            shutil.copyfileobj(member, out)
        return
    with tarfile.open(fileobj=file, mode="r:*") as members:
        for info in members:
            if info.isfile() and info.name.removeprefix("./") == name and (found := members.extractfile(info)):
                shutil.copyfileobj(found, out)
                return
