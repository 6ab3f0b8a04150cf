"""Runs a task over many files and writes a table with one row for each.

    run_batch("results.parquet", paths, LabelTask(recognizer))

Rows are appended to a file beside the table as they come, a line each. A run that was stopped or killed goes on from
it, and the table is written as a whole when all rows are there. A second call runs only files that are new or changed.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import BinaryIO, NamedTuple, Protocol

from dualformer.files import InUseError, lock_for_writing, partial_file
from dualformer.inference.answer_tables import (
    Columns,
    Row,
    TableError,
    check_format,
    index_of,
    input_columns,
    read_table,
    row_from_json,
    row_to_json,
    write_table,
)
from dualformer.moved_files import find_moved
from dualformer.remote_files import RemoteError, fetch, upload
from dualformer.remote_paths import RemotePath, as_path
from dualformer.urls import url_of
from dualformer.user_cache import user_cache
from dualformer.video.container import UnreachableError, VideoError
from dualformer.video.file_slices import media_path
from dualformer.video.remote_video import remote_stamp
from dualformer.video.video_segment import parse_segment

_STAMP: Columns = {"bytes": "count", "modified": "count", "by": "text"}
"""A row is valid for this size and modification time (ns since 1970; at a URL a number of the version) of its file, and
fingerprint of the task."""
_UNKNOWN = (-1, 0)
"""Size and time of a missing file, and of one whose server does not tell."""
_ASKED_AT_ONCE = 8
"""Files at URLs that are asked for their versions."""

Progress = Callable[[int, int, Row | None], None]


class BatchTask(Protocol):
    """Labelling or embedding of files."""

    @property
    def columns(self) -> Columns:
        """Of the rows that `run` yields."""
        ...

    @property
    def fingerprint(self) -> str:
        """Weights and settings: rows that differ in it do not go into one table."""
        ...

    @property
    def width(self) -> int | None:
        """Length of the vectors in rows."""
        ...

    def run(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        """Yields (index in ``paths``, row) in any order; for a file that cannot be read, a row with ``error`` alone."""
        ...


class BatchResult(NamedTuple):
    """Counts of files."""

    files: int
    known: int
    """Files whose rows are from an earlier call."""
    failed: int
    """Files without an answer, known ones included."""


class _StoredRow(NamedTuple):
    position: int
    """Of its line in the partial file, or of its row in the table."""
    stamp: tuple[int | None, int | None]
    failed: bool


def run_batch(
    out: str | Path,
    paths: Sequence[Path],
    task: BatchTask,
    *,
    fresh: bool = False,
    retry: bool = False,
    progress: Progress | None = None,
    inputs: Mapping[Path, Mapping[str, str]] | None = None,
) -> BatchResult:
    """Runs ``task`` over every file, and writes the table ``out``: .parquet, .csv, .jsonl, and for vectors .npy.

    A file that is in ``out`` is skipped while its size and modification time are the same, also where all files have
    moved; one at a URL unless its server says that it is another. ``retry``: files that failed are run again.
    ``fresh``: ``out`` is replaced. Rows of files that are not in ``paths`` stay, behind the others. ``inputs``: further
    columns of files, which the table has last; one that is called like an own column gets ``input_`` in front.
    ``progress`` gets the numbers of files done and to do, and the last row.
    ``out`` may be a URL: a copy of the table is then worked on here, and written there at the end.
    Raises ``ValueError`` for another ending and for a table of other weights or settings, `TableError` for what is no
    such table and while another run writes to it, `RemoteError`.
    """
    out = as_path(out)
    if isinstance(out, RemotePath):
        settings = {"fresh": fresh, "retry": retry, "progress": progress, "inputs": inputs}
        return _run_at_url(out, lambda copy: run_batch(copy, paths, task, **settings), task)
    columns: Columns = {"path": "text", "error": "text", **task.columns, **_STAMP}
    check_format(out, columns)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"no such folder for `out`: {out.parent}")
    named: dict[str, Path] = {}
    for path in paths:
        named.setdefault(_name(path), path)
    try:
        with lock_for_writing(out):
            if fresh:
                partial_path(out).unlink(missing_ok=True)
            own = {_name(path): _renamed(values, columns) for path, values in (inputs or {}).items()}
            further = dict.fromkeys(name for values in own.values() for name in values)
            if not fresh and out.is_file():
                with contextlib.suppress(OSError, ValueError, StopIteration):  # reading the table says what is wrong
                    further = dict.fromkeys([*input_columns(out, columns), *further])
            columns = {**columns, **dict.fromkeys(further, "input")}
            known = {} if fresh else _stored_rows(out, columns, task)
            return _run(out, named, task, columns, known, _moved(known, named), retry, progress, own)
    except InUseError as error:
        raise TableError(str(error)) from None


def partial_path(out: Path) -> Path:
    """Returns the file that holds rows until the run is complete. That of a URL is on this machine."""
    if isinstance(out, RemotePath):
        out = working_copy(out)
    return out.with_name(f"{out.name}.partial")


def working_copy(out: RemotePath) -> Path:
    """Returns where a table at a URL is worked on, in the user's cache; a run that was stopped goes on from there."""
    folder = user_cache() or Path(tempfile.gettempdir()) / "dualformer"
    return folder / "tables" / hashlib.sha256(str(out).encode()).hexdigest()[:16] / out.name


