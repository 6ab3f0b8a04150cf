"""Reads and writes tables with one row for each file: CSV, JSON lines, Parquet, or NumPy's .npy with a CSV beside it.

A row is a dict by column; None stands for no value. Rows are written as they come, so that a table may be larger than
memory.
"""

import base64
import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dualformer.errors import DualFormerError
from dualformer.files import atomic_write, write_csv

ColumnType = Literal["text", "number", "count", "vector", "input"]
"""``input``: text that came with the list of files, and that tables need not have."""
Columns = Mapping[str, ColumnType]
Row = dict[str, Any]
"""Text, a float, an int, or for a vector a NumPy array (C,) of float32."""

LATER_COLUMNS: Columns = {"labels": "text", "notes": "text"}
"""Columns that tables did not have at first, where rows have none in them."""

_AT_ONCE = 4096
"""Rows of Parquet that are gathered."""
_ESCAPE = re.compile(r"\\u(d[89a-f][0-9a-f]{2}|005c)")
_TO_ESCAPE = re.compile(r"[\ud800-\udfff]|\\(?=u(?:d[89a-f][0-9a-f]{2}|005c))")
"""A backslash is escaped where it would begin an escape."""


class TableError(DualFormerError):
    """A table that cannot be read or written. The message names it."""


def formats(columns: Columns) -> tuple[str, ...]:
    """Returns the endings of files that such a table can be written to."""
    return (".npy", ".parquet", ".jsonl") if "vector" in columns.values() else (".parquet", ".csv", ".jsonl")


def check_format(path: Path, columns: Columns) -> None:
    """Raises ``ValueError`` for another ending, `TableError` where what writes such files is not installed."""
    if path.suffix.lower() not in formats(columns):
        known = ", ".join(formats(columns))
        raise ValueError(f"{path}: answers are written to files that end in {known}, not {path.suffix or 'nothing'}")
    if path.suffix.lower() == ".parquet":
        _pyarrow(path)


def index_of(path: Path) -> Path:
    """Returns the CSV file that names the file of each row of ``path``, an .npy file."""
    return path.with_name(f"{path.name}.csv")


def write_table(path: Path, columns: Columns, rows: Iterable[Row], *, width: int | None = None) -> None:
    """Writes a file whole or not at all. ``width``: length of the vectors, needed for .npy, where those of rows without
    one are NaN."""
    ending = path.suffix.lower()
    if ending == ".npy":
        assert width is not None
        rows = list(rows)
        atomic_write(path, lambda temporary: _write_npy(temporary, columns, rows, width))
        path, columns, ending = index_of(path), _without_vectors(columns), ".csv"
    if ending == ".parquet":
        pa, parquet = _pyarrow(path)
        atomic_write(path, lambda temporary: _write_parquet(pa, parquet, temporary, columns, rows))
    elif ending == ".jsonl":
        atomic_write(path, lambda temporary: _write_lines(temporary, columns, rows))
    else:
        cells = (["" if row.get(name) is None else row[name] for name in columns] for row in rows)
        write_csv(path, list(columns), cells)


def read_table(path: Path, columns: Columns) -> Iterator[Row]:
    """Yields the rows of such a file. Raises `TableError` for a file that is no table with these columns."""
    ending = path.suffix.lower()
    try:
        if ending == ".npy":
            yield from _read_npy(path, columns)
        elif ending == ".parquet":
            yield from _read_parquet(path, columns)
        elif ending == ".jsonl":
            with path.open(encoding="utf-8") as file:
                yield from (row_from_json(line, columns) for line in file)
        else:
            yield from _read_csv(path, columns)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise TableError(
            f"{path}: it does not hold answers that could be gone on from ({' '.join(str(error).split())}); "
            "choose another `out`, or say `fresh=True` to replace it"
        ) from error


def row_to_json(row: Row, columns: Columns) -> str:
    """Returns a row as one line of JSON, vectors in base 85."""
    content = {
        name: base64.b85encode(row[name].tobytes()).decode()
        if kind == "vector" and row.get(name) is not None
        else row.get(name)
        for name, kind in columns.items()
    }
    return json.dumps(content)


def row_from_json(line: str | bytes, columns: Columns) -> Row:
    """Returns the row of a line, whose vectors may also be lists of numbers. Raises ``ValueError`` for another line."""
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError(f"columns other than {', '.join(columns)}")
    _check_columns(content, columns)
    content = {name: content.get(name) for name in columns}
    for name, kind in columns.items():
        if kind == "vector" and content[name] is not None:
            value = content[name]
            data = base64.b85decode(value) if isinstance(value, str) else np.asarray(value, np.float32).tobytes()
            content[name] = np.frombuffer(data, dtype=np.float32)
    return content


