"""Times functions in turns, so that whatever else the machine does falls on all of them alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key")

_TURN_SECONDS = 0.2  # at least: the first run of a small network finds the caches of another one


def time_interleaved(
    functions: Mapping[Key, Callable[[], object]],
    *,
    rounds: int | None = None,
    seconds: float = 20.0,
    at_least: int = 3,
    at_most: int = 200,
    between: Callable[[], object] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> dict[Key, list[float]]:
    """Returns the seconds of every run of every function: each has its turn in each of ``rounds``.

    Without ``rounds``, there are as many as fit into ``seconds``, but ``at_least`` so many. A function has run before
    its first turn, which is not counted; where a turn is over in no time, it runs several times in it, and the first of
    them is not counted either. Every function must return when its result is there, and on a GPU wait for it.
    ``between`` runs after each round. ``progress`` is told the seconds gone and those of all rounds.

    Errors: ``ValueError`` for nothing to do, or for fewer than one round.
    """
    if not functions:
        raise ValueError("there is nothing to measure")
    if rounds is not None and rounds < 1:
        raise ValueError(f"there must be at least 1 round, not {rounds}")
    begun = time.perf_counter()
    for function in functions.values():
        function()
    taken: dict[Key, list[float]] = {key: [] for key in functions}
    started = time.perf_counter()
    done = 0
    while True:
        for key, function in functions.items():
            taken[key] += _time_turn(function)
        if between is not None:
            between()
        done += 1
        now = time.perf_counter()
        each = (now - started) / done
        wanted = rounds or min(at_most, max(at_least, int(seconds / each)))
        if progress is not None:
            progress(now - begun, now - begun + max(0, wanted - done) * each)
        if done >= wanted:
            return taken


def _time_turn(function: Callable[[], object]) -> list[float]:
    runs: list[float] = []
    while not runs or sum(runs) < _TURN_SECONDS:
        begun = time.perf_counter()
        function()
        runs.append(time.perf_counter() - begun)
    return runs[1:] if len(runs) > 1 else runs


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that at least ``percent`` of ``values`` do not exceed; of 50, the median."""
    if percent == 50:
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
