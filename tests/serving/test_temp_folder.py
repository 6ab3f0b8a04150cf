"""The folder of temporary files: private, removed, and removed by the next server where it was left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from dualformer.errors import DualFormerError
from dualformer.serving.temp_folder import TempFolder, remove_stale

HELD = (
    "import sys, time; from pathlib import Path; from dualformer.serving.temp_folder import TempFolder;"
    "folder = TempFolder(Path(sys.argv[1])); (folder.path / 'upload').write_bytes(b'x');"
    "print(folder.path, flush=True); time.sleep(600)"
)


def test_a_folder_is_private_and_goes(tmp_path: Path) -> None:
    folder = TempFolder(tmp_path)
    assert folder.path.parent == tmp_path and folder.path.stat().st_mode & 0o777 == 0o700
    with folder.file() as one, folder.file() as two:
        assert one != two and one.parent == folder.path
        one.write_bytes(b"x")
    assert not one.exists()
    with pytest.raises(ZeroDivisionError), folder.file() as one:
        one.write_bytes(b"x")
        raise ZeroDivisionError
    assert not one.exists()
    (folder.path / "page").mkdir()
    (folder.path / "page" / "clip").write_bytes(b"x")
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_locked_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(lock: FileLock, **how: object) -> None:
        raise Timeout(lock.lock_file)

    monkeypatch.setattr(FileLock, "acquire", locked)
    with pytest.raises(DualFormerError, match=r"no file can be locked there, .*: choose another `temp`$"):
        TempFolder(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match=r"no such folder for temporary files: choose another `temp`$"):
        TempFolder(tmp_path / "absent")


def test_what_a_killed_server_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, str(tmp_path)], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    other = Path(process.stdout.readline().strip())
    mine = TempFolder(tmp_path)
    (tmp_path / "dualformer-serve-file").write_bytes(b"x")
    (tmp_path / "something").mkdir()
    (tmp_path / "dualformer-serve-link").symlink_to(tmp_path / "something")
    assert remove_stale(tmp_path) == []  # both live
    assert (other / "upload").exists()

    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    third = TempFolder(tmp_path)
    assert not other.exists() and mine.path.exists()
    assert (tmp_path / "dualformer-serve-file").exists() and (tmp_path / "something").exists()
    mine.remove()
    third.remove()
