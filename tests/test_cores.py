"""The cores that a process may use: its affinity, and the quotas of its control groups. How its threads wait."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dualformer import cores
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


@pytest.mark.parametrize(("limit", "own", "threads"), [(3, None, "3"), (3, "5", "5"), (None, None, None)])
def test_threads_are_as_many_as_a_control_group_leaves_cores(
    limit: int | None, own: str | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "limited_cores", lambda: limit)
    monkeypatch.setattr(os, "environ", {} if own is None else {"OMP_NUM_THREADS": own})
    cores.set_thread_variables()
    assert os.environ.get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize("own", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"])
def test_whoever_says_how_threads_wait_has_it_so(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {own: "1", "OMP_NUM_THREADS": "1"}
    monkeypatch.setattr(os, "environ", dict(environment))
    cores.set_thread_variables()
    assert os.environ == environment


def test_threads_of_the_command_line_and_of_its_processes_do_not_spin_for_long(tmp_path: Path) -> None:
    """Every GNU OpenMP says what it has read as PyTorch loads it."""
    if not list(Path(torch.__file__).parent.glob("lib/libgomp*")):
        pytest.skip("this build of PyTorch brings no GNU OpenMP")
    free = {name: value for name, value in os.environ.items() if name not in cores.WAITING}
    options = "--classes places --size 32 --train 1 --val 0 --test 0 --workers 1"
    call = [sys.executable, "-m", "dualformer", "render", *options.split(), str(tmp_path)]
    environment = free | {"OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    said = re.findall("GOMP_SPINCOUNT = '([0-9]+)'", done.stderr)
    assert len(said) == 2, done.stderr  # of the process that was called, and of its worker
    assert 0 < int(said[0]) < 300_000
    assert said[0] == said[1]
