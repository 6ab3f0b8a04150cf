"""The cores that a process may use: its affinity, and the quotas of its control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dualformer.cli import main as command_line
from dualformer.cores import available_cores

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),  # no control groups at all
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 64),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "300000 100000"}, 3),  # of a group above
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "200000 50000",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/elsewhere", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),  # seen from a container
        (
            {
                "proc/self/cgroup": "5:memory:/m\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            64,
        ),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "what"}, 64),
        ({"proc/self/cgroup": "what"}, 64),
    ],
)
def test_quotas_of_control_groups_count(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert available_cores(write(tmp_path, files)) == cores


def test_the_affinity_counts() -> None:
    assert 1 <= available_cores() <= HERE
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from dualformer.cores import available_cores
print(available_cores())
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(("cores", "own", "threads"), [(3, None, "3"), (3, "5", "5"), (None, None, None)])
def test_the_command_line_computes_with_as_many_threads(
    cores: int | None, own: str | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "limited_cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", own or "")
    if own is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    assert command_line.main(["info", "dualformer_nano"]) == 0
    assert os.environ.get("OMP_NUM_THREADS") == threads
