"""The order of an epoch that reads few shards at a time, for shards that are fetched whole.

Any order over all samples would need every shard at once. Here the shards are put in a random order, each with its
samples shuffled, and the whole is cut into 16 lanes of equal length. Samples are taken from the lanes in turn: at any
time about 16 shards are in use, one for each lane.

The order depends on (seed, epoch) alone. Where the number of ranks divides 16, each rank, which gets every so-many-th
sample, has lanes to itself: a shard is fetched by one rank (by two, where lanes were cut), and yet the batches are the
same for any number of ranks.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualformer.datasets.samples import VideoList
from dualformer.datasets.shards.storage import RemoteFileSlice, RemoteShard

LANES = 16


def remote_shards(videos: VideoList) -> set[RemoteShard]:
    """Returns the shards at a URL that a list is spread over."""
    pieces = (sample.media for sample in videos.samples)
    return {piece.shard for piece in pieces if isinstance(piece, RemoteFileSlice)}


def needed_cache_bytes(videos: VideoList, shuffle: Literal["samples", "shards"]) -> int:
    """Returns the bytes that a cache must hold, lest a shard that is thrown out is fetched again and again."""
    sizes = sorted((shard.bytes for shard in remote_shards(videos)), reverse=True)
    return sum(sizes if shuffle == "samples" else sizes[: LANES + 2])  # two more while lanes pass on to their next one


@dataclass(frozen=True, eq=False)
class ShardOrder:
    """Call it with an epoch for a permutation of the samples. ``shards``: the shard of each sample, by any number."""

    shards: NDArray[np.int64]
    seed: int
    lanes: int = LANES

    @classmethod
    def of(cls, videos: VideoList, seed: int) -> "ShardOrder":
        """For a list whose samples all lie in shards."""
        names = [str(sample.path.parent) for sample in videos.samples]
        return cls(np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64), seed)

    def __call__(self, epoch: int) -> NDArray[np.int64]:
        count = len(self.shards)
        # Another last number than that of an epoch's order over all samples, and of a clip's draws.
        rng = np.random.default_rng([self.seed, epoch, 0, 2])
        turn = rng.permutation(int(self.shards.max()) + 1)[self.shards]
        line = np.lexsort((rng.permutation(count), turn))
        lanes = min(self.lanes, count)
        lengths = count // lanes + (np.arange(lanes) < count % lanes)
        starts = np.cumsum(lengths) - lengths
        place = np.arange(count)
        return line[starts[place % lanes] + place // lanes]
