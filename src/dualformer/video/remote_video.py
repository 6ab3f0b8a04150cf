"""Videos at URLs: of a file whose server serves parts of it, those parts are fetched that are read, and kept a while:
in memory, and on disk where the user allows it.

The packets of an MP4 are listed in its header. FFmpeg lists them by reading all of the file; here it gets zeros in
place of what the packets hold, so that a clip of a film of hours takes a part of the film.
"""

import hashlib
import struct
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from dualformer.disk_cache import PartCache, part_cache
from dualformer.remote_files import NoRangesError, RefusedError, RemoteError, fetch, read_range, remote_info
from dualformer.remote_paths import RemotePath, as_path
from dualformer.urls import TABLES, exact_url
from dualformer.video.archive_members import ArchiveMember, open_member, split_member
from dualformer.video.buffered_file import BufferedFile, buffer_temporary, format_name, temporary_file
from dualformer.video.container import OpenVideo, UnreachableError, VideoError
from dualformer.video.file_slices import FileSlice, SliceReader
from dualformer.video.frame_table import PacketTable, read_packets
from dualformer.video.table_cells import TableCell, open_cell

_BLOCK = 2**20
"""Bytes that are fetched at least, but at the end of a file."""
_LONGEST_RUN = 8
"""Blocks that one request fetches where a file is read from its start to its end, and the largest file that is fetched
as a whole."""
_KEPT = 64 * 2**20
"""Bytes of blocks that a process keeps."""
_FRESH = 60.0
"""Seconds for which a server is not asked for the size of a file again."""
_TRIES = 2
"""Of a URL that does not answer."""
_MOST_BOXES = 64


@dataclass(frozen=True, kw_only=True)
class RemoteFile(FileSlice):
    """A file at a URL whose parts can be fetched."""

    at: RemotePath
    version: str = ""

    def __str__(self) -> str:
        return str(self.at)

    @property
    def is_fetched(self) -> bool:
        return True

    @property
    def content_key(self) -> str | None:
        return f"{self.at} {self.version}" if self.version else None

    def read_part(self, start: int, size: int) -> bytes:
        """Reads a part by a request of its own, unless it is kept on disk. Errors: :class:`VideoError`."""
        end = min(start + size, self.size)
        disk, name = self.kept_parts(), self.part_name(f"{start}-{end}")
        if disk and (data := disk.read(name, end - start)) is not None:
            return data
        with errors_of(self.at):
            data = read_range(str(self), start, end, self.size)
        if disk:
            disk.write(name, data)
        return data

    def kept_parts(self) -> PartCache | None:
        """Returns where parts are kept on disk; None where they are not, or nothing tells when the file changes."""
        return part_cache() if self.version else None

    def part_name(self, part: str) -> str:
        """Returns what a part is called there: never as that of another file, or of this one before it was changed."""
        return "\n".join((str(self.at), self.version, str(self.size), part))

    def open_unbuffered(self) -> SliceReader:
        return SliceReader(_PartReader(self), 0, self.size)  # type: ignore[arg-type]  # it seeks, reads and closes


def open_remote(path: RemotePath) -> RemoteFile | ArchiveMember | BufferedFile | TableCell:
    """Asks for a file at a URL, in an archive or in a table, and fetches one that is given only as a whole.

    Raises :class:`VideoError` where there is none, or the server refuses it, `UnreachableError` for other failures.
    """
    if member := split_member(path):
        kind, name, where = member
        archive = as_path(where)
        opened = _open_archive(archive) if isinstance(archive, RemotePath) else archive
        return (open_cell if kind in TABLES else open_member)(path, kind, name, opened)
    _, file = _look_up(path, exact_url(str(path)), int(time.monotonic() / _FRESH))
    return file or _fetch(path)


