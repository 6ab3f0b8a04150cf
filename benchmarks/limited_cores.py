"""Is a process that may use few cores as fast as one that is told its threads by hand? Both sides in turns (Linux).

    python benchmarks/limited_cores.py                        # as root, for the control groups; minutes
    python benchmarks/limited_cores.py --limits "one core"    # by affinity, which anybody may

Limits are an affinity of one core, and control groups with a quota of 1.5 and of 0.75 CPUs. Every side is a process of
its own, which is limited before Python starts and counts its threads as the command line does; "by hand" it is given
OMP_NUM_THREADS. The works are those of `company.py`. Figures are medians in ms over all rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from company import WORKS, ready
from dualformer.bench.machine_info import describe_machine
from dualformer.bench.table import markdown_table

LIMITS: dict[str, tuple[float | None, int]] = {"one core": (None, 1), "1.5 CPUs": (1.5, 2), "0.75 CPUs": (0.75, 1)}
"""The quota in CPUs, or None for an affinity of one core; and as many threads as should be counted."""
_CODE = "from dualformer.cores import set_thread_variables as s; s(); import limited_cores as b; b.work_here({!r}, {})"


@contextlib.contextmanager
def limited(cpus: float | None) -> Iterator[Callable[[], None]]:
    """Yields what a process calls to be limited. The control group that it needs lives as long as the context."""
    if cpus is None:
        yield lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        return
    second = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    group = Path("/sys/fs/cgroup" if second else "/sys/fs/cgroup/cpu") / f"dualformer-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise SystemExit(f"{group}: no control group can be made ({error.strerror}): be root, or `--limits`") from error
    try:
        quota = round(100_000 * cpus)
        if second:
            (group / "cpu.max").write_text(f"{quota} 100000")
        else:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(quota))

        def join() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        yield join
    finally:
        group.rmdir()


def work_here(work: str, seconds: float) -> None:
    """Prints the threads of this process, and the milliseconds of each run of a work."""
    import torch

    with tempfile.TemporaryDirectory() as folder, ready(work, Path(folder)) as run:
        run()
        runs, until = list[float](), time.perf_counter() + seconds
        while len(runs) < 3 or time.perf_counter() < until:
            begun = time.perf_counter()
            run()
            runs.append(1000 * (time.perf_counter() - begun))
    print(json.dumps([torch.get_num_threads(), runs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=["nano float32", "nano bfloat16", "nano step"])
    parser.add_argument("--limits", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    options = parser.parse_args()
    rows = list[list[str]]()
    for limit in options.limits:
        cpus, threads = LIMITS[limit]
        sides = {"by itself": {}, "by hand": {"OMP_NUM_THREADS": str(threads)}}
        clean = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        clean["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), clean.get("PYTHONPATH", "")])
        with limited(cpus) as be_limited:
            for work in options.works:
                taken: dict[str, list[float]] = {side: [] for side in sides}
                counted: dict[str, int] = {}
                for number in range(options.rounds):
                    for side, told in list(sides.items())[:: 1 if number % 2 else -1]:
                        done = subprocess.run(
                            [sys.executable, "-c", _CODE.format(work, options.seconds)],
                            env=clean | told, preexec_fn=be_limited, stdout=subprocess.PIPE, text=True, check=True,
                        )  # fmt: skip
                        counted[side], runs = json.loads(done.stdout)
                        taken[side] += runs
                    print(f"{limit}, {work}: round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                itself, hand = (statistics.median(taken[side]) for side in sides)
                how = f"{counted['by itself']}, {counted['by hand']}"
                rows.append([limit, work, how, f"{itself:.0f}", f"{hand:.0f}", f"{itself / hand:.2f}"])
    print(f"{describe_machine()}\n")
    print("\n".join(markdown_table(["limit", "work", "threads", "by itself, ms", "by hand, ms", "ratio"], rows)))


if __name__ == "__main__":
    main()
