"""Times the networks of two checkouts of this project against each other, in turns: is a change as fast as before?

    git worktree add ../before HEAD~1
    python benchmarks/compare_checkouts.py ../before . [--rounds 20] [--busy] [--cases nano/forward/float32]

Each checkout runs in a process of its own, and only one of them computes at a time. A round times every case once on
each side, and the sides take turns in going first. Printed are both medians, and the median of the rounds' ratios
(second checkout over first; below 1 is faster). ``--busy`` keeps one core busy with a Python loop meanwhile. Nano takes
four clips at a time, Tiny one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

CASES = [
    (model, precision, work)
    for model, work in (
        ("dualformer_nano", "forward"),
        ("dualformer_nano", "training step"),
        ("dualformer_tiny", "forward"),
    )
    for precision in ("float32", "bfloat16")
]

_WORKER = """
import json, sys, time
import torch, dualformer
models = {}
def step(model, precision, work):
    if (model, work) not in models:
        network = dualformer.create_model(model, num_classes=10).train(work != "forward")
        batch = 4 if model == "dualformer_nano" else 1
        clip = torch.randn(batch, 3, *network.config.clip, generator=torch.Generator().manual_seed(0))
        models[model, work] = network, clip
    network, clip = models[model, work]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        if work == "forward":
            with torch.inference_mode():
                return network(clip)
        loss = network(clip).float().logsumexp(1).mean()
    loss.backward()
    network.zero_grad()
for line in sys.stdin:
    case = json.loads(line)
    start = time.perf_counter()
    step(*case)
    print(time.perf_counter() - start, flush=True)
"""


class Checkout:
    """A process that computes with the package of one checkout. A context manager, which ends the process."""

    def __init__(self, folder: Path) -> None:
        source = folder / "src"
        if not (source / "dualformer").is_dir():
            raise SystemExit(f"{folder}: there is no src/dualformer in it; name a checkout of the project")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source.resolve())},
        )

    def time(self, case: tuple[str, str, str]) -> float:
        """Seconds that the case takes once."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> Checkout:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--busy", action="store_true", help="beside a process that keeps one core busy")
    names = {
        f"{model.removeprefix('dualformer_')}/{work.replace(' ', '-')}/{precision}": (model, precision, work)
        for model, precision, work in CASES
    }
    parser.add_argument("--cases", nargs="+", choices=names, default=list(names), metavar="NETWORK/WORK/PRECISION")
    arguments = parser.parse_args()
    cases = [names[name] for name in arguments.cases]
    with ExitStack() as stack:
        sides = [stack.enter_context(Checkout(folder)) for folder in (arguments.before, arguments.after)]
        if arguments.busy:
            loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(loop.kill)
        for case in cases:  # the first times build the networks and warm up
            for side in sides * 2:
                side.time(case)
        seconds: dict[tuple[str, str, str], list[list[float]]] = {case: [] for case in cases}
        for number in range(arguments.rounds):
            for case in cases:
                order = (0, 1) if number % 2 == 0 else (1, 0)
                times = {place: sides[place].time(case) for place in order}
                seconds[case].append([times[0], times[1]])
    print(f"{'network':<16} {'work':<14} {'precision':<10} {'before, ms':>10} {'after, ms':>10} {'ratio':>6}")
    for (model, precision, work), rounds in seconds.items():
        before, after = (statistics.median(times) * 1000 for times in zip(*rounds, strict=True))
        ratio = statistics.median(late / early for early, late in rounds)
        print(f"{model:<16} {work:<14} {precision:<10} {before:>10.1f} {after:>10.1f} {ratio:>6.3f}")


if __name__ == "__main__":
    main()
