"""Fetches whole shards from a URL before their first sample is read, in a thread beside the reading.

What is read does not depend on it: an order of samples, and a run that goes on in it, are as without.
"""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress

from dualformer.datasets.samples import VideoList
from dualformer.datasets.shards.shard_order import needed_cache_bytes, remote_shards
from dualformer.datasets.shards.storage import RemoteFileSlice, RemoteShard, StorageError, cached_shard

_AHEAD = 2
"""Shards that a process fetches in advance, at most."""


class ShardPrefetch:
    """A context manager that stays ahead of one pass over samples.

    ``shards``: of the samples, in the order in which they are read. At any time at most ``ahead`` shards are being
    fetched or wait for their first sample. Nothing is raised for a shard that cannot be had: who reads it is told.
    The thread begins with `reach`, and must not live while processes are forked.
    """

    def __init__(self, shards: Sequence[RemoteShard], *, ahead: int) -> None:
        firsts: dict[int, tuple[int, RemoteShard]] = {}
        for place, shard in enumerate(shards):
            firsts.setdefault(id(shard), (place, shard))  # samples of a shard have the same one, and it hashes slowly
        self._places = [place for place, _ in firsts.values()]
        self._shards = [shard for _, shard in firsts.values()]
        self._ahead = ahead
        self._begun = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "ShardPrefetch":
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends what is being fetched, at the next of its chunks."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def reach(self, place: int) -> None:
        """Tells that all samples up to number ``place`` of the pass are read, or being read."""
        with self._changed:
            self._begun = bisect_right(self._places, place)
            self._changed.notify()
        if self._thread is None and self._ahead and not self._closed:
            self._thread = threading.Thread(target=self._fetch, name="shards", daemon=True)
            self._thread.start()

    def _fetch(self) -> None:
        for number, shard in enumerate(self._shards):
            with self._changed:
                self._changed.wait_for(lambda number=number: self._closed or number < self._begun + self._ahead)
                if self._closed:
                    return
                if number < self._begun:  # its reader fetches it
                    continue
            with suppress(StorageError):
                cached_shard(shard, wanted=lambda: not self._closed)


class PrefetchedShards:
    """The shards of a list of videos whose cache has room for more than an epoch needs at a time."""

    def __init__(self, shards: Sequence[RemoteShard], ahead: int) -> None:
        self._shards, self._ahead = shards, ahead

    @classmethod
    def of(cls, videos: VideoList, *, by_shard: bool) -> "PrefetchedShards | None":
        """None where nothing is fetched whole."""
        pieces = [sample.media for sample in videos.samples]
        shards = [piece.shard for piece in pieces if isinstance(piece, RemoteFileSlice)]
        cache = shards[0].cache if shards else None
        if cache is None or len(shards) < len(pieces):
            return None
        room = cache.limit - needed_cache_bytes(videos, "shards" if by_shard else "samples")
        return cls(shards, room // max(shard.bytes for shard in remote_shards(videos)))

    def ahead_of(self, samples: Sequence[int], *, processes: int) -> ShardPrefetch:
        """Returns what fetches the shards of these samples, in their order, for one of several ``processes`` that may
        share the cache."""
        shards = [self._shards[number % len(self._shards)] for number in samples]
        return ShardPrefetch(shards, ahead=min(_AHEAD, self._ahead // processes))
