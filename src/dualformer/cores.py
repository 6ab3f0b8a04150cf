"""How many processor cores this process may use, and how PyTorch's threads share them with other processes.

Imports nothing heavy: the command line calls it before PyTorch is imported.
"""

import contextlib
import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path, PurePosixPath

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Environment variables by which a user says how threads wait for each other."""
_SPINS = "5000"
"""How often a thread of GNU OpenMP, which comes with PyTorch for Linux, looks whether its wait is over before it
sleeps: 300,000 times by itself. Meanwhile it holds a core that the thread which it waits for could have."""


def set_thread_variables() -> None:
    """Sets environment variables that let PyTorch's threads live beside other processes. What a user has set stays.

    Threads are as many as a control group gives cores (``OMP_NUM_THREADS``), and sleep where they wait for long
    (``GOMP_SPINCOUNT``). PyTorch reads both as it is imported; later they count in processes that this one starts.
    """
    if cores := limited_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = _SPINS


def available_cores(root: Path = Path("/")) -> int:
    """Returns the cores of the process's affinity, but no more than its control groups give it time on, rounded up.

    A container that may use 1.5 CPUs of a machine with 64 has 2. ``root``: where ``proc`` and ``sys`` are mounted.
    """
    return max(1, min([_affinity(), *map(ceil, _quotas(root))]))


def limited_cores() -> int | None:
    """Returns `available_cores` where a control group gives less time than the affinity has cores; else None."""
    cores = available_cores()
    return cores if cores < _affinity() else None


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yields the CPUs that each control group above the process has a quota of; nothing on other systems than Linux."""
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                for folder in _above(root / "sys/fs/cgroup", group):
                    yield from _quota((folder / "cpu.max",))
            elif "cpu" in controllers.split(","):
                for folder in _above(root / "sys/fs/cgroup" / controllers, group):
                    yield from _quota((folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"))


def _above(mount: Path, group: str) -> Iterator[Path]:
    """Yields the folder of a control group and those above it. In a container the group itself may not be mounted."""
    path = PurePosixPath(group.lstrip("/"))
    for part in (path, *path.parents):
        yield mount / part


def _quota(files: tuple[Path, ...]) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):
        quota, period = " ".join(file.read_text(encoding="utf-8") for file in files).split()
        if quota != "max" and int(quota) > 0:  # "max" and -1: as much as there is
            yield int(quota) / int(period)
