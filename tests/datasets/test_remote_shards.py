"""Shards at a URL: the same clips as here, few requests, a cache that keeps its size, and failures that are told."""

import os
import shutil
from pathlib import Path

import fsspec
import pytest
import torch
from made_shards import Requests, index_in, make_videos, pack, served

from dualformer import remote_files
from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips, ViewClips
from dualformer.datasets.data_source import survey
from dualformer.datasets.decode_check import check_videos
from dualformer.datasets.manifest import read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.shards import storage
from dualformer.datasets.shards.read_shards import damaged_shards, find_shards, mark_damaged
from dualformer.datasets.shards.shard_index import INDEX
from dualformer.datasets.shards.shard_order import LANES, ShardOrder, needed_cache_bytes
from dualformer.datasets.shards.storage import ShardCache, StorageError, cached_shard
from dualformer.datasets.splits import open_splits, open_videos, read_bad_videos
from dualformer.disk_cache import SIZE_VARIABLE
from dualformer.urls import url_of
from dualformer.video.augmentation import Augmentation
from dualformer.video.file_slices import media_size
from dualformer.video.preprocessing import kinetics

PRE = kinetics(4, 1, 16)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("remote")
    pack(make_videos(root / "videos"), root / "shards")
    return root / "shards"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0, 0.0, 0.0))
    storage.fetch_part.cache_clear()


def clips_of(data: str | Path, cache: ShardCache | None = None) -> TrainingClips:
    return TrainingClips(open_splits(data, cache=cache).train, PRE, seed=0, augmentation=Augmentation(flip=0.5))


def asked_for(requests: Requests) -> list[str]:
    return [file for file, _ in requests if file != INDEX]


def test_a_url_gives_the_same_clips_one_request_each(shards: Path) -> None:
    here = clips_of(shards)
    with served(shards) as (url, requests):
        there = clips_of(url)
        assert asked_for(requests) == []
        for number in range(12):
            assert torch.equal(there[1, number]["clip"], here[1, number]["clip"])
        assert len(asked_for(requests)) == 12
        places = {entry.place: (shard, entry) for shard in index_in(shards).shards for entry in shard.entries[:1]}
        shard, entry = next((s, e) for s, e in places.values() if s.split == "train")
        assert (shard.file, f"bytes={entry.offset}-{entry.offset + entry.size - 1}") in requests
        assert str(there.videos.samples[0].file).startswith(f"{url}/train-00000")
        splits = open_splits(f"{url}/{INDEX}")
        assert splits.train.manifest_hash == here.videos.manifest_hash
        assert len(open_videos(url)) == 4


def test_memory_and_other_file_systems(shards: Path) -> None:
    remote = fsspec.filesystem("memory")
    for path in shards.iterdir():
        remote.pipe_file(f"/packed/{path.name}", path.read_bytes())
    try:
        views, here = ViewClips(open_videos("memory://packed"), PRE), ViewClips(open_videos(shards), PRE)
        assert all(torch.equal(views[i]["views"], here[i]["views"]) for i in range(4))
        remote.rm("/packed/val-000001.tar")
        with pytest.raises(StorageError, match=r"memory://packed/val-000001\.tar: this shard is missing: upload it"):
            open_videos("memory://packed")
        with pytest.raises(FileNotFoundError, match=r"no shards at memory://nowhere: there is no index\.json"):
            open_videos("shards:memory://nowhere")
        with pytest.raises(FileNotFoundError, match=r"no such folder or CSV file: memory://nowhere$"):
            open_videos("memory://nowhere")
    finally:
        remote.rm("/packed", recursive=True)


