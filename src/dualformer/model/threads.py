"""Threads that compute alone: each takes a whole piece of work by itself, and the next one when it is done.

PyTorch's own way is to cut every single operation into as many parts as there are threads, hundreds of times in a pass,
and its threads spin as they wait for each other. Beside another busy process one of them is always late. Pieces of
work, such as a clip or a tile of a map, have nothing to wait for.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

MOST_THREADS = 8
"""Of more threads than these many would wait for Python, which starts one operation at a time."""

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def thread_count() -> int:
    """Returns how many threads `map_pieces` uses here: PyTorch's number, or 1 where that is more than 8."""
    threads = torch.get_num_threads()
    return threads if threads <= MOST_THREADS else 1


def map_pieces(function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Calls ``function`` with each of ``pieces``, on `thread_count` threads and without gradients, for inference.

    With one thread, or one piece, it is called here, and PyTorch may use as many threads as are set. An error of a
    piece is raised.
    """
    threads = thread_count()
    if threads == 1 or len(pieces) == 1:
        return [function(piece) for piece in pieces]
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    inference = torch.is_inference_mode_enabled()

    def run(piece: Piece) -> Result:
        # Modes belong to a thread.
        with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", dtype, enabled=autocast):
            return function(piece)

    return list(_single_threads(threads, os.getpid()).map(run, pieces))


@cache
def _single_threads(count: int, _: int) -> ThreadPoolExecutor:
    """Returns threads that compute alone. A forked process has none of its parent's, and makes its own."""
    ready = threading.Barrier(count + 1)

    def compute_alone() -> None:
        torch.get_num_threads()  # a thread takes the number that is set for all when it asks for the first time
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="dualformer", initializer=compute_alone)
    for _ in range(count):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(count)  # for threads that ask for the first time from now on
    return pool
