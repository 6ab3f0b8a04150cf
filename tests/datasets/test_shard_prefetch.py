"""Shards that come next are fetched beside the reading, no more of them than are asked for."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_shards import Requests, index_in, make_videos, pack, served

from dualformer import remote_files
from dualformer.datasets.clip_datasets import EpochSampler
from dualformer.datasets.samples import VideoList
from dualformer.datasets.shards import storage
from dualformer.datasets.shards.shard_index import INDEX
from dualformer.datasets.shards.shard_order import ShardOrder, needed_cache_bytes
from dualformer.datasets.shards.shard_prefetch import PrefetchedShards, ShardPrefetch
from dualformer.datasets.shards.storage import ShardCache, cached_shard
from dualformer.datasets.splits import open_splits


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ahead")
    pack(make_videos(root / "videos"), root / "shards", size=8_000)
    return root / "shards"


@pytest.fixture
def remote(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Requests]]:
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0,))
    with served(shards) as (url, requests):
        yield url, requests


def videos_at(url: str, folder: Path, limit: int = 10**9) -> VideoList:
    return open_splits(url, cache=ShardCache(folder=folder, limit=limit)).train


def fetched(requests: Requests) -> list[str]:
    return list(dict.fromkeys(file for file, _ in requests if file != INDEX))


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_no_more_shards_are_fetched_than_come_next(remote: tuple[str, Requests], tmp_path: Path) -> None:
    url, requests = remote
    videos = videos_at(url, tmp_path)
    order = [number for _, number in EpochSampler(12, seed=0, order=ShardOrder.of(videos, 0))]
    names = list(dict.fromkeys(videos.samples[number].path.parent.name for number in order))
    firsts = [next(i for i, n in enumerate(order) if videos.samples[n].path.parent.name == name) for name in names]
    assert len(names) > 5
    prefetched = PrefetchedShards.of(videos, by_shard=True)
    assert prefetched is not None
    with prefetched.ahead_of(order, processes=1) as ahead:
        assert fetched(requests) == []
        ahead.reach(0)
        wait_for(lambda: fetched(requests) == names[1:3])
        ahead.reach(firsts[1])
        wait_for(lambda: fetched(requests) == names[1:4])
        ahead.reach(firsts[4])
        wait_for(lambda: fetched(requests) == [*names[1:4], *names[5:7]])  # the reader has got to the fourth itself
    assert fetched(requests) == [*names[1:4], *names[5:7]]


def test_a_shard_that_does_not_come_is_told_to_its_reader_alone(remote: tuple[str, Requests], tmp_path: Path) -> None:
    url, requests = remote
    shard = videos_at(url, tmp_path).samples[0].media.shard  # type: ignore[union-attr]
    gone = type(shard)(url=f"{url}/gone.tar", bytes=1, sha256="0" * 64, cache=shard.cache)
    with ShardPrefetch([shard, gone, shard, shard], ahead=2) as ahead:
        ahead.reach(-1)
        wait_for(lambda: len(list(tmp_path.glob("*.tar"))) == 1)
    assert cached_shard(shard).is_file() and len(requests) > 0


def test_who_stops_does_not_wait_for_a_shard(
    remote: tuple[str, Requests], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which any number of chunks may be to come."""
    url, _ = remote
    shard = videos_at(url, tmp_path).samples[0].media.shard  # type: ignore[union-attr]
    begun, given = threading.Event(), list[bytes]()

    def chunks(_: str) -> Iterator[bytes]:
        while len(given) < 10_000:
            begun.set()
            time.sleep(0.01)
            given.append(b"chunk")
            yield given[-1]

    monkeypatch.setattr(storage, "read_chunks", chunks)
    with ShardPrefetch([shard], ahead=1) as ahead:
        ahead.reach(-1)
        assert begun.wait(30)
    assert len(given) < 5_000 and list(tmp_path.glob("*train*")) == []


def test_a_cache_without_room_keeps_what_is_read(remote: tuple[str, Requests], shards: Path, tmp_path: Path) -> None:
    url, requests = remote
    videos = videos_at(url, tmp_path)
    tight = videos_at(url, tmp_path, needed_cache_bytes(videos, "samples"))
    prefetched = PrefetchedShards.of(tight, by_shard=False)
    assert prefetched is not None
    with prefetched.ahead_of(range(12), processes=1) as ahead:
        ahead.reach(0)
    assert fetched(requests) == []
    assert PrefetchedShards.of(open_splits(shards).train, by_shard=True) is None
    assert PrefetchedShards.of(open_splits(url).train, by_shard=True) is None
    assert len(index_in(shards).shards) > 5