def _run_at_url(out: RemotePath, run: Callable[[Path], BatchResult], task: BatchTask) -> BatchResult:
    """Fetches a table, has it completed by ``run``, and writes it back where it has changed."""
    check_format(out, {"path": "text", **task.columns})
    copy = working_copy(out)
    copy.parent.mkdir(parents=True, exist_ok=True)
    files: dict[Path, Path] = {copy: out}
    if copy.suffix.lower() == ".npy":
        files[index_of(copy)] = as_path(index_of(out))
    try:
        with lock_for_writing(copy):
            before: dict[Path, int] = {}
            if not copy.exists():  # else it could not be written there the last time
                for file, url in files.items():
                    with contextlib.suppress(FileNotFoundError), partial_file(file) as partial:
                        fetch(str(url), partial)
                before = {file: file.stat().st_mtime_ns for file in files if file.exists()}
            result = run(copy)
            for file, url in files.items():
                if file.stat().st_mtime_ns != before.get(file):
                    _write_back(file, url)
            for file in files:
                file.unlink()
            return result
    except InUseError as error:
        raise TableError(str(error)) from None
    except (TableError, ValueError) as error:
        raise type(error)(str(error).replace(str(copy), str(out))) from error


def _write_back(file: Path, url: Path) -> None:
    try:
        upload(str(url), file)
    except RemoteError as error:
        raise TableError(f"{error}; the table is {file}, and the same call writes it there") from error


def _run(
    out: Path,
    named: dict[str, Path],
    task: BatchTask,
    columns: Columns,
    known: dict[str, _StoredRow],
    moved: dict[str, str],
    retry: bool,
    progress: Progress | None,
    inputs: Mapping[str, Mapping[str, str]],
) -> BatchResult:
    partial = partial_path(out)
    continued = partial.is_file()
    known = {moved.get(name, name): row for name, row in known.items()}
    changed = _changed(named, known)
    missing = [name for name in named if name not in known or name in changed or (retry and known[name].failed)]
    stamps = {name: _stamp(path) for name in missing if not url_of(path := named[name])}
    if progress is not None:
        progress(0, len(missing), None)
    if missing or continued or moved or inputs or not out.exists():
        if not continued:
            rows = _copy_table(partial, out if known else None, columns)
            known = {moved.get(name, name): row for name, row in rows.items()}
        with partial.open("ab") as file:
            for done, (index, answer) in enumerate(task.run([named[name] for name in missing]), 1):
                name = missing[index]
                size, modified = stamps.get(name) or (_UNKNOWN if "error" in answer else _stamp(named[name]))
                row = {"path": name, **answer, "bytes": size, "modified": modified, "by": task.fingerprint}
                known[name] = _append(file, row, columns)
                file.flush()
                if progress is not None:
                    progress(done, len(missing), row)
        order = [*named, *(name for name in known if name not in named)]
        with partial.open("rb") as lines:
            rows = (
                {**row_from_json(_line(lines, known[name].position), columns), **inputs.get(name, {}), "path": name}
                for name in order
            )
            write_table(out, columns, rows, width=task.width)
        partial.unlink()
    return BatchResult(len(named), known=len(named) - len(missing), failed=sum(known[name].failed for name in named))


