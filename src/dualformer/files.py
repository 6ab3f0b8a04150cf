"""Writes files whole or not at all, lets one process at a time write to a folder, and reads text, JSON and CSV with
errors that name the file and the line."""

import contextlib
import csv
import errno
import io
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import IO, Any

from dualformer.errors import DualFormerError
from dualformer.text_encoding import decode_text, describe_encoding, json_text

_log = logging.getLogger("dualformer")

LABEL_SEPARATOR = ";"
"""Separates the labels of a video in tables."""

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


class InUseError(DualFormerError):
    """Another process writes to the file or folder. One line that says which one, where, and since when."""


LOCK = ".lock"
"""The file of a folder that is locked while somebody writes to it; of a file, ``.NAME.lock`` beside it."""
_HOLDER = ".json"
"""Added to the lock's name: a file that says who holds it. The holder counts up in it as long as it lives."""
_BEAT = 5.0
"""Seconds between counts. Whoever finds a holder of another machine, where locks may not reach, waits for three."""
_SETTINGS = {"fallback_to_soft"}
"""Of newer versions of filelock, which also notice a lock file that its last holder has removed."""
_held: set[tuple[Path, int]] = set()


@contextlib.contextmanager
def lock_for_writing(path: Path, *, folder: bool = False) -> Iterator[None]:
    """Holds the file ``path``, or a ``folder``, which is made if needed: no other process holds it meanwhile.

    Raises `InUseError` at once where another one does. The lock of a process that was killed ends with it. A thread may
    hold what it holds already. Where the file system's locks do not reach other machines, or where it has none, the
    holder is known by a file in which it counts up; one that stopped counting is taken for dead after 15 s.
    """
    lock_file = (path / LOCK if folder else path.with_name(f".{path.name}{LOCK}")).absolute()
    key = (Path(os.path.realpath(lock_file)), threading.get_ident())
    if key in _held:
        yield
        return
    made: list[Path] = []
    try:
        lock = _lock(path, lock_file, made)
        try:
            stop = _announce(path, lock_file.with_name(lock_file.name + _HOLDER), locked=lock is not None)
            _held.add(key)
            try:
                yield
            finally:
                _held.discard(key)
                stop()
                if lock is not None and _SETTINGS & set(signature(type(lock).__init__).parameters):
                    with contextlib.suppress(OSError):  # while it is held: who has it open sees that it is gone
                        lock_file.unlink()
        finally:
            if lock is not None:
                lock.release()
    finally:
        for parent in made:
            with contextlib.suppress(OSError):  # something was written
                parent.rmdir()


def is_lock(path: Path) -> bool:
    """Returns whether a file of a folder is part of the folder's lock."""
    return path.name in (LOCK, LOCK + _HOLDER)


def _lock(path: Path, lock_file: Path, made: list[Path]) -> Any:
    """Locks a file; None where the file system has no locks. ``made`` gets the folders that are made for it."""
    import filelock  # takes long, and few commands need it

    settings: dict[str, Any] = dict.fromkeys(_SETTINGS & set(signature(filelock.FileLock.__init__).parameters), False)
    for attempt in range(200):
        try:
            missing = [folder for folder in (lock_file.parent, *lock_file.parent.parents) if not folder.exists()]
            lock_file.parent.mkdir(parents=True, exist_ok=True)
            made += [folder for folder in missing if folder not in made]
            lock = filelock.FileLock(lock_file, **settings)
            lock.acquire(timeout=0)
            return lock
        except filelock.Timeout:
            holder = _read_holder(lock_file.with_name(lock_file.name + _HOLDER))
            # Without one it has just begun or just ended; of a dead one, workers may live on for seconds.
            if attempt > 20 if not holder else _lives(holder):
                raise InUseError(_in_use(path, holder)) from None
            time.sleep(0.05)
        except FileNotFoundError:  # another one has just removed the folder that it made
            continue
        except (OSError, NotImplementedError) as error:
            # NotImplementedError is what filelock makes of ENOSYS.
            number = error.errno if isinstance(error, OSError) else errno.ENOSYS
            if number in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
                _log.info("%s: its file system has no locks; a file tells other processes who writes to it", path)
                return None
            assert isinstance(error, OSError)
            raise FileWriteError(f"{path}: could not be written ({_reason(error)}); {_remedy(error)}") from error
    raise InUseError(_in_use(path, _read_holder(lock_file.with_name(lock_file.name + _HOLDER))))


