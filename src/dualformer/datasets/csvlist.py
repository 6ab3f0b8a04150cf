"""A CSV file of videos or images: columns ``path`` and ``label``, and any others to choose rows by.

Paths are relative to the folder that the CSV file lies in, or absolute. A folder of numbered images is written as
``clip/img_%05d.jpg``, and a column ``fps`` gives its rate.
"""

import csv
import io
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dualformer.datasets.samples import DatasetError, Sample, VideoList, name_some, ordered_classes
from dualformer.video.formats import is_frame_pattern


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the file. ``values``: its fields by column, as written."""

    path: Path
    line: int
    values: Mapping[str, str]

    @property
    def is_there(self) -> bool:
        return self.path.parent.is_dir() if is_frame_pattern(self.path) else self.path.is_file()

    @property
    def fps(self) -> float | None:
        """The rate of a folder of frames, where the row gives it."""
        return float(self.values["fps"]) if is_frame_pattern(self.path) and self.values.get("fps") else None


@dataclass(frozen=True, kw_only=True)
class CsvTable:
    """A CSV file as read. ``classes`` are those of all its lines, in label order."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    classes: tuple[str, ...]


def read_csv(path: str | Path, *, bad: Collection[Path] = (), check_files: bool = True) -> CsvTable:
    """Read and check a CSV file.

    ``bad``: resolved paths of videos to leave out; their labels still count as classes. ``check_files``: whether every
    other video must exist.
    Raises ``FileNotFoundError`` where there is no such file, and :class:`DatasetError` with the line for everything
    that is wrong in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such CSV file: {path}")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}:{line}: not UTF-8: save the file in that encoding") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    columns: list[str] = []
    first_line: dict[Path, int] = {}
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if not columns:
                columns = _header(path, [field.strip() for field in fields])
                continue
            rows.append(_row(path, reader.line_num, columns, fields, first_line))
    except csv.Error as error:
        raise DatasetError(f"{path}:{reader.line_num}: {error}") from error
    if not rows:
        raise DatasetError(f"{path}: nothing in it: expected a header path,label and one line per video or image")
    classes = ordered_classes(row.values["label"] for row in rows)
    left_out = set(bad)
    rows = [row for row in rows if row.path not in left_out]
    if check_files and (missing := [row for row in rows if not row.is_there]):
        names = name_some(row.values["path"] for row in missing)
        what = f"{len(missing)} of {len(rows)} files do not exist: {names}"
        raise DatasetError(f"{path}:{missing[0].line}: {what} (paths are relative to {path.parent})")
    return CsvTable(path=path, columns=tuple(columns), rows=tuple(rows), classes=classes)


def select(table: CsvTable, where: Mapping[str, tuple[str, ...]] | None = None) -> VideoList:
    """The videos of the rows whose columns hold one of the given values each; all rows for None.

    Raises ``ValueError`` for a column or value that the table does not have, naming those that it has.
    """
    where = where or {}
    for column, values in where.items():
        if column not in table.columns:
            raise ValueError(f"{table.path} has no column {column!r}: choose from {', '.join(table.columns)}")
        there = ordered_classes(row.values[column] for row in table.rows)
        if unknown := [value for value in values if value not in there]:
            raise ValueError(
                f"{table.path}: no row has {column}={name_some(unknown)}: choose from {name_some(there, most=20)}"
            )
    label = {name: i for i, name in enumerate(table.classes)}
    samples = tuple(
        Sample(path=row.path, label=label[row.values["label"]], fps=row.fps)
        for row in table.rows
        if all(row.values[column] in values for column, values in where.items())
    )
    if not samples:
        raise ValueError(f"{table.path}: no row has {describe_where(where)} together")
    suffix = f" where {describe_where(where)}" if where else ""
    return VideoList(classes=table.classes, samples=samples, source=f"{table.path}{suffix}")


def describe_where(where: Mapping[str, tuple[str, ...]]) -> str:
    return ";".join(f"{column}={','.join(values)}" for column, values in where.items())


def parse_where(text: str) -> dict[str, tuple[str, ...]]:
    """``"batch=A,C"`` to ``{"batch": ("A", "C")}``; several columns are separated by ``;`` and must all hold."""
    where: dict[str, tuple[str, ...]] = {}
    for part in text.split(";"):
        column, equals, values = part.partition("=")
        chosen = tuple(value.strip() for value in values.split(","))
        if not equals or not column.strip() or not all(chosen) or column.strip() in where:
            raise ValueError(f"{text!r} does not say which rows: write COLUMN=VALUE,VALUE as in batch=A,C")
        where[column.strip()] = chosen
    return where


def _header(path: Path, columns: list[str]) -> list[str]:
    for needed in ("path", "label"):
        if needed not in columns:
            raise DatasetError(f"{path}:1: no column {needed!r} in the header ({', '.join(columns)}): name it so")
    if len(set(columns)) != len(columns):
        raise DatasetError(f"{path}:1: column names repeat in the header: {', '.join(columns)}")
    return columns


def _row(path: Path, line: int, columns: list[str], fields: list[str], first_line: dict[Path, int]) -> Row:
    where = f"{path}:{line}"
    if len(fields) != len(columns):
        raise DatasetError(f"{where}: {len(fields)} fields where the header has {len(columns)} ({', '.join(columns)})")
    values = {column: field.strip() for column, field in zip(columns, fields, strict=True)}
    for needed in ("path", "label"):
        if not values[needed]:
            raise DatasetError(f"{where}: the {needed} is empty")
    video = (path.parent / values["path"]).resolve()
    if video in first_line:
        raise DatasetError(f"{where}: {values['path']} is listed already in line {first_line[video]}")
    first_line[video] = line
    row = Row(path=video, line=line, values=values)
    try:
        rate = row.fps
    except ValueError:
        rate = 0.0
    if rate is not None and not 0 < rate < math.inf:
        raise DatasetError(f"{where}: fps {values['fps']!r} is not a number more than 0")
    return row
