"""What scripts share that measure each side in a process of its own: starting it, and its memory (Linux)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dualformer.cores import set_thread_variables

FREED_MEMORY_RETURNS = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
"""Has glibc hand freed tensors back at once: the peak is that of the tensors, as on a GPU."""


def run_side(side: str, options: argparse.Namespace, names: str, environment: dict[str, str] | None = None) -> Any:
    """Runs this script again with ``--one SIDE`` and those options that ``names`` lists; returns the JSON it prints."""
    chosen = [text for name in names.split() for text in (f"--{name}", str(getattr(options, name)))]
    command = [sys.executable, sys.argv[0], *chosen, "--one", side]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | (environment or {}))
    return json.loads(done.stdout)


def wait_as_the_command_line(**environment: str) -> None:
    """Starts this script anew where the command line would have set environment variables that PyTorch, which is
    imported by now, has read otherwise. ``environment``: what to set besides."""
    read = dict(os.environ)
    os.environ.update(environment)
    set_thread_variables()
    if os.environ != read:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ)


def run_dualformer(*arguments: str) -> tuple[str, float, float]:
    """Runs ``dualformer`` with ``arguments``: what it prints, MiB at its peak, and seconds."""
    code = (
        "import sys; from dualformer.cli.main import main; code = main(sys.argv[1:]);"
        "lines = open('/proc/self/status', encoding='ascii').read().splitlines();"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')), file=sys.stderr); sys.exit(code)"
    )
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout, int(done.stderr.split()[-1]) / 1024, time.perf_counter() - begun


def resident_mib(field: str = "VmRSS", *, process: int | str = "self") -> float:
    """MiB of a process: ``VmRSS`` is now, ``VmHWM`` the peak since the start or since `reset_peak`."""
    with Path(f"/proc/{process}/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))


def reset_peak() -> None:
    """The peak is now what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
