"""Works that take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key")

_TURN = 0.2  # seconds that a turn lasts at least: the first run of a small network finds the caches of another one


def take_turns(
    works: Mapping[Key, Callable[[], object]],
    *,
    rounds: int | None = None,
    seconds: float = 20.0,
    at_least: int = 3,
    at_most: int = 200,
    between: Callable[[], object] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> dict[Key, list[float]]:
    """Seconds of every run of every work: each runs in turn, and that again, for so many ``rounds``.

    Without ``rounds``, there are as many as fit into ``seconds``, but ``at_least`` so many. A work has run before its
    first turn, which is not counted; where a turn is over in no time, it runs several times in it, and the first of
    them is not counted either. Every work must end with what it computes, and on a GPU wait for it. ``between`` runs
    after each round. ``progress`` is told the seconds that went by and those that it will have taken in all.

    Errors: ``ValueError`` for nothing to do, or for fewer than one round.
    """
    if not works:
        raise ValueError("there is nothing to measure")
    if rounds is not None and rounds < 1:
        raise ValueError(f"there must be at least 1 round, not {rounds}")
    begun = time.perf_counter()
    for work in works.values():
        work()
    taken: dict[Key, list[float]] = {key: [] for key in works}
    started = time.perf_counter()
    done = 0
    while True:
        for key, work in works.items():
            taken[key] += _turn(work)
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


def _turn(work: Callable[[], object]) -> list[float]:
    runs: list[float] = []
    while not runs or sum(runs) < _TURN:
        begun = time.perf_counter()
        work()
        runs.append(time.perf_counter() - begun)
    return runs[1:] if len(runs) > 1 else runs


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many per cent of ``values`` do not exceed; the median is that of 50."""
    if percent == 50:
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
