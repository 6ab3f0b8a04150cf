"""Writes files whole or not at all, and reads text, JSON and CSV with errors that name the file and the line."""

import contextlib
import csv
import errno
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from dualformer.errors import DualFormerError

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.EFBIG: "choose another folder, or have the limit on file sizes raised",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "choose another path: a part of it is a file",
    errno.EEXIST: "choose another path: a part of it is a file",
    errno.EISDIR: "choose another path: this is a folder",
}


class FileWriteError(DualFormerError):
    """A file that could not be written. One line that names the file, the reason and the remedy."""


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Has ``write`` fill a temporary file beside ``path``, then puts it in place of ``path``.

    If that fails, the temporary file is removed and what was at ``path`` stays as it was. Missing folders are made.
    Errors: `FileWriteError` for an ``OSError`` (disk full, no permission), and for a ``RuntimeError``, which is what
    ``torch.save`` makes of it; other errors of ``write`` pass through.
    """
    target = Path(os.path.realpath(path))  # a link stays a link, and the file that it points to is replaced
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # what the umask leaves; some writers make files that only their owner may read
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except DualFormerError:
        raise
    except (OSError, RuntimeError) as error:
        raise FileWriteError(f"{path}: could not be written ({_reason(error)}); {_remedy(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # gone by now, or never made
            temporary.unlink()


@contextlib.contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Gives the path of a partial file beside ``path``, which takes its place when all went well; it is not synced.

    Unlike that of `atomic_write`, its name is always the same: what a killed process left is written over.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` in UTF-8 with `atomic_write`. Surrogates of file names that are no text become their bytes."""
    data = text.encode("utf-8", "surrogateescape")
    atomic_write(path, lambda temporary: temporary.write_bytes(data))


def write_json(path: Path, content: Any, *, indent: int | None = 2, ensure_ascii: bool = False) -> None:
    """Writes ``content`` as JSON and a line break with `atomic_write`."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=ensure_ascii) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a CSV file with `atomic_write`, row by row, so that it may be larger than memory."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            _fill_csv(file, header, rows)

    atomic_write(path, write)


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Returns what `write_csv` writes."""
    text = io.StringIO(newline="")
    _fill_csv(text, header, rows)
    return text.getvalue()


def read_text(path: Path, error: type[Exception]) -> str:
    """Returns the text of a UTF-8 file, with or without a byte order mark. Raises ``error`` with the line that is not.

    Line breaks stay as they are.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = data[: cause.start].count(b"\n") + 1
        raise error(f"{path}:{line}: not UTF-8: save the file in that encoding") from cause


def read_json_object(path: Path, error: type[Exception], *, expected: str, remedy: str = "") -> list[tuple[str, Any]]:
    """Returns the pairs of a JSON object in their order, those whose names repeat included.

    Raises ``error`` with the message ``expected`` for other JSON; ``remedy`` ends the message for text that is no JSON.
    """
    text = read_text(path, error)
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as cause:
        raise error(f"{path}:{cause.lineno}: not JSON ({cause.msg}){remedy}") from cause
    if not text.lstrip().startswith("{"):  # a list of lists would look the same by now
        raise error(f"{path}: {expected}")
    return pairs


def read_csv_rows(
    path: Path, error: type[Exception], *, strip: bool = True, remedy: str = ""
) -> Iterator[tuple[int, list[str]]]:
    """Yields line number and fields of every line of a CSV file that is not empty; the first is the header.

    ``strip``: whether spaces around the fields are cut off. Raises ``error`` with file and line for bad quotes, whose
    message ends with ``remedy``, and for text that is not UTF-8.
    """
    reader = csv.reader(io.StringIO(read_text(path, error), newline=""), strict=True)
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped):
                yield reader.line_num, stripped if strip else fields
    except csv.Error as cause:
        raise error(f"{path}:{reader.line_num}: {cause}{remedy}") from cause


def read_csv_table(
    path: Path, header: Sequence[str], error: type[Exception], *, wrong_header: str, wrong_row: str
) -> Iterator[tuple[str, list[str]]]:
    """Yields FILE:LINE and fields of every row of a CSV file that has this ``header``.

    Raises ``error`` with the message ``wrong_header``, or ``wrong_row`` for more or fewer fields, and as
    `read_csv_rows`.
    """
    rows = read_csv_rows(path, error)
    for line, found in rows:
        if found != list(header):
            raise error(f"{path}:{line}: {wrong_header}")
        break
    for line, fields in rows:
        if len(fields) != len(header):
            raise error(f"{path}:{line}: {wrong_row}")
        yield f"{path}:{line}", fields


def _fill_csv(file: IO[str], header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _remedy(error: OSError | RuntimeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return _REMEDIES.get(number or 0, "see that the disk has room and that you may write there")
