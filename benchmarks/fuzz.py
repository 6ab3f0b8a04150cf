"""Broken files, read in processes with limits on time and memory: crashes, hangs, leaks, errors of other people's.

    python benchmarks/fuzz.py --files 2000 --seed 0

Prints a table of kinds of files and what became of them, everything that must not happen with the number of its file,
and the memory that processes hold as they go on. The exit code is 1 if there is a fault or a leak. ``--write 123 --to
FOLDER`` writes one file for a closer look. Kinds, mutations and the reading itself are the test suite's.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dualformer.video.backend import decoder

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "video"))
fuzzing: Any = importlib.import_module("fuzzing")

PARTS = 8
LEAK = 0.2  # growth from the second of eight parts of the files to the last one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20, help="limit for a file")
    parser.add_argument("--workers", type=int, help="one per core if not given")
    parser.add_argument("--write", type=int, help="write the file of this number and stop")
    parser.add_argument("--to", type=Path, default=Path(), help="folder for --write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mutants = fuzzing.Mutants.encoded(Path(folder), options.seed)
        if options.write is not None:
            mutant = mutants.write(options.write)
            target = options.to / mutant.path.name
            target.write_bytes(mutant.path.read_bytes())
            print(f"{target}: {mutant.kind}, {mutant.how}")
            return 0
        begun = time.monotonic()
        numbers = range(options.start, options.start + options.files)
        outcomes = list(mutants.read(numbers, seconds_limit=options.seconds, workers=options.workers))
    slowest = max(outcome.seconds for outcome in outcomes)
    print(
        f"{len(outcomes)} files, seed {options.seed}, {decoder()}; {time.monotonic() - begun:.0f} s, the slowest file "
        f"{slowest:.2f} s; limits: {options.seconds:g} s and {fuzzing.MEMORY / 2**30:g} GiB of address space\n"
    )
    print_table("kind", ((outcome.mutant.kind, outcome) for outcome in outcomes))
    print_table("how it is broken", ((outcome.mutant.how, outcome) for outcome in outcomes))
    growth = print_memory(outcomes)
    faults = [outcome for outcome in outcomes if outcome.fault]
    for outcome in faults:
        print(f"fault: file {outcome.mutant.number} ({outcome.mutant.kind}, {outcome.mutant.how}): {outcome.fault}")
    if growth > LEAK:
        print(f"leak: memory grows by {growth:.0%}")
    return int(bool(faults) or growth > LEAK)


def print_table(title: str, rows: Iterable[tuple[str, Any]]) -> None:
    """Files by kind and outcome, and the row of all of them."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for name, outcome in rows:
        groups[name].append(outcome)
        groups["**all**"].append(outcome)
    groups["**all**"] = groups.pop("**all**")  # last
    columns = ("decodes", "refused", "crashes", "hangs")
    print(f"| {title} | files | {' | '.join(columns)} | other faults | patched up otherwise |")
    print("|---" * (len(columns) + 4) + "|")
    for name, group in groups.items():
        counts = [sum(outcome.verdict == column for outcome in group) for column in columns]
        others = sum(bool(outcome.fault) and outcome.verdict in ("decodes", "refused") for outcome in group)
        row = [len(group), *counts, others, sum(not outcome.same for outcome in group)]
        print(f"| {name} | {' | '.join(map(str, row))} |")
    print()


def print_memory(outcomes: list[Any]) -> float:
    """Medians of the memory held after each file, in parts as time goes on; the largest growth of a process."""
    held: dict[int, list[float]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.process:
            held[outcome.process].append(outcome.memory / 2**20)
    growth = 0.0
    print(f"| process | files | {' | '.join(f'MiB, part {part + 1}' for part in range(PARTS))} |")
    print("|---" * (PARTS + 2) + "|")
    for number, memory in enumerate(held.values(), 1):
        if len(memory) < 10 * PARTS:
            continue
        size = len(memory) // PARTS
        parts = [statistics.median(memory[part * size : (part + 1) * size]) for part in range(PARTS)]
        growth = max(growth, parts[-1] / parts[1] - 1)
        print(f"| {number} | {len(memory)} | {' | '.join(f'{part:.0f}' for part in parts)} |")
    print()
    return growth


if __name__ == "__main__":
    sys.exit(main())