def _renamed(values: Mapping[str, str], columns: Columns) -> dict[str, str]:
    return {f"input_{name}" if name in columns else name: value for name, value in values.items()}


def _name(path: Path) -> str:
    """Returns the name of a file in the table: absolute, links as they are called; a URL, or ``-``."""
    if url_of(path):
        return str(as_path(path))
    return str(path) if str(path) == "-" else os.path.normpath(path.absolute())


def _moved(known: dict[str, _StoredRow], named: dict[str, Path]) -> dict[str, str]:
    """Returns new paths by old ones, where all files have moved."""

    def same(row: _StoredRow, path: Path) -> bool:
        return row.stamp == _stamp(path) != _UNKNOWN

    at = {id(row): name for name, row in known.items()}
    found = find_moved(known, [Path(n) for n in named if n != "-" and not url_of(n)], same)
    return {at[id(row)]: str(path) for path, row in found.by_path.items() if at[id(row)] != str(path)}


def _changed(named: Mapping[str, Path], known: Mapping[str, _StoredRow]) -> set[str]:
    """Returns the names of known files that are others by now. Of files at URLs what a server does not tell is taken to
    be the same, and where one is silent no more are asked for."""
    silent = Event()

    def is_other(name: str) -> bool:
        path, before = named[name], known[name].stamp
        if not url_of(path):
            return _stamp(path) != before
        return before != _UNKNOWN and not silent.is_set() and _stamp(path, silent) not in (before, _UNKNOWN)

    names = [name for name in named if name in known]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        return {name for name, other in zip(names, threads.map(is_other, names), strict=True) if other}


def _stamp(path: Path, silent: Event | None = None) -> tuple[int, int]:
    """Returns size and modification time in nanoseconds, of a file at a URL as `remote_stamp`; `_UNKNOWN` for a missing
    file. ``silent`` is set where a server does not answer."""
    try:
        segment = parse_segment(path)
        file = media_path(segment.file) if segment else path
        if isinstance(remote := as_path(file), RemotePath):
            return remote_stamp(remote)
        stat = file.stat()
    except UnreachableError:
        if silent is not None:
            silent.set()
        return _UNKNOWN
    except (OSError, VideoError):
        return _UNKNOWN
    return stat.st_size, stat.st_mtime_ns


def _stored_rows(out: Path, columns: Columns, task: BatchTask) -> dict[str, _StoredRow]:
    """Returns the rows of the partial file, or of the table where there is none: the former begins as a copy."""
    known: dict[str, _StoredRow] = {}
    source = partial if (partial := partial_path(out)).is_file() else out
    if not source.exists():
        return known
    for position, row in _partial_rows(partial, columns) if source == partial else enumerate(read_table(out, columns)):
        if row["by"] != task.fingerprint:
            raise ValueError(
                f"{source} holds answers of other weights or settings ({row['by']}, and now {task.fingerprint}): "
                "choose another `out`, or say `fresh=True` to replace them"
            )
        known[row["path"]] = _stored(position, row)
    return known


def _partial_rows(partial: Path, columns: Columns) -> Iterator[tuple[int, Row]]:
    with partial.open("rb") as file:
        position = 0
        for line in file:
            with contextlib.suppress(ValueError, TypeError):  # cut short, or empty
                yield position, row_from_json(line, columns)
            position += len(line)


def _copy_table(partial: Path, table: Path | None, columns: Columns) -> dict[str, _StoredRow]:
    """Writes a partial file with all rows of the table, whole or not at all."""
    known: dict[str, _StoredRow] = {}
    with partial_file(partial) as temporary, temporary.open("wb") as file:
        for row in read_table(table, columns) if table is not None else ():
            known[row["path"]] = _append(file, row, columns)
    return known


def _append(file: BinaryIO, row: Row, columns: Columns) -> _StoredRow:
    """Writes a line, after a line break, as the last one may have been cut short."""
    file.write(b"\n")
    position = file.tell()
    file.write(row_to_json(row, columns).encode() + b"\n")
    return _stored(position, row)


def _stored(position: int, row: Row) -> _StoredRow:
    return _StoredRow(position, (row["bytes"], row["modified"]), failed=bool(row.get("error")))


def _line(file: BinaryIO, position: int) -> bytes:
    file.seek(position)
    return file.readline()