def _write_lines(path: Path, columns: Columns, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({name: row.get(name) for name in columns}, default=np.ndarray.tolist) + "\n")


def _read_csv(path: Path, columns: Columns) -> Iterator[Row]:
    convert = {"text": str, "number": float, "count": int, "input": str}
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        _check_columns(header, columns)
        for line in reader:
            cells = dict(zip(header, line, strict=True))
            yield {
                name: convert[kind](text) if (text := cells.get(name, "")) else None for name, kind in columns.items()
            }


def _check_columns(found: Iterable[str], columns: Columns) -> None:
    """Raises ``ValueError`` for other columns. Those of an input may be missing, and `LATER_COLUMNS`, which tables of
    earlier versions lack."""
    found, later = list(found), [name for name in LATER_COLUMNS if name in columns]
    absent = {name for name, kind in columns.items() if kind == "input"} - set(found)
    if not set(later) & set(found):
        absent |= set(later)
    if found != [name for name in columns if name not in absent]:
        raise ValueError(f"columns other than {', '.join(columns)}")


def input_columns(path: Path, columns: Columns) -> list[str]:
    """Returns the columns that a table has besides these, such as those of the list of files that it was made from."""
    if path.suffix.lower() == ".parquet":
        _, parquet = _pyarrow(path)
        names = parquet.read_schema(os.fspath(path)).names
    elif path.suffix.lower() == ".jsonl":
        with path.open(encoding="utf-8") as file:
            names = list(json.loads(file.readline() or "{}"))
    else:
        index = index_of(path) if path.suffix.lower() == ".npy" else path
        with index.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            names = next(csv.reader(file), [])
    return [name for name in names if name not in columns]


def _without_vectors(columns: Columns) -> Columns:
    return {name: kind for name, kind in columns.items() if kind != "vector"}


def _vector(columns: Columns) -> str:
    return next(name for name, kind in columns.items() if kind == "vector")


def _write_npy(path: Path, columns: Columns, rows: list[Row], width: int) -> None:
    name = _vector(columns)
    nothing = np.full(width, np.nan, dtype=np.float32)
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), width)}
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            file.write((nothing if row.get(name) is None else row[name]).astype("<f4").tobytes())


def _read_npy(path: Path, columns: Columns) -> Iterator[Row]:
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    name = _vector(columns)
    index = index_of(path)
    if not index.is_file():
        raise ValueError(f"{index.name} beside it is missing")
    place = -1
    for place, row in enumerate(_read_csv(index, _without_vectors(columns))):
        vector = None if row["error"] else np.array(vectors[place])
        yield {column: vector if column == name else row[column] for column in columns}
    if place + 1 != len(vectors):
        raise ValueError(f"{index.name} beside it has {place + 1} rows, not {len(vectors)}")


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-not-found]  # an extra
        import pyarrow.parquet  # type: ignore[import-not-found]
    except ImportError as error:
        raise TableError(
            f"{path}: Parquet needs pyarrow, which cannot be imported ({error}); pip install 'dualformer[parquet]', or "
            "choose another ending"
        ) from error
    return pyarrow, pyarrow.parquet


def _write_parquet(pa: Any, parquet: Any, path: Path, columns: Columns, rows: Iterable[Row]) -> None:
    kinds = {"text": pa.string(), "number": pa.float64(), "count": pa.int64(), "vector": pa.list_(pa.float32())}
    kinds["input"] = pa.string()
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    rows = iter(rows)
    with parquet.ParquetWriter(os.fspath(path), schema) as writer:
        while block := list(islice(rows, _AT_ONCE)):
            content = {name: [_escaped(row.get(name)) for row in block] for name in columns}
            writer.write_table(pa.table(content, schema=schema))


def _escaped(value: Any) -> Any:
    """Returns text with escapes for what is no text, which a file's name may hold and Parquet does not."""
    return _TO_ESCAPE.sub(lambda match: f"\\u{ord(match[0]):04x}", value) if isinstance(value, str) else value


def _unescaped(value: Any) -> Any:
    """Returns what `_escaped` was given."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), value) if isinstance(value, str) else value


def _read_parquet(path: Path, columns: Columns) -> Iterator[Row]:
    pa, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(os.fspath(path)) as file:
            _check_columns(file.schema_arrow.names, columns)
            for batch in file.iter_batches(_AT_ONCE):
                for row in batch.to_pylist():
                    yield {
                        name: np.asarray(row[name], np.float32)
                        if kind == "vector" and row[name] is not None
                        else _unescaped(row.get(name))
                        for name, kind in columns.items()
                    }
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from error
