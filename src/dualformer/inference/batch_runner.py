"""A row for every file of a folder or a list, in a table that can be gone on with.

    answer_into("results.parquet", paths, LabelTask(recognizer))

Answers are appended to a journal beside the table as they come, a line each; a run that was stopped or killed anywhere
goes on from it, and the table is put in place as a whole when all are there. A second call answers only for files that
are new or have changed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import filelock

from dualformer.inference.tables import (
    Columns,
    Row,
    TableError,
    check_format,
    packed,
    read_table,
    unpacked,
    write_table,
)

_STAMP: Columns = {"bytes": "count", "modified": "count", "by": "text"}
"""What a row is known by: the file's size, when it was changed (nanoseconds since 1970), and who answered."""


class Work(Protocol):
    """What is done with files: labelling or embedding."""

    @property
    def columns(self) -> Columns:
        """Of an answer."""
        ...

    @property
    def by(self) -> str:
        """Weights and settings: answers that differ in it do not belong into one table."""
        ...

    @property
    def width(self) -> int | None:
        """Length of vectors in answers."""
        ...

    def answers(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        """(place in ``paths``, answer) of each, in any order; for a file that cannot be read, an ``error`` alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What became of the files."""

    files: int
    known: int
    """Answered for by an earlier call."""
    failed: int
    """Without an answer, known ones among them."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    place: int
    """Of its line in the journal, or of its row in the table."""
    bytes: int | None
    modified: int | None
    failed: bool


def answer_into(
    out: str | Path,
    paths: Sequence[Path],
    work: Work,
    *,
    fresh: bool = False,
    retry: bool = False,
    progress: Callable[[int, int, Row | None], None] | None = None,
) -> Answered:
    """Has ``work`` answer for every file, and writes the table ``out``: .parquet, .csv, .jsonl, and for vectors .npy.

    A file that ``out`` holds is left out while its size and time of change are the same. ``retry``: but not if it had
    failed. ``fresh``: what is in ``out`` is replaced. Rows of files that are not named this time stay, behind the
    others. ``progress`` gets how many are done, of how many there are to do, and the last row.
    Raises ``ValueError`` for another ending and for a table of other weights or settings, `TableError` for what is no
    such table and while another run writes to it.
    """
    out = Path(out)
    columns: Columns = {"path": "text", "error": "text", **work.columns, **_STAMP}
    check_format(out, columns)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"no such folder for --out: {out.parent}")
    names = [os.path.normpath(path.absolute()) for path in paths]  # links stay what they are called
    paths = [path for path, first in zip(paths, _first_times(names), strict=True) if first]
    names = list(dict.fromkeys(names))
    lock = filelock.FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise TableError(f"{out}: another run is writing to it; wait for it, or choose another --out") from None
    try:
        return _answer(out, paths, names, work, columns, fresh, retry, progress)
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()


def journal_of(out: Path) -> Path:
    """Where answers are kept until all of them are there."""
    return out.with_name(f"{out.name}.partial")


def _answer(
    out: Path,
    paths: Sequence[Path],
    names: list[str],
    work: Work,
    columns: Columns,
    fresh: bool,
    retry: bool,
    progress: Callable[[int, int, Row | None], None] | None,
) -> Answered:
    journal = journal_of(out)
    if fresh:
        journal.unlink(missing_ok=True)
    continued = journal.is_file()
    known = {} if fresh else _known(out, journal, columns, work.by)
    stamps = [_stamp(path) for path in paths]
    missing = [
        i
        for i, name in enumerate(names)
        if (before := known.get(name)) is None
        or (before.bytes, before.modified) != stamps[i]
        or (retry and before.failed)
    ]
    if progress is not None:
        progress(0, len(missing), None)
    if missing or continued or not out.exists():
        if not continued:
            known = _begin(journal, out if known else None, columns)
        with journal.open("ab") as file:
            for done, (place, answer) in enumerate(work.answers([paths[i] for i in missing]), 1):
                i = missing[place]
                size, modified = stamps[i]
                row = {"path": names[i], **answer, "bytes": size, "modified": modified, "by": work.by}
                known[names[i]] = _append(file, row, columns)
                if progress is not None:
                    progress(done, len(missing), row)
        named = set(names)
        order = [*names, *(name for name in known if name not in named)]
        with journal.open("rb") as lines:
            rows = (unpacked(_line(lines, known[name].place), columns) for name in order)
            write_table(out, columns, rows, width=work.width)
        journal.unlink()
    failed = sum(known[name].failed for name in names)
    return Answered(files=len(names), known=len(names) - len(missing), failed=failed)


def _first_times(names: list[str]) -> Iterator[bool]:
    seen: set[str] = set()
    for name in names:
        yield name not in seen
        seen.add(name)


def _stamp(path: Path) -> tuple[int, int]:
    """Bytes, and the time of change in nanoseconds; (-1, 0) for what is not there."""
    try:
        stat = path.stat()
    except OSError:
        return -1, 0
    return stat.st_size, stat.st_mtime_ns


def _known(out: Path, journal: Path, columns: Columns, by: str) -> dict[str, _Known]:
    """What the journal holds, or the table where there is none: a journal begins as a copy of its table."""
    known: dict[str, _Known] = {}
    source = journal if journal.is_file() else out
    for place, row in _journalled(journal, columns) if source == journal else enumerate(_table(out, columns)):
        if row["by"] != by:
            raise ValueError(
                f"{source} holds answers of other weights or settings ({row['by']}, and now {by}): choose another "
                "--out, or say --fresh to replace them"
            )
        known[row["path"]] = _seen(place, row)
    return known


def _table(out: Path, columns: Columns) -> Iterator[Row]:
    return read_table(out, columns) if out.exists() else iter(())


def _journalled(journal: Path, columns: Columns) -> Iterator[tuple[int, Row]]:
    with journal.open("rb") as file:
        place = 0
        for line in file:
            with contextlib.suppress(ValueError, TypeError):  # cut short, or empty
                yield place, unpacked(line, columns)
            place += len(line)


def _begin(journal: Path, table: Path | None, columns: Columns) -> dict[str, _Known]:
    """A journal with all that the table holds, there as a whole or not at all."""
    known: dict[str, _Known] = {}
    temporary = journal.with_name(f".{journal.name}.new")
    try:
        with temporary.open("wb") as file:
            for row in read_table(table, columns) if table is not None else ():
                known[row["path"]] = _append(file, row, columns, flush=False)
        temporary.replace(journal)
    finally:
        temporary.unlink(missing_ok=True)
    return known


def _append(file: BinaryIO, row: Row, columns: Columns, *, flush: bool = True) -> _Known:
    """A line of its own, even behind one that was cut short."""
    file.write(b"\n")
    place = file.tell()
    file.write(packed(row, columns).encode() + b"\n")
    if flush:
        file.flush()
    return _seen(place, row)


def _seen(place: int, row: dict[str, Any]) -> _Known:
    return _Known(place=place, bytes=row["bytes"], modified=row["modified"], failed=bool(row.get("error")))


def _line(file: BinaryIO, place: int) -> bytes:
    file.seek(place)
    return file.readline()
