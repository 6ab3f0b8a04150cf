"""The manifest of a data set: a CSV file with a verdict on each of its files, good or bad."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dualformer.datasets.csv_list import read_paths
from dualformer.datasets.media_tree import walk_media
from dualformer.datasets.samples import DatasetError
from dualformer.files import read_csv_rows, write_csv
from dualformer.moved_files import absolute
from dualformer.remote_paths import as_path, path_in
from dualformer.urls import url_of


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of decoding every frame of a file. ``reason`` is empty for a good file; the figures of a bad
    one are those of what decoded before the damage."""

    path: Path
    ok: bool
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    duration: float = 0.0
    codec: str = ""
    reason: str = ""
    bytes: int = 0
    modified: int = 0
    """When it was changed last, in nanoseconds since 1970; 0 where that is not known."""
    decoder: str = ""
    notes: str = ""
    """What is to be known of a good file: that its size changes, that it is HDR."""

    @property
    def location(self) -> str:
        """Path or URL."""
        return str(as_path(self.path))


_FIGURES: dict[str, Any] = {field.name: field.type for field in fields(Verdict)[2:]}
_COLUMNS = ["path", "verdict", *_FIGURES]
_LATER = ("notes",)
"""Columns that manifests did not have at first."""


def find_videos(data: str | Path, *, log_other_kinds: bool = True) -> list[Path]:
    """Returns the videos and images of ``data``, sorted: a file itself, the rows of a CSV file (existing or not), or
    all files below a folder that `walk_media` calls data. What a folder holds besides is counted in the log, files of
    other kinds only with ``log_other_kinds``.
    """
    data = as_path(data)
    if not data.exists() and not data.is_dir():  # a store has no folders but those that files are in
        raise FileNotFoundError(f"no such file or folder: {data}")
    if not data.is_dir():
        if data.suffix.lower() == ".csv":
            return sorted(read_paths(data))
        return [data]
    tree = walk_media(data)
    tree.log_left_out(other_kinds=log_other_kinds)
    if not (found := tree.files):
        raise DatasetError(f"{data}: no video or image files in it")
    return found


def write_manifest(path: str | Path, verdicts: list[Verdict]) -> None:
    """Writes verdicts as a CSV file with the columns path, verdict (ok or bad), figures, reason, the file's size and
    time of change, and what decoded it. Paths of files below the manifest's folder are relative to it.
    """
    folder = Path(path).absolute().parent
    rows: list[list[object]] = []
    for v in verdicts:
        figures = [getattr(v, name) for name in _FIGURES]
        place = absolute_location(v.path)
        inside = url_of(v.path) is None and folder in Path(place).parents
        rows.append(
            [Path(place).relative_to(folder).as_posix() if inside else place, "ok" if v.ok else "bad", *figures]
        )
    write_csv(Path(path), _COLUMNS, rows)


def absolute_location(path: Path) -> str:
    """Returns where a file is, whichever way it was named: absolute, links as they are called, or the URL that ``path``
    stands for."""
    return absolute(as_path(path)).as_posix()


def read_manifest(path: str | Path) -> list[Verdict]:
    """Reads what `write_manifest` wrote. Raises ``FileNotFoundError`` without a file, `DatasetError` for another."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such manifest: {path}")
    rows = read_csv_rows(path, DatasetError, strip=False, names=True)
    header = next(rows, (1, []))[1]
    if header not in (_COLUMNS, [name for name in _COLUMNS if name not in _LATER]):
        raise DatasetError(f"{path}:1: this is no manifest of dualformer check: expected {','.join(_COLUMNS)}")
    return [_verdict(path, line, header, fields) for line, fields in rows]


def _verdict(path: Path, line: int, header: list[str], cells: list[str]) -> Verdict:
    try:
        row = dict(zip(header, cells, strict=True))
        if row["verdict"] not in ("ok", "bad"):
            raise DatasetError(f"{path}:{line}: verdict {row['verdict']!r} is neither ok nor bad")
        figures = {name: kind(row[name]) for name, kind in _FIGURES.items() if name in row}
        where = path_in(path.absolute().parent, row["path"])
        return Verdict(path=where, ok=row["verdict"] == "ok", **figures)
    except ValueError as error:
        raise DatasetError(f"{path}:{line}: this line of the manifest cannot be read ({error})") from error
