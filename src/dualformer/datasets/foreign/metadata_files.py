"""Reads lists of videos beside them: ``metadata.csv`` and ``metadata.jsonl`` of Hugging Face's folders, and others."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dualformer.datasets.csv_list import check_header
from dualformer.datasets.foreign.asked_columns import LABELS, AskedColumns
from dualformer.datasets.foreign.foreign_rows import json_lines, make_row
from dualformer.datasets.foreign.table_files import open_table
from dualformer.datasets.row_table import Row
from dualformer.datasets.samples import DatasetError
from dualformer.files import read_csv_rows, read_text
from dualformer.moved_files import absolute
from dualformer.plurals import counted
from dualformer.remote_paths import RemotePath, path_in

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILE = "file_name"


def read_metadata(asked: AskedColumns, files: Sequence[tuple[Path, str]]) -> Iterator[Row]:
    """Yields the rows of CSV files and of files with a JSON object on each line. Paths are relative to the file."""
    for path, split in files:
        folder = path.parent if isinstance(path, RemotePath) else absolute(path).parent
        video = label = ""
        for listed, values in _records(path):
            if not video:
                columns = list(values)
                names = [name for name in columns if name == _FILE or name.endswith(f"_{_FILE}")]
                video = asked.choose("video", columns, path, typed=names)
                label = asked.choose("label", columns, path)
            if not isinstance(place := values.pop(video, None), str) or not place:
                raise DatasetError(f"{listed}: the {video} is missing: write the path of a video")
            yield make_row(path_in(folder, place), listed, values, label=values.pop(label, None), split=split)


def is_metadata(path: Path, *, labelled: bool) -> bool:
    """Returns whether it is a table of metadata, which names files, and with ``labelled`` also their labels: else the
    folders of the files may be their classes."""
    columns = metadata_columns(path)
    return bool(set(LABELS) & set(columns) if labelled else columns)


def metadata_columns(path: Path) -> list[str]:
    """Returns the columns of a table of metadata, which names files; none of any other."""
    try:
        if path.suffix.lower() == ".parquet":
            with open_table(path) as table:
                names = list(table.schema.names)
        else:
            names = list(next(_records(path), ("", {}))[1])
    except DatasetError:
        return []
    return names if any(name == _FILE or name.endswith(f"_{_FILE}") for name in names) else []


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields FILE:LINE and values of each row."""
    if path.suffix.lower() != ".csv":
        yield from json_lines(path, read_text(path, DatasetError))
        return
    columns: list[str] = []
    for line, fields in read_csv_rows(path, DatasetError, names=True):
        if not columns:
            columns = check_header(path, fields, ())
        elif len(fields) != len(columns):
            what = counted(len(fields), "field where the header has", "fields where the header has")
            raise DatasetError(f"{path}:{line}: {what} {len(columns)}: correct the line")
        else:
            yield f"{path}:{line}", dict(zip(columns, fields, strict=True))
