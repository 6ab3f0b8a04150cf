"""Inference of a batch on a CPU, clip by clip: each thread takes clips through the whole network by itself.

PyTorch's own way is to cut every single operation into as many parts as there are threads, hundreds of times in a pass,
and its threads spin as they wait for each other. Beside another busy process one of them is always late. Clips have
nothing to wait for.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dualformer.model import tiles
from dualformer.model.kernels.tracing import is_tracing

_MOST_THREADS = 8
"""Of more threads than these many would wait for Python, which starts one operation at a time."""


def usable(network: Any, video: Tensor) -> bool:
    """Whether there is a clip of B 3 T H W for each thread, and ``network`` runs for inference on a CPU, unwatched."""
    if is_tracing():  # a compiler cannot ask for the number of threads
        return False
    return 1 < torch.get_num_threads() <= min(_MOST_THREADS, len(video)) and tiles.usable(network, video)


def forward_features(network: Any, video: Tensor) -> Tensor:
    """Runs ``network.forward_features`` on clips B 3 T H W → B C T' H' W', as many at a time as there are threads.

    Clips that are left over, too few for all threads, go through together in PyTorch's own way.
    """
    threads = torch.get_num_threads()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    inference = torch.is_inference_mode_enabled()

    def run(clips: Tensor) -> Tensor:
        # Modes belong to a thread.
        with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", dtype, enabled=autocast):
            return network.forward_features(clips)

    even = len(video) // threads * threads
    maps = list(_single_threads(threads, os.getpid()).map(run, video[:even].chunk(threads)))
    return torch.cat([*maps, network.forward_features(video[even:])] if even < len(video) else maps)


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
