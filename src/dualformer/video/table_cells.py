"""Videos in the cells of Parquet and Arrow tables, as data sets of Hugging Face hold them.

A cell is named ``parquet://COLUMN/ROW/NAME::table.parquet``. It holds bytes, or the record of bytes and path that
Hugging Face makes of a video or an image; a list of either are the images of one video, whose NAME is a pattern.

Parquet is compressed and read by the row group: what a cell's row group holds of its column is unpacked to a temporary
file, and the groups that were read last stay. An Arrow file is neither, and its cells are read where they lie.
"""

import io
import os
import tarfile
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import IO, Any
from urllib.parse import quote, unquote

import numpy as np

from dualformer.remote_paths import RemotePath
from dualformer.video.buffered_file import BufferedFile
from dualformer.video.container import VideoError
from dualformer.video.file_slices import FileSlice, Media, SliceReader

_KEPT = 10**9
"""Bytes of temporary files that a process keeps, and of one row group in any case."""
_AT_ONCE = 2**20
PYARROW = "reading Parquet and Arrow takes pyarrow: pip install 'dualformer[parquet]'"


@dataclass(frozen=True, kw_only=True)
class TableCell(FileSlice):
    """The bytes of a cell, which lie in the file ``holder`` from byte ``offset`` on."""

    at: RemotePath
    holder: Media
    offset: int
    version: str
    """Of the table, as far as it is known."""

    def __str__(self) -> str:
        return str(self.at)

    @property
    def content_key(self) -> str | None:
        return f"{self.at} {self.version}" if self.version else None

    def open_unbuffered(self) -> SliceReader:
        holder = self.holder
        whole = holder.open("rb", buffering=0) if isinstance(holder, Path) else holder.open_unbuffered()
        return SliceReader(whole, self.offset, self.size)


def name_cell(kind: str, column: str, row: int, name: str, table: str) -> str:
    """Returns the URL of a cell. ``name``: a file's, or a pattern of numbered images."""
    return f"{kind}://{quote(column, safe='')}/{row}/{name}::{table}"


def open_cell(path: RemotePath, kind: str, name: str, table: Media) -> TableCell:
    """Opens the cell ``name`` (COLUMN/ROW/NAME) of a ``table``. Raises :class:`VideoError`."""
    column, _, rest = name.partition("/")
    row, _, file = rest.partition("/")
    if not row.isdecimal():
        raise VideoError(path, f"a cell is named {kind}://COLUMN/ROW/NAME::TABLE")
    if isinstance(table, Path) and not table.is_file():
        raise VideoError(path, f"there is no such table: {table}")
    version = str(table.stat().st_mtime_ns) if isinstance(table, Path) else table.content_key or ""
    with _errors(path):
        read = _parquet_cell if kind == "parquet" else _arrow_cell
        holder, offset, size = read(table, version, unquote(column), int(row))
    return TableCell(path=Path(file or row), size=size, at=path, holder=holder, offset=offset, version=version)


def _parquet_cell(table: Media, version: str, column: str, row: int) -> tuple[Media, int, int]:
    # As in an archive, a copy that was fetched whole is not to be held.
    ends = (_group_ends.__wrapped__ if isinstance(table, BufferedFile) else _group_ends)(table, version)
    group = next((number for number, end in enumerate(ends) if row < end), None)
    if group is None:
        raise LookupError(f"it has {ends[-1] if ends else 0} rows")
    unpacked = _unpacked.get(table, version, column, group)
    return unpacked.file, *_present(unpacked.places[row - ends[group] + unpacked.rows])


def _arrow_cell(table: Media, version: str, column: str, row: int) -> tuple[Media, int, int]:
    if not isinstance(table, Path):
        raise LookupError("an Arrow file is read on this machine alone: copy it here, or write the data as Parquet")
    start, content = _map_arrow(table, version)
    if row >= content.num_rows:
        raise LookupError(f"it has {content.num_rows} rows")
    if column not in content.schema.names:
        raise LookupError(f"it has no column {column!r}")
    chunks = content.column(column).chunks
    number = next(i for i, end in enumerate(accumulate(map(len, chunks))) if row < end)
    cells, row = chunks[number], row - sum(map(len, chunks[:number]))
    if _is_list(cells.type):
        data = io.BytesIO()
        _write_frames(_frames_of(cells[row]) or [], data)
        held = BufferedFile(path=table, size=data.tell(), name=str(table), data=data.getvalue())
        return held, 0, held.size
    return table, *_present(_place_of(cells, row, start))


def _place_of(cells: Any, row: int, start: int) -> tuple[int, int] | None:
    """Returns where the bytes of a row lie in a file that is mapped at the address ``start``; they are not copied."""
    import pyarrow as pa

    if pa.types.is_struct(cells.type):
        cells = cells.field("bytes")
    if cells.slice(row, 1).null_count:
        return None
    _check_bytes(cells.type)
    _, ends, data = cells.buffers()
    kind = np.int64 if pa.types.is_large_binary(cells.type) else np.int32
    first, end = np.frombuffer(ends, dtype=kind)[cells.offset + row :][:2].tolist()
    return data.address + first - start, end - first


