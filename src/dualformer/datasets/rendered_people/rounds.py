"""Rounds of four things: the orders that are the classes, and which frame shows what; or one thing, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

KINDS_A_ROUND = 4
_ORDERS = tuple((0, *rest) for rest in permutations(range(1, KINDS_A_ROUND)))
"""Of numbers of kinds, round and round, from the first."""
_FEWEST = 3
"""Frames of a kind."""


def orders_of(kinds: Sequence[str]) -> tuple[str, ...]:
    """The class names of four kinds: (4 - 1)! = 6."""
    return tuple("-".join(kinds[number] for number in order) for order in _ORDERS)


def frames_of_kinds(frames: int, variety: float, rng: np.random.Generator) -> np.ndarray:
    """How many of the frames each of the four kinds gets: at least 3, whatever the class."""
    share = rng.dirichlet(np.full(KINDS_A_ROUND, 40 / (1 + 4 * variety)))
    spare = frames - _FEWEST * KINDS_A_ROUND
    counts = np.floor(share * spare).astype(np.int64)
    counts[np.argsort(share * spare - counts)[KINDS_A_ROUND - (spare - counts.sum()) :]] += 1
    return counts + _FEWEST


def frames_of_one(frames: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """How many of the frames each time gets that one thing is done, once to ``most`` times, evenly."""
    times = int(rng.integers(1, most + 1))
    return frames * np.arange(1, times + 1) // times - frames * np.arange(times) // times


def frame_order(label: int, counts: np.ndarray, start: int) -> np.ndarray:
    """T: for each frame of the clip its number in canonical order, where frames of a kind are together.

    ``label`` is an index into ``orders_of``; ``counts`` (4) says how many frames each kind has, ``start`` where in the
    round the clip begins.
    """
    ends = np.cumsum(counts)
    order = np.concatenate([np.arange(ends[kind] - counts[kind], ends[kind]) for kind in _ORDERS[label]])
    return np.roll(order, -start)
