"""Inference of a batch on a CPU, clip by clip: each thread takes clips through the whole network by itself."""

from typing import Any

import torch
from torch import Tensor

from dualformer.model import tiles
from dualformer.model.kernels.tracing import is_tracing
from dualformer.model.threads import map_pieces, thread_count


def usable(network: Any, video: Tensor) -> bool:
    """Whether there is a clip of B 3 T H W for each thread, and ``network`` runs for inference on a CPU, unwatched."""
    if is_tracing():  # a compiler cannot ask for the number of threads
        return False
    return 1 < thread_count() <= len(video) and tiles.usable(network, video)


def forward_features(network: Any, video: Tensor) -> Tensor:
    """Runs ``network.forward_features`` on clips B 3 T H W → B C T' H' W', as many at a time as there are threads.

    Clips that are left over, too few for all threads, go through together, their tiles on all threads.
    """
    threads = thread_count()
    even = len(video) // threads * threads
    maps = map_pieces(network.forward_features, video[:even].chunk(threads))
    return torch.cat([*maps, network.forward_features(video[even:])] if even < len(video) else maps)