@pytest.mark.parametrize("keep", [False, True])
def test_workers_read_for_themselves(shards: Path, tmp_path: Path, keep: bool) -> None:
    """What one process has open does not work in those forked from it."""
    order = ShardOrder.of(open_splits(shards).train, 0)
    with served(shards) as (url, requests):
        clips = clips_of(url, ShardCache(folder=tmp_path, limit=10**9) if keep else None)
        found = {}
        for workers in (0, 2):
            _ = clips[0, 5]
            sampler = EpochSampler(12, seed=0, order=order).at(3)
            batches = Batches(clips, batch_size=3, sampler=sampler, num_workers=workers, timeout=60 if workers else 0)
            found[workers] = list(batches)
        assert len(found[0]) == len(found[2]) == 4
        for one, other in zip(found[0], found[2], strict=True):
            assert torch.equal(one["clip"], other["clip"]) and torch.equal(one["index"], other["index"])
        if keep:
            assert sorted(asked_for(requests)) == sorted(s.file for s in index_in(shards).shards if s.split == "train")
            assert [path.read_bytes() for path in sorted(tmp_path.glob("*train-000002.tar"))] == [
                (shards / "train-000002.tar").read_bytes()
            ]


def test_the_cache_keeps_its_size_and_what_was_used_last(shards: Path, tmp_path: Path) -> None:
    with served(shards) as (url, requests):
        largest = max(shard.bytes for shard in index_in(shards).shards)
        cache = ShardCache(folder=tmp_path, limit=2 * largest)
        samples = open_splits(url, cache=cache).train.samples
        by_shard = {sample.path.parent.name: sample.media for sample in samples}
        assert len(by_shard) == 5
        (tmp_path / "mine.tar").write_bytes(bytes(10**6))
        for time, name in enumerate(("train-000000.tar", "train-000001.tar", "train-000000.tar", "train-000002.tar")):
            with by_shard[name].open("rb") as file:
                assert len(file.read()) == media_size(by_shard[name])
            newest = max(tmp_path.glob(f"*-{name}"))
            os.utime(newest, (time, time))
        kept = {path.name.partition("-")[2] for path in tmp_path.glob("*-train-*.tar")}
        assert kept == {"train-000000.tar", "train-000002.tar"}
        assert asked_for(requests) == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
        with by_shard["train-000001.tar"].open("rb") as file:
            file.read()
        assert asked_for(requests)[3:] == ["train-000001.tar"]
        assert sum(path.stat().st_size for path in tmp_path.glob("*-train-*.tar")) <= cache.limit
        assert (tmp_path / "mine.tar").stat().st_size == 10**6  # only what it put there is thrown out


def test_room_is_what_an_order_needs(shards: Path) -> None:
    with served(shards) as (url, _):
        train = open_splits(url).train
    total = sum(shard.bytes for shard in index_in(shards).shards if shard.split == "train")
    assert needed_cache_bytes(train, "samples") == needed_cache_bytes(train, "shards") == total
    assert needed_cache_bytes(open_splits(shards).train, "samples") == 0
    assert LANES >= 5


