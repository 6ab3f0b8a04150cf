"""Writing files whole or not at all, and reading text, JSON and CSV with errors that name the line."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dualformer.errors import DualFormerError
from dualformer.files import (
    FileWriteError,
    InUseError,
    atomic_write,
    csv_text,
    lock_for_writing,
    read_csv_rows,
    read_csv_table,
    read_json_object,
    read_text,
    write_csv,
    write_json,
    write_text,
)


class BadFileError(DualFormerError):
    """What a caller wants to be told of its own files."""


def test_atomic_write_replaces_makes_folders_and_follows_links(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "file"
    atomic_write(target, lambda path: path.write_text("one"))
    atomic_write(target, lambda path: path.write_text("two"))
    assert target.read_text() == "two"
    link = tmp_path / "link"
    link.symlink_to(target)
    atomic_write(link, lambda path: path.write_text("three"))
    assert link.is_symlink()
    assert target.read_text() == "three"


def test_atomic_write_cleans_up_after_any_error(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(target, interrupted)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_previous_text(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes need a Unix")
    path = tmp_path / "table.csv"
    write_csv(path, ["n"], [[1]])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        for write in (
            lambda: write_text(path, "x" * 2000),
            lambda: write_json(path, ["x"] * 2000),
            lambda: write_csv(path, ["n"], ([i] for i in range(2000))),
        ):
            with pytest.raises(FileWriteError, match=r"table.csv: could not be written \(file too large\); choose"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "n\n1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "größer\nルン\r\n")
    assert path.read_bytes() == "größer\nルン\r\n".encode()
    assert read_text(path, BadFileError) == "größer\nルン\r\n"
    write_json(path, {"b": 1, "a": ["ü"]})
    assert path.read_text("utf-8") == '{\n  "b": 1,\n  "a": [\n    "ü"\n  ]\n}\n'
    assert read_json_object(path, BadFileError, expected="") == [("b", 1), ("a", ["ü"])]
    write_json(path, {"a": "ü"}, indent=None, ensure_ascii=True)
    assert path.read_bytes() == b'{"a": "\\u00fc"}\n'
    header, rows = ["path", "label"], [["a, b.mp4", 'say "hi"'], ["two\nlines", ""]]
    write_csv(path, header, rows)
    assert path.read_text("utf-8") == csv_text(header, rows)
    assert list(read_csv_rows(path, BadFileError)) == [(1, header), (2, rows[0]), (4, rows[1])]


def test_names_that_are_no_text_keep_their_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    write_csv(tmp_path / "a.csv", ["path"], [[name]])
    write_text(tmp_path / "b.txt", csv_text(["path"], [[name]]))
    assert (tmp_path / "a.csv").read_bytes() == b"path\ncaf\xe9.mp4\n" == (tmp_path / "b.txt").read_bytes()


def test_rows_of_a_csv_file_are_stripped_and_empty_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("\ufeff path ,label\r\n\r\n a.mp4,run \r\n , \r\n".encode())
    assert list(read_csv_rows(path, BadFileError)) == [(1, ["path", "label"]), (3, ["a.mp4", "run"])]
    assert list(read_csv_rows(path, BadFileError, strip=False))[1] == (3, [" a.mp4", "run "])
    path.write_bytes(b"path;label\ra.mp4;run\r")  # as old Macs end lines
    assert list(read_csv_rows(path, BadFileError, columns=("path",))) == [(1, ["path", "label"]), (2, ["a.mp4", "run"])]


def test_errors_name_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes(b"one\ntwo\nthr\xe9\n")
    with pytest.raises(BadFileError, match=r"names:3: not UTF-8: save the file in that encoding"):
        read_text(path, BadFileError)
    with pytest.raises(BadFileError, match=r"names:3: not UTF-8"):
        list(read_csv_rows(path, BadFileError))
    path.write_text('a\n"b" c\n')
    with pytest.raises(BadFileError, match=r"names:2: .* expected after .*: take another"):
        list(read_csv_rows(path, BadFileError, remedy=": take another"))
    path.write_text('{"a": 1,\n"b": }')
    with pytest.raises(BadFileError, match=r"names:2: not JSON \(Expecting value\): take another"):
        read_json_object(path, BadFileError, expected="", remedy=": take another")
    for text in ("[]", '[["a", 1]]', "3", '"{"'):
        path.write_text(text)
        with pytest.raises(BadFileError, match=r"names: names are an object$"):
            read_json_object(path, BadFileError, expected="names are an object")


def test_a_table_must_have_its_header(tmp_path: Path) -> None:
    path = tmp_path / "names"

    def rows(text: str) -> list[tuple[str, list[str]]]:
        path.write_text(text)
        return list(
            read_csv_table(path, ("a", "b"), BadFileError, wrong_header="expected a,b", wrong_row="expected two")
        )

    assert rows("a, b\n\n1,2\n") == [(f"{path}:3", ["1", "2"])]
    assert rows("") == []
    with pytest.raises(BadFileError, match="names:2: expected a,b"):
        rows("\nb,a\n")
    with pytest.raises(BadFileError, match="names:3: expected two"):
        rows("a,b\n1,2\n1\n")


def test_repeated_names_of_an_object_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"a": 1})[:-1] + ', "a": 2}')
    assert read_json_object(path, BadFileError, expected="") == [("a", 1), ("a", 2)]


def hold(path: Path, *, folder: bool, fork: bool = False) -> subprocess.Popen[str]:
    """Starts a process that holds ``path`` until it is killed, and waits until it does."""
    code = (
        "import os, sys, time; from pathlib import Path; from dualformer.files import lock_for_writing\n"
        "with lock_for_writing(Path(sys.argv[1]), folder=sys.argv[2] == 'True'):\n"
        "    if sys.argv[3] == 'True' and os.fork() == 0: time.sleep(60)\n"
        "    print('held', flush=True); time.sleep(600)\n"
    )
    arguments = [sys.executable, "-c", code, str(path), str(folder), str(fork)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("folder", [True, False])
def test_the_second_comer_is_told_who_writes(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "made" / "place"
    holder = hold(path, folder=folder)
    try:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        who = rf"another run is writing to it, process {holder.pid} on {re.escape(socket.gethostname())} since {day}"
        with pytest.raises(InUseError, match=who), lock_for_writing(path, folder=folder):
            pass
    finally:
        holder.kill()
        holder.wait()
    with lock_for_writing(path, folder=folder), lock_for_writing(path, folder=folder):  # once more by the same thread
        assert json.loads(next(tmp_path.rglob("*.lock.json")).read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]  # the holder that was killed had made it
    assert [each.name for each in path.parent.rglob("*") if not each.is_dir()] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_holder_does_not_block_though_its_workers_live_on(tmp_path: Path) -> None:
    holder = hold(tmp_path / "r", folder=True, fork=True)
    holder.kill()
    holder.wait()
    try:
        begun = time.monotonic()
        with lock_for_writing(tmp_path / "r", folder=True):
            assert time.monotonic() - begun < 5
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_of_many_that_start_together_one_holds(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from dualformer.files import InUseError, lock_for_writing\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "try:\n"
        "    with lock_for_writing(Path(sys.argv[1]), folder=True):\n"
        "        with Path(sys.argv[1], 'log').open('a') as log: log.write('in\\n')\n"
        "        time.sleep(2)\n"
        "        with Path(sys.argv[1], 'log').open('a') as log: log.write('out\\n')\n"
        "except InUseError as error: print(error)\n"
    )
    start = str(time.time() + 2)
    arguments = [sys.executable, "-c", code, str(tmp_path / "r"), start]
    started = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = [process.communicate()[0] for process in started]
    log = (tmp_path / "r" / "log").read_text().split()
    assert log == ["in", "out"] * (len(log) // 2)
    assert len(log) // 2 + sum("another run is writing to it" in text for text in said) == 6


def test_nothing_is_left_of_a_lock_under_which_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_for_writing(tmp_path / "a" / "b", folder=True):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(FileWriteError, match="a part of it is a file"), lock_for_writing(tmp_path / "file" / "b"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_has_holders_that_count_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Nor do locks of another machine always reach: its holders are known in the same way."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("dualformer.files._BEAT", 0.2)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    path, told = tmp_path / "r", []

    def second() -> None:
        try:
            with lock_for_writing(path, folder=True):
                told.append("held")
        except InUseError as error:
            told.append(str(error))

    with lock_for_writing(path, folder=True):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on" in told[0]
    path.mkdir()
    (path / ".lock.json").write_text('{"process": 1, "host": "other", "since": "long ago", "token": "x", "count": 7}')
    second()
    assert told[1] == "held"


def test_a_holder_of_another_machine_is_watched_where_locks_do_not_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualformer.files._BEAT", 0.2)
    holder, ended = tmp_path / "r" / ".lock.json", threading.Event()
    holder.parent.mkdir()

    def count_up() -> None:
        for count in itertools.count():
            told = {"process": 7, "host": "far", "since": "2026-01-01 00:00:00 UTC", "token": "x", "count": count}
            holder.write_text(json.dumps(told))
            if ended.wait(0.1):
                return

    thread = threading.Thread(target=count_up)
    thread.start()
    time.sleep(0.05)
    with pytest.raises(InUseError, match="another run is writing to it"), lock_for_writing(tmp_path / "r", folder=True):
        pass
    ended.set()
    thread.join()
    with lock_for_writing(tmp_path / "r", folder=True):  # it has died
        assert json.loads(holder.read_text())["host"] == socket.gethostname()
