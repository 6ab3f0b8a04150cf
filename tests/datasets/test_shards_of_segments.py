"""Shards of segments: the bytes of a film once, and the same clips as of the list that they were made from."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from made_shards import index_in, pack, served
from PIL import Image

from dualformer.datasets.clip_datasets import TrainingClips, ViewClips
from dualformer.datasets.per_video_files import video_key
from dualformer.datasets.samples import ArchivedSegment, DatasetError, VideoList
from dualformer.datasets.shards import storage
from dualformer.datasets.shards.shard_index import INDEX
from dualformer.datasets.shards.write_shards import write_shards
from dualformer.datasets.splits import open_all_splits, open_splits, open_videos
from dualformer.datasets.video_digests import video_digests
from dualformer.training.open_source import open_source
from dualformer.training.settings.train_config import TrainConfig
from dualformer.video import packet_index, pyav_reader, remote_video
from dualformer.video.augmentation import Augmentation
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics

PRE = kinetics(4, 2, 16)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of segments of three films and of a folder of frames, which is of train and val, as two films are."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    for number in range(3):
        frames = rng.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
        write_video(folder / f"film{number}.mp4", frames.repeat(8, 1).repeat(8, 2), fps=25, crf=1)
    (folder / "pictures").mkdir()
    for number in range(30):
        picture = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "pictures" / f"{number:03d}.png")
    rows = ["path,start,end,label,split,fps"]
    for number, name in enumerate(("film0.mp4", "film1.mp4", "pictures/%03d.png", "film2.mp4", "film1.mp4")):
        rate = 12.5 if "%" in name else ""
        for place in range(3):
            start = 0.1 * number + 0.37 * place + 1 / 3
            rows.append(f"{name},{start!r},{start + 0.4!r},{'ab'[place % 2]},{'train' if number < 3 else 'val'},{rate}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder / "list.csv"


@pytest.fixture(scope="module")
def shards(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack(films, out, size=40_000)
    return out


def assert_same_clips(some: VideoList, others: VideoList) -> None:
    ways = [TrainingClips(each, PRE, seed=0, augmentation=Augmentation(flip=0.5)) for each in (some, others)]
    for number in range(2 * len(some)):
        one, other = (clips[1, number] for clips in ways)
        assert torch.equal(one["clip"], other["clip"]) and one["label"] == other["label"]
    views = [ViewClips(each, PRE, clips=2, crops=3) for each in (some, others)]
    for number in range(len(some)):
        assert torch.equal(views[0][number]["views"], views[1][number]["views"])


def test_they_are_the_list(films: Path, shards: Path) -> None:
    before, after = open_splits(films), open_splits(shards)
    for split in ("train", "val"):
        files, packed = getattr(before, split), getattr(after, split)
        assert packed.classes == files.classes and packed.manifest_hash == files.manifest_hash
        for one, other in zip(packed.samples, files.samples, strict=True):
            assert (one.name, one.labels, one.fps) == (other.name, other.labels, other.fps)
            assert video_key(other).endswith(f"/{video_key(one)}")
        assert video_digests(s.file for s in packed.samples) == video_digests(s.file for s in files.samples)
        assert_same_clips(files, packed)
    first = after.train.samples[0]
    assert isinstance(first, ArchivedSegment) and first.original == "film0.mp4"
    assert first.path.name == "000000000.mp4#t=0.333333,0.733333" and first.segment.start == 1 / 3
    assert open_videos(shards).kind == "segments" and len(open_all_splits(shards)[0]["val"]) == 6


def test_a_film_may_be_there_as_a_whole_as_well(films: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    film = films.parent / "film0.mp4"
    listed.write_text(f"path,start,end,label,split\n{film},,,a,train\n{film},0.5,1,b,train\n{film},1,1.5,b,val\n")
    pack(listed, tmp_path / "shards")
    packed = open_splits(tmp_path / "shards").train
    assert [sample.name for sample in packed.samples] == ["film0.mp4", "film0.mp4#t=0.5,1"]
    assert packed.samples[0].media == packed.samples[1].media
    assert_same_clips(open_splits(listed).train, packed)


def test_a_film_is_there_once_in_each_split(films: Path, shards: Path) -> None:
    held: dict[str, list[str]] = {"train": [], "val": []}
    for shard in index_in(shards).shards:
        with tarfile.open(shards / shard.file) as tar:
            names = [member.name for member in tar.getmembers()]
            texts = [tar.extractfile(name) for name in names if name.endswith(".json")]
            about = [json.loads(text.read()) for text in texts if text]
        assert not [name for name in names if name.endswith(".cls")]
        held[shard.split] += [each["segments"][0]["name"] for each in about]
        assert {"label", "class", "index", "start", "end", "name"} == set(about[0]["segments"][0])
    assert {split: sorted(names) for split, names in held.items()} == {
        "train": ["film0.mp4", "film1.mp4", "pictures/%03d.png"],
        "val": ["film1.mp4", "film2.mp4"],
    }


def test_they_can_be_packed_anew(films: Path, shards: Path, tmp_path: Path) -> None:
    pack(shards, tmp_path / "again", size=10**9)
    assert_same_clips(open_splits(films).train, open_splits(tmp_path / "again").train)
    assert sorted(path.name for path in tmp_path.glob("again/*.tar")) == ["train-000000.tar", "val-000000.tar"]


def test_only_an_index_with_segments_has_another_version(films: Path, shards: Path, tmp_path: Path) -> None:
    assert json.loads((shards / INDEX).read_text())["version"] == 2
    whole = tmp_path / "whole.csv"
    rows = [
        f"{films.parent}/film{number}.mp4,{'ab'[number % 2]},{'train' if number < 2 else 'val'}" for number in range(3)
    ]
    whole.write_text("\n".join(["path,label,split", *rows, ""]))
    pack(whole, tmp_path / "whole")
    index = json.loads((tmp_path / "whole" / INDEX).read_text())
    assert index["version"] == 1 and index["entries"][-1] == "fps"
    assert all(len(row) == 7 for shard in index["shards"] for row in shard["entries"])
    (tmp_path / "whole" / INDEX).write_text((shards / INDEX).read_text().replace("0.3333333333333333, 0.7", "0.9, 0.7"))
    with pytest.raises(DatasetError, match=r"a damaged one \(a part of train-00000\d\.tar/.*mp4 from 0\.9 to 0\.7"):
        open_splits(tmp_path / "whole")


def test_a_run_over_them_is_the_run_over_the_list(films: Path, shards: Path) -> None:
    sources = [open_source(TrainConfig(data=str(data), size=16, frames=4)) for data in (films, shards)]
    assert sources[0].fingerprint == sources[1].fingerprint
    assert sources[0].warnings == sources[1].warnings
    assert "segments in train and in val (film1.mp4)" in sources[0].warnings[0]


def test_a_background_is_made_with_them(films: Path, tmp_path: Path) -> None:
    listed = films.with_name("apart.csv")
    listed.write_text("\n".join(films.read_text().splitlines()[:-3]))  # no film is in train and val
    write_shards(open_all_splits(listed, background="nothing")[0], tmp_path / "shards", made_from="test")
    before, after = (open_splits(data, background="nothing") for data in (listed, tmp_path / "shards"))
    assert [s.name for s in after.train.samples] == [s.name for s in before.train.samples]
    assert_same_clips(before.val, after.val)
    with pytest.raises(ValueError, match=r"`background=pause` is no class of .*: `dualformer shards` makes it"):
        open_splits(tmp_path / "shards", background="pause")


def test_of_a_large_film_at_a_url_only_what_a_clip_needs_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "film.mp4", noise, fps=25, crf=10)
    listed = tmp_path / "list.csv"
    listed.write_text("path,start,end,label,split\nfilm.mp4,1,1.4,a,train\nfilm.mp4,11,11.4,a,val\n")
    pack(listed, tmp_path / "shards")
    monkeypatch.setattr(storage, "_AT_ONCE", 100_000)
    monkeypatch.setattr(remote_video, "_BLOCK", 50_000)
    monkeypatch.setattr(remote_video, "_LONGEST_RUN", 1)
    monkeypatch.setattr(packet_index, "_LONG", 250)
    monkeypatch.setattr(pyav_reader, "_KEEP_COMPRESSED", 100)
    packet_index._tables.clear()
    with served(tmp_path / "shards") as (url, requests):
        packed = open_splits(url).train
        assert_same_clips(open_splits(listed).train, packed)
        requests.clear()
        remote_video._blocks._blocks.clear()
        _ = ViewClips(packed, PRE)[0]
        sizes = [int(end) - int(start) + 1 for _, span in requests for start, end in [span[6:].split("-")]]
        size = (tmp_path / "film.mp4").stat().st_size
        assert 0 < sum(sizes) < size / 2 and max(sizes) == 50_000