def _present(place: tuple[int, int] | None) -> tuple[int, int]:
    if place is None:
        raise LookupError("the cell holds no bytes")
    return place


@dataclass(frozen=True)
class _Unpacked:
    """What a row group holds of a column: a file, and where in it each of its ``rows`` lies; None without bytes."""

    file: BufferedFile
    places: list[tuple[int, int] | None]

    @property
    def rows(self) -> int:
        return len(self.places)


class _UnpackedGroups:
    """The row groups that were read last. Forks go on with those of before."""

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[str, str, str, int], _Unpacked] = OrderedDict()
        self._locks: dict[int, Lock] = {}

    def get(self, table: Media, version: str, column: str, group: int) -> _Unpacked:
        key = (str(table), version, column, group)
        with self._locks.setdefault(os.getpid(), Lock()):  # a fork may find another thread's locked
            found = self._groups.pop(key, None) or _unpack(table, column, group)
            self._groups[key] = found
            while len(self._groups) > 1 and sum(each.file.size for each in self._groups.values()) > _KEPT:
                self._groups.popitem(last=False)
        return found


_unpacked = _UnpackedGroups()


def _unpack(table: Media, column: str, group: int) -> _Unpacked:
    from pyarrow import parquet  # type: ignore[import-not-found]  # an extra

    out, places = tempfile.TemporaryFile(prefix="dualformer-"), []  # noqa: SIM115  # it stays open
    with table.open("rb") as file, parquet.ParquetFile(file, buffer_size=_AT_ONCE) as content:
        if column not in content.schema_arrow.names:
            raise LookupError(f"it has no column {column!r}")
        # One row at a time, of which each may be a film.
        for batch in content.iter_batches(1, row_groups=[group], columns=[column], use_threads=False):
            places += [_write(value, out) for value in batch.column(column)]
    out.flush()
    return _Unpacked(BufferedFile(path=Path("group"), size=out.tell(), name="group", data=out), places)


def _write(value: Any, out: IO[bytes]) -> tuple[int, int] | None:
    start = out.tell()
    frames = _frames_of(value)
    if frames is not None:
        _write_frames(frames, out)
    elif (data := _bytes_of(value)) is not None:
        out.write(data)
    else:
        return None
    return start, out.tell() - start


def _is_list(kind: Any) -> bool:
    import pyarrow as pa  # type: ignore[import-not-found]

    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _frames_of(value: Any) -> list[Any] | None:
    """Returns the images of a list; None for anything else."""
    return list(value.values) if _is_list(value.type) and value.is_valid else None


def _write_frames(frames: list[Any], out: IO[bytes]) -> None:
    """Writes images one behind the other, as tar members, by which `FileSlice.frames` finds them."""
    with tarfile.open(fileobj=out, mode="w") as members:
        for number, value in enumerate(frames):
            if (data := _bytes_of(value)) is None:
                raise LookupError(f"image {number} of the cell holds no bytes")
            entry = tarfile.TarInfo(f"{number:05d}.jpg")  # what they are is told by their content
            entry.size = data.size
            members.addfile(entry, io.BytesIO(data))


def _bytes_of(value: Any) -> Any:
    """Returns the bytes of a cell as a buffer of Arrow; None where there are none."""
    import pyarrow as pa

    if pa.types.is_struct(value.type):
        value = value["bytes"] if value.is_valid else value
    if not value.is_valid:
        return None
    _check_bytes(value.type)
    return value.as_buffer()


def _check_bytes(kind: Any) -> None:
    import pyarrow as pa

    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise LookupError(f"it holds {kind}, and no bytes")


@lru_cache(maxsize=1024)
def _group_ends(table: Media, _: str) -> list[int]:
    """Returns the number of rows up to the end of each row group."""
    from pyarrow import parquet

    with table.open("rb") as file, parquet.ParquetFile(file) as content:
        return list(accumulate(content.metadata.row_group(i).num_rows for i in range(content.num_row_groups)))


@lru_cache(maxsize=64)
def _map_arrow(table: Path, _: str) -> tuple[int, Any]:
    """Returns the address at which an Arrow file is mapped, and the table in it."""
    import pyarrow as pa

    whole = pa.memory_map(str(table)).read_buffer()
    return whole.address, pa.ipc.open_stream(whole).read_all()


@contextmanager
def _errors(path: RemotePath) -> Iterator[None]:
    """Makes of what goes wrong in a table the errors of a video."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise VideoError(path, PYARROW) from error
    try:
        yield
    except (LookupError, OSError, pa.ArrowException) as error:
        said = " ".join(str(error.args[0] if isinstance(error, LookupError) else error).split())
        raise VideoError(path, f"the table does not give it ({said})") from error