def remote_stamp(path: RemotePath) -> tuple[int, int]:
    """Returns the bytes of a file at a URL, and a number that is another one when the file has been changed.

    Bytes are -1 where the server does not tell; (-1, 0) where it does not tell one version from another. Errors: those
    of `open_remote`.
    """
    if split_member(path):
        file = open_remote(path)
        size, key = file.size, file.content_key
    else:
        version, file = _look_up(path, exact_url(str(path)), int(time.monotonic() / _FRESH))
        size, key = file.size if file else -1, f"{path} {version}" if version else None
    return (size, int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")) if key else (-1, 0)


def _open_archive(path: RemotePath) -> RemoteFile | ArchiveMember | BufferedFile | TableCell:
    """Does the same for an archive or a table, of which the last one that was fetched whole is kept for its next file
    while the server says that it is the same."""
    if split_member(path) is None:
        version, file = _look_up(path, exact_url(str(path)), int(time.monotonic() / _FRESH))
        if file is None and version:
            return _fetched(path, version)
    return open_remote(path)


@lru_cache(maxsize=1)
def _fetched(path: RemotePath, _: str) -> BufferedFile:
    return _fetch(path)


def _fetch(path: RemotePath) -> BufferedFile:
    target = temporary_file()
    try:
        with errors_of(path):
            fetch(str(path), target)
    except BaseException:
        target.unlink()
        raise
    return buffer_temporary(str(path), format_name(path), target)


@lru_cache(maxsize=1024)
def _look_up(path: RemotePath, exact: str, _: int) -> tuple[str, RemoteFile | None]:
    """Returns the version of a file, and the file if its server gives parts of it."""
    with errors_of(path):
        said = remote_info(str(path), tries=_TRIES)
        if said.size is None:
            return said.version, None
        if said.size > _LONGEST_RUN * _BLOCK and exact.startswith("http"):
            try:
                read_range(str(path), 1, 2, said.size)
            except NoRangesError:
                return said.version, None
    return said.version, RemoteFile(path=format_name(path), size=said.size, at=path, version=said.version)


@contextmanager
def errors_of(path: RemotePath) -> Iterator[None]:
    """Makes of what goes wrong at a URL the errors of a video."""
    url = str(path)
    try:
        yield
    except FileNotFoundError:
        raise VideoError(url, "there is no such file") from None
    except RefusedError as error:
        raise VideoError(url, error.reason) from None
    except RemoteError as error:
        raise UnreachableError(url, error.reason) from None
    except ValueError as error:  # a package is missing
        raise VideoError(url, str(error).removeprefix(f"{url}: ")) from error


class _Blocks:
    """The blocks of files that were read last, at most `_KEPT` bytes in memory, and on disk as the user allows.

    Threads may share it, and forks have copies.
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, str, int, int], bytes] = OrderedDict()

    def get(self, file: RemoteFile, number: int, *, run: int) -> bytes:
        """Returns a block, fetched with the ``run`` blocks from it on if it is not here."""
        name = (str(file), file.version, file.size)
        found = self._blocks.pop((*name, number), None)
        if found is not None:
            self._blocks[(*name, number)] = found
            return found
        disk, start = file.kept_parts(), number * _BLOCK
        kept = file.part_name(f"{start}-{min(start + _BLOCK, file.size)}")
        if disk and (data := disk.read(kept, min(_BLOCK, file.size - start))) is not None:
            self._keep((*name, number), data)
            return data
        small = file.size <= _LONGEST_RUN * _BLOCK
        first, last = (0, file.size) if small else (start, min(start + run * _BLOCK, file.size))
        with errors_of(file.at):
            data = read_range(str(file), first, last, file.size)
        for place in range(first, last, _BLOCK):
            block = data[place - first : place - first + _BLOCK]
            self._keep((*name, place // _BLOCK), block)
            if disk:
                disk.write(file.part_name(f"{place}-{place + len(block)}"), block)
        return data[start - first : start - first + _BLOCK]

    def _keep(self, name: tuple[str, str, int, int], block: bytes) -> None:
        self._blocks[name] = block
        while len(self._blocks) * _BLOCK > _KEPT:
            try:
                self._blocks.popitem(last=False)
            except KeyError:  # another thread has
                break


_blocks = _Blocks()


class _PartReader:
    """Reads a file at a URL block by block: the longer from one place on, the more blocks by one request."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._place = file, 0
        self._next, self._run = -1, 1

    def seek(self, place: int) -> None:
        self._place = place

    def read(self, size: int) -> bytes:
        number, offset = divmod(self._place, _BLOCK)
        if number == self._next:
            self._run = min(2 * self._run, _LONGEST_RUN)
        elif number != self._next - 1:
            self._run = 1
        self._next = number + 1
        data = _blocks.get(self._file, number, run=self._run)[offset : offset + size]
        self._place += len(data)
        return data

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class _Blanked(FileSlice):
    """A file whose ``content`` reads as zeros once that is ``on``."""

    whole: FileSlice
    content: Sequence[tuple[int, int]]
    on: list[bool] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.whole)

    def open_unbuffered(self) -> SliceReader:
        return SliceReader(_BlankingReader(self), 0, self.size)  # type: ignore[arg-type]


class _BlankingReader:
    def __init__(self, file: _Blanked) -> None:
        self._blanked, self._file, self._place = file, file.whole.open_unbuffered(), 0

    def seek(self, place: int) -> None:
        self._place = place

    def read(self, size: int) -> bytes:
        for start, end in self._blanked.content if self._blanked.on else ():
            if start <= self._place < end:
                size = min(size, end - self._place)
                self._place += size
                return bytes(size)
            if self._place < start:
                size = min(size, start - self._place)
        self._file.seek(self._place)
        data = self._file.read(size) or b""
        self._place += len(data)
        return data

    def close(self) -> None:
        self._file.close()


def list_by_header(video: OpenVideo) -> PacketTable | None:
    """Returns the packets of a large MP4 at a URL, of which little more than its header is read; None for others."""
    file = video.path
    if not isinstance(file, FileSlice) or not file.is_fetched or file.size <= _LONGEST_RUN * _BLOCK:
        return None
    if "mp4" not in video.container.format.name:
        return None
    content = [box for kind, *box in _boxes(file) if kind == b"mdat"]
    if not content:
        return None
    blanked = _Blanked(path=file.path, size=file.size, whole=file, content=[(start, end) for start, end in content])
    lister = OpenVideo(blanked, 1)  # another one, whose buffers come to hold zeros
    try:
        blanked.on.append(True)
        packets, _ = read_packets(lister, keep=0)
        entries = getattr(lister.stream, "index_entries", ())
        if len(entries) != len(packets.pts):
            return None
        # FFmpeg looks for some key frames in what packets hold: those that the header names are enough.
        keys = [number for number, entry in enumerate(entries) if entry.is_keyframe]
    finally:
        lister.close()
    return replace(packets, keys=np.asarray(keys, dtype=np.int64))


def _boxes(file: FileSlice) -> Iterator[tuple[bytes, int, int]]:
    """Yields the outermost boxes of an MP4 as (kind, start of the content, end); nothing for one in fragments, whose
    headers lie all over it."""
    found: list[tuple[bytes, int, int]] = []
    place = 0
    with file.open() as data:
        while place + 8 <= file.size:
            data.seek(place)
            head = data.read(16)
            size, kind = struct.unpack(">I4s", head[:8])
            inside = 8
            if size == 1 and len(head) == 16:
                (size,) = struct.unpack(">Q", head[8:])
                inside = 16
            size = size or file.size - place
            if size < inside or kind == b"moof" or len(found) == _MOST_BOXES:
                return
            found.append((kind, place + inside, min(place + size, file.size)))
            place += size
    yield from found
