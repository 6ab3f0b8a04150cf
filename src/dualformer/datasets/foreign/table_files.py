"""Reads Parquet and Arrow tables: cells of bytes, or paths, and labels, whose names may be in the metadata of Hugging
Face. Of columns that hold videos no more is read than their paths."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from dualformer.datasets.csv_list import END, START, segment_time
from dualformer.datasets.foreign.asked_columns import VIDEOS, AskedColumns
from dualformer.datasets.foreign.foreign_rows import make_row, open_bytes, place_of, text_of
from dualformer.datasets.row_table import Row
from dualformer.datasets.samples import DatasetError
from dualformer.moved_files import absolute
from dualformer.remote_paths import RemotePath, as_path, path_in
from dualformer.video.container import VideoError
from dualformer.video.remote_video import open_remote
from dualformer.video.table_cells import PYARROW, name_cell

_AT_ONCE = 1024
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")
"""How files of images begin."""


_Batch = tuple[int, Any, list[str | None] | None, list[bool]]
"""The number of rows, their values, the paths of their videos if they have any, and whether cells may hold these."""


class _Place(NamedTuple):
    """Where the video of a row is: in its cell, where it may have been called by a path, or at the path."""

    in_cell: bool
    path: str | None


def read_tables(asked: AskedColumns, files: Sequence[tuple[Path, str]]) -> Iterator[Row]:
    """Yields the rows of Parquet and Arrow files, each of which has its split.

    Raises `DatasetError` for files that cannot be read, without pyarrow, and as `AskedColumns.choose`.
    """
    for path, split in files:
        with open_table(path) as table:
            columns = list(table.schema.names)
            video = asked.choose("video", columns, path, typed=table.video_columns())
            label = asked.choose("label", columns, path, typed=table.of_type("ClassLabel"))
            names, suffix, folder = _class_names(table.features.get(label)), table.suffix(video), table.path.parent
            for row, (values, place) in enumerate(table.rows(video, label)):
                listed = f"{path}, row {row}"
                if place.in_cell:
                    found = as_path(table.name_cell(video, row, place.path, suffix))
                elif place.path:
                    found = path_in(folder, place.path)
                else:
                    raise DatasetError(
                        f"{listed}: the column {video} holds neither bytes nor a path: leave the row out"
                    )
                about = {"label": _named(values.pop(label, None), names, listed), "split": split}
                yield make_row(found, listed, values, times=_times(values, listed), **about)


@contextmanager
def open_table(path: Path) -> Iterator["Table"]:
    """Opens a Parquet or Arrow file. Raises `DatasetError` where it cannot be read, and without pyarrow."""
    try:
        import pyarrow as pa  # type: ignore[import-not-found]  # an extra
        from pyarrow import parquet  # type: ignore[import-not-found]
    except ImportError as error:
        raise DatasetError(f"{path}: {PYARROW}") from error
    place = path if isinstance(path, RemotePath) else absolute(path)
    if not isinstance(path, RemotePath) and not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        if path.suffix.lower() == ".arrow":
            if isinstance(path, RemotePath):
                raise DatasetError(
                    f"{path}: an Arrow file is read on this machine alone: copy it here, or write Parquet"
                )
            content = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
            yield Table(path=place, kind="arrow", schema=content.schema, content=content)
        else:
            with open_bytes(path) as file, parquet.ParquetFile(file) as content:
                yield Table(path=place, kind="parquet", schema=content.schema_arrow, content=content)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            f"{path}: it cannot be read as a table ({' '.join(str(error).split()).rstrip('.')}): write it anew"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Table:
    """An open table. ``content``: pyarrow's ``ParquetFile`` or ``Table``."""

    path: Path
    kind: str
    schema: Any
    content: Any

    @property
    def features(self) -> dict[str, Any]:
        """The types of columns as Hugging Face's ``datasets`` writes them; none in tables of others."""
        text = (self.schema.metadata or {}).get(b"huggingface")
        return (json.loads(text).get("info") or {}).get("features") or {} if text else {}

    def of_type(self, *types: str) -> list[str]:
        """Returns the columns of these types of Hugging Face, or of lists of them."""
        return [name for name, feature in self.features.items() if _inner(feature).get("_type") in types]

    def video_columns(self) -> list[str]:
        """Returns the columns whose type says that they hold videos or images."""
        names, kinds = self.schema.names, [_kind(each) for each in self.schema.types]
        records = [name for name, kind in zip(names, kinds, strict=True) if kind == "record"]
        plain = [name for name, kind in zip(names, kinds, strict=True) if kind == "bytes"]
        return self.of_type("Video", "Image") or records or ([] if set(VIDEOS) & set(names) else plain)

    def rows(self, video: str = "", label: str = "") -> Iterator[tuple[dict[str, Any], _Place]]:
        """Yields the values of each row that are text or numbers, and of the ``label``, and where its video is."""
        kinds = dict(zip(self.schema.names, map(_kind, self.schema.types), strict=True))
        own = [name for name, kind in kinds.items() if name == label or (kind in ("text", "number") and name != video)]
        kind = kinds.get(video, "other")
        fields = {each.name: each.type for each in self.schema.field(video).type} if kind == "record" else {}
        path = video if kind == "text" else f"{video}.path" if "path" in fields else ""
        holds = _kind(fields["bytes"]) == "bytes" if fields else kind in ("bytes", "list")
        for count, values, places, held in self._batches(own, video, path):
            found = values.to_pylist() if own else [{} for _ in range(count)]
            for row, place, in_cell in zip(found, places or [None] * count, held, strict=True):
                yield row, _Place(in_cell and holds, place)

    def values(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Yields the values of each row in these columns."""
        for _, values, _, _ in self._batches(columns, "", ""):
            yield from values.to_pylist()

    def _batches(self, own: list[str], video: str, path: str) -> Iterator[_Batch]:
        return (self._parquet_batches if self.kind == "parquet" else self._arrow_batches)(own, video, path)

    def _parquet_batches(self, own: list[str], video: str, path: str) -> Iterator[_Batch]:
        columns = [*own, *([path] if path else [])]
        for group in range(self.content.num_row_groups):
            about = self.content.metadata.row_group(group)
            held = not _all_null(about, f"{video}.bytes")
            if not columns:
                yield about.num_rows, None, None, [held] * about.num_rows
                continue
            for batch in self.content.iter_batches(_AT_ONCE, row_groups=[group], columns=columns):
                places = batch.column(video) if path else None
                places = places.field("path") if places is not None and path != video else places
                yield len(batch), batch.select(own), places and places.to_pylist(), [held] * len(batch)

    def _arrow_batches(self, own: list[str], video: str, path: str) -> Iterator[_Batch]:
        for batch in self.content.to_batches(max_chunksize=_AT_ONCE):
            if not video:
                yield len(batch), batch.select(own), None, [False] * len(batch)
                continue
            column = batch.column(video)
            record = _kind(column.type) == "record"
            places = column.field("path") if path and record else column if path else None
            held = column.field("bytes") if record else column
            yield len(batch), batch.select(own), places and places.to_pylist(), held.is_valid().to_pylist()

    def name_cell(self, video: str, row: int, path: str | None, suffix: str) -> str:
        """Returns the URL of a cell. Its name is that of the ``path``, or else made of the file's, the row and the
        ``suffix``."""
        name = f"{self.path.stem}-{row}{suffix}"
        if _kind(self.schema.field(video).type) == "list":
            name = "%05d.jpg"
        elif path:
            name = re.sub(r"[^\w. -]", "_", PurePosixPath(path.replace("\\", "/")).name)
        return name_cell(self.kind, video, row, name, place_of(self.path))

    def suffix(self, video: str) -> str:
        """Returns the ending of cells that hold images; of videos none, which are told by their content."""
        known = _inner(self.features.get(video)).get("_type", "")
        if not known and _kind(self.schema.field(video).type) == "bytes":
            first = as_path(name_cell(self.kind, video, 0, "first", place_of(self.path)))
            with contextlib.suppress(VideoError), open_remote(first).open() as file:  # type: ignore[arg-type]  # a URL
                known = "Image" if file.read(4).startswith(_IMAGES) else "Video"
        return ".jpg" if known == "Image" else ""


def _kind(kind: Any) -> Literal["record", "bytes", "list", "text", "number", "other"]:
    """Returns what a type of Arrow is to us; a record has bytes, and a list holds bytes or records."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return "list" if _kind(kind.value_type) in ("record", "bytes") else "other"
    if types.is_struct(kind):
        return "record" if "bytes" in [field.name for field in kind] else "other"
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "bytes"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind):
        return "text"
    return "number" if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) else "other"