def test_bytes_that_are_not_those_that_were_written(shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    data = bytearray((copy / "train-000000.tar").read_bytes())
    data[-1] ^= 1
    (copy / "train-000000.tar").write_bytes(data)
    with served(copy) as (url, _):
        cache = ShardCache(folder=tmp_path / "cache", limit=10**9)
        clips = clips_of(url, cache)
        number = next(i for i, s in enumerate(clips.videos.samples) if s.path.parent.name == "train-000000.tar")
        with pytest.raises(StorageError, match=r"train-000000\.tar: not the shard that the index was made with"):
            clips[0, number]
        assert not list((tmp_path / "cache").glob("*train*"))
        with pytest.raises(StorageError, match=r"not the shard that the index was made with: upload it again$"):
            list(Batches(clips, batch_size=12, sampler=EpochSampler(12, seed=0)))
        (copy / "train-000001.tar").write_bytes(b"short")
        with pytest.raises(DatasetError, match=r"train-000001\.tar: 5 bytes, where \d+ were written: copy this"):
            open_splits(url)


def test_a_server_that_is_down_for_a_moment_or_for_good(shards: Path) -> None:
    with served(shards, failures=3) as (url, _):
        clips = clips_of(url)
        assert clips[0, 0]["clip"].shape == (4, 16, 16, 3)
    with pytest.raises(StorageError, match=r"train-00000\d\.tar: it cannot be read in 4 tries \(Cannot connect"):
        clips[0, 1]
    with served(shards, ranges=False) as (url, _):
        clips = clips_of(url)
        with pytest.raises(
            StorageError, match=r"its server does not serve parts of files.*keep whole .* with `shard_cache`"
        ):
            clips[0, 0]
    with pytest.raises(StorageError, match="it cannot be read in 4 tries"):
        open_splits(url)


def test_videos_of_shards_are_kept_on_disk_as_files_are(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUALFORMER_CACHE", str(tmp_path))
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    with served(shards) as (url, requests):
        first = [clips_of(url)[0, number]["clip"] for number in range(12)]
        assert len(asked_for(requests)) == 12
        storage.fetch_part.cache_clear()
        again = [clips_of(url)[0, number]["clip"] for number in range(12)]
        assert len(asked_for(requests)) == 12
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_check_reads_a_url(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    entry = index_in(copy).shards[0].entries[0]
    data = bytearray((copy / "train-000000.tar").read_bytes())
    data[entry.offset : entry.offset + entry.size] = bytes(entry.size)
    (copy / "train-000000.tar").write_bytes(data)
    with served(copy) as (url, _):
        verdicts = check_videos(survey(url).paths, workers=1)
        bad = [verdict for verdict in verdicts if not verdict.ok]
        assert [verdict.location for verdict in bad] == [f"{url}/train-000000.tar/{entry.member}"]
        place = find_shards(url)
        assert place is not None
        damaged = damaged_shards(place)
        assert list(damaged) == ["train-000000.tar"]
        marked = mark_damaged(verdicts, damaged)
        in_it = len(index_in(copy).shards[0].entries)
        assert sum(not verdict.ok for verdict in marked) == in_it > 1
        write_manifest(tmp_path / "manifest.csv", marked)
        assert [v.location for v in read_manifest(tmp_path / "manifest.csv")] == [v.location for v in marked]
        monkeypatch.chdir(tmp_path)
        assert len(open_splits(url, bad=read_bad_videos(tmp_path / "manifest.csv")).train) == 12 - in_it


@pytest.mark.parametrize(
    ("data", "url"),
    [
        ("s3://bucket/shards", "s3://bucket/shards"),
        (Path("s3://bucket/shards"), "s3://bucket/shards"),
        ("simplecache::gs://bucket/shards", "simplecache::gs://bucket/shards"),
        ("https://host:80/a", "https://host:80/a"),
        ("hf://datasets/owner/name", "hf://datasets/owner/name"),
        ("kinetics400:/data/k400", None),
        ("shards:/data", None),
        ("/data/shards", None),
        ("file:///data", None),
        ("C:/data", None),
        ("MY VIDEOS", None),
    ],
)
def test_what_is_a_url(data: str | Path, url: str | None) -> None:
    assert url_of(data) == url


def test_a_package_that_is_not_there_is_named() -> None:
    pytest.importorskip("fsspec")
    try:
        import s3fs  # noqa: F401  # type: ignore[import-not-found]
    except ImportError:
        with pytest.raises(ValueError, match=r"s3://bucket/index\.json: reading from there .*: pip install s3fs"):
            open_splits("s3://bucket")
    with pytest.raises(ValueError, match=r"pip install adlfs|it cannot be read"):
        open_splits("abfs://bucket")


def test_a_cache_that_cannot_be_written_is_named(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with served(shards) as (url, _):
        splits = open_splits(url, cache=ShardCache(folder=tmp_path / "file", limit=10**9))
        piece = splits.train.samples[0].file
        assert isinstance(piece, storage.RemoteFileSlice)
        with pytest.raises(StorageError, match=r"file: cannot keep shards here .*; choose another `shard_cache`"):
            cached_shard(piece.shard)
    with pytest.raises(ValueError, match="`shard_cache_gb` must be more than 0, not 0"):
        ShardCache.parse("here", 0)
    assert ShardCache.parse(None, 1) is None