def _announce(path: Path, holder: Path, *, locked: bool) -> Callable[[], None]:
    """Writes who holds ``path`` and counts up there; returns what ends that. Raises `InUseError` where another does."""
    token, host = secrets.token_hex(4), socket.gethostname()
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())

    def text(count: int) -> str:
        return json.dumps({"process": os.getpid(), "host": host, "since": since, "token": token, "count": count})

    while True:
        try:
            with holder.open("x", encoding="utf-8") as file:
                file.write(text(0))
            break
        except FileExistsError:
            before = _read_holder(holder)
            # This machine's locks say that it is dead; another's may not reach here.
            if not (locked and before.get("host") == host) and _counts_up(holder, before):
                raise InUseError(_in_use(path, before)) from None
            with contextlib.suppress(FileNotFoundError):
                holder.unlink()
        except OSError as error:
            raise FileWriteError(f"{path}: could not be written ({_reason(error)}); {_remedy(error)}") from error
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(_BEAT):
            count += 1
            with contextlib.suppress(OSError):  # the folder was deleted, or the disk is full
                if _read_holder(holder).get("token") == token:
                    holder.write_text(text(count), encoding="utf-8")

    thread = threading.Thread(target=beat, name="lock", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            if _read_holder(holder).get("token") == token:
                holder.unlink()

    return end


def _counts_up(holder: Path, before: dict[str, Any]) -> bool:
    """Returns whether a holder lives, which takes three beats for one that does not; one that goes has ended."""
    until = time.monotonic() + 3 * _BEAT
    while (now := _read_holder(holder)) == before and time.monotonic() < until:
        time.sleep(_BEAT / 25)
    return now != before and holder.exists()


def _read_holder(holder: Path) -> dict[str, Any]:
    try:
        found = json.loads(holder.read_bytes())
    except (OSError, ValueError):  # it has just begun or ended
        return {}
    return found if isinstance(found, dict) else {}


def _lives(holder: dict[str, Any]) -> bool:
    """Returns False of a process of this machine that has ended; another machine's are taken to live."""
    if holder.get("host") != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, KeyError):
        return True
    return True


def _in_use(path: Path, holder: dict[str, Any]) -> str:
    who = ""
    if {"process", "host", "since"} <= set(holder):
        who = f", process {holder['process']} on {holder['host']} since {holder['since']}"
    return f"{path}: another run is writing to it{who}: wait for it, or choose another `out`"


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
    write_text(path, json_text(content, indent=indent, ensure_ascii=ensure_ascii) + "\n")


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


def read_text(path: Path, error: type[Exception], *, names: bool = False) -> str:
    """Returns the text of a file in UTF-8, or in UTF-16 with a byte order mark. Raises ``error`` for another encoding,
    with the line and the remedy.

    ``names``: whether it may hold names of files that are no text, whose bytes become surrogates. Line breaks stay as
    they are.
    """
    data = path.read_bytes()
    try:
        return decode_text(data, names=names)
    except UnicodeDecodeError as cause:
        line = data[: cause.start].count(b"\n") + 1
        end = data.find(b"\n", cause.start)
        said = describe_encoding(data[data.rfind(b"\n", 0, cause.start) + 1 : end if end > 0 else None])
        raise error(f"{path}:{line}: {said}") from cause


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
    path: Path,
    error: type[Exception],
    *,
    strip: bool = True,
    remedy: str = "",
    names: bool = False,
    columns: Collection[str] = (),
) -> Iterator[tuple[int, list[str]]]:
    """Yields line number and fields of every line of a CSV file that is not empty; the first is the header.

    ``strip``: whether spaces around the fields are cut off. ``columns``: the separator is the one of comma, semicolon
    and tab by which the header has them all. ``names`` is that of `read_text`. Raises ``error`` with file and line for
    bad quotes, whose message ends with ``remedy``, and for text that is in another encoding.
    """
    text, before = read_text(path, error, names=names), 0
    if told := re.match(r"sep=[,;\t]\r?\n", text):  # as Excel has it
        text, before = text[told.end() :], 1
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=_separator(text, columns))
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped):
                yield reader.line_num + before, stripped if strip else fields
    except csv.Error as cause:
        raise error(f"{path}:{reader.line_num + before}: {cause}{remedy}") from cause


def _separator(text: str, columns: Collection[str]) -> str:
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    for separator in ",;\t":
        with contextlib.suppress(csv.Error):  # which the reader of the file tells with the line
            fields = next(csv.reader([header], delimiter=separator), [])
            if columns and {field.strip() for field in fields}.issuperset(columns):
                return separator
    return ","


def read_csv_table(
    path: Path, header: Sequence[str], error: type[Exception], *, wrong_header: str, wrong_row: str
) -> Iterator[tuple[str, list[str]]]:
    """Yields FILE:LINE and fields of every row of a CSV file that has this ``header``.

    Raises ``error`` with the message ``wrong_header``, or ``wrong_row`` for more or fewer fields, and as
    `read_csv_rows`.
    """
    rows = read_csv_rows(path, error, columns=header)
    for line, found in rows:
        if found != list(header):
            raise error(f"{path}:{line}: {wrong_header}")
        break
    for line, fields in rows:
        if len(fields) != len(header):
            raise error(f"{path}:{line}: {wrong_row}")
        yield f"{path}:{line}", fields


def text_in_place_of(start: bytes) -> str:
    """Returns what a file is that has text where a video or weights should be, by its first bytes; "" for other files.

    A Git LFS pointer, an HTML page, or a text file, with the remedy where there is one.
    """
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file that it stands for: get that with `git lfs pull`"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, as a download leaves that needs a login or another address: get the file itself"
    printable = all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "a text file" if start and printable and _is_utf8(start) else ""


def _is_utf8(start: bytes) -> bool:
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # the last character is cut
    return True


def _fill_csv(file: IO[str], header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    for row in rows:
        cells = list(row)
        # Without quotes a carriage return would be read as the end of the line.
        bare = any("\r" in cell for cell in cells if isinstance(cell, str))
        (quoting if bare else writer).writerow(cells)


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _remedy(error: OSError | RuntimeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return _REMEDIES.get(number or 0, "see that the disk has room and that you may write there")