def _all_null(group: Any, column: str) -> bool:
    """Returns whether a row group says that it holds nothing in a column."""
    for number in range(group.num_columns):
        about = group.column(number)
        if about.path_in_schema == column and about.is_stats_set and about.statistics.has_null_count:
            return about.statistics.null_count == group.num_rows
    return False


def _inner(feature: Any) -> Mapping[str, Any]:
    """Returns the type of a column as Hugging Face writes it, of a list that of what is in it."""
    while isinstance(feature, list) or (isinstance(feature, Mapping) and "feature" in feature):
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    return feature if isinstance(feature, Mapping) else {}


def _class_names(feature: Any) -> Sequence[str] | None:
    inner = _inner(feature)
    return inner.get("names") if inner.get("_type") == "ClassLabel" else None


def _named(value: Any, names: Sequence[str] | None, listed: str) -> Any:
    """Returns labels by their names, where numbers have any; -1 stands for none."""
    if isinstance(value, list):
        return [_named(each, names, listed) for each in value]
    if names is None or value is None or value == -1:
        return None if names else value
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise DatasetError(
            f"{listed}: the label {value!r} is none of the {len(names)} classes that the table names: correct it"
        )
    return names[value]


def _times(values: Mapping[str, Any], listed: str) -> tuple[float, float] | None:
    """Returns the start and end of a part of the video; None where the table does not have both."""
    if values.get(START) is None or values.get(END) is None:
        return None
    start, end = (segment_time(text_of(values[name]), None, listed, name) for name in (START, END))
    return start, end
