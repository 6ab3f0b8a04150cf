"""How many processor cores this process may use.

Imports nothing heavy: the command line calls it before PyTorch is imported.
"""

import contextlib
import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path, PurePosixPath


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
