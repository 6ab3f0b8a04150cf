"""The torch data sets: what decides a clip, the cache, loader workers, and the order of an epoch."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips, ViewClips
from dualformer.datasets.samples import Sample, VideoList
from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.clip_reader import read_training_clip, read_views
from dualformer.video.container import VideoError
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics

PRE = kinetics(8, 2, 24)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    samples = []
    for i in range(5):
        path = root / f"{i}.mp4"
        write_video(path, rng.integers(0, 256, (30, 32, 48, 3), dtype=np.uint8), fps=25)
        samples.append(Sample(path=path, label=i % 2))
    return VideoList(classes=("a", "b"), samples=tuple(samples), source="here")


def test_a_clip_depends_on_seed_epoch_and_index_alone(videos: VideoList) -> None:
    clips = TrainingClips(videos, PRE, seed=7, augmentation=Augmentation(flip=0.5))
    item = clips[3, 2]
    assert (item["label"], item["index"]) == (0, 2)
    rng = np.random.default_rng([7, 3, 2])
    assert torch.equal(
        item["clip"], read_training_clip(videos.samples[2].path, PRE, rng, Augmentation(flip=0.5)).frames
    )
    _ = [clips[0, i] for i in range(5)]
    assert torch.equal(clips[3, 2]["clip"], item["clip"])
    for other in (clips[4, 2], TrainingClips(videos, PRE, seed=8, augmentation=Augmentation(flip=0.5))[3, 2]):
        assert not torch.equal(other["clip"], item["clip"])


def test_randaugment_may_end(videos: VideoList) -> None:
    def clip(epoch: int, **changes: Any) -> Any:
        augmentation = Augmentation(flip=0.5, **changes)
        return TrainingClips(videos, PRE, seed=5, augmentation=augmentation)[epoch, 1]["clip"]

    begun = {"randaugment": RandAugment(magnitude=9, number=4), "randaugment_epochs": 2}
    always = {"randaugment": RandAugment(magnitude=9, number=4)}
    for epoch in range(4):
        assert torch.equal(clip(epoch, **begun), clip(epoch, **(always if epoch < 2 else {})))
        assert not torch.equal(clip(epoch, **always), clip(epoch))


@pytest.mark.parametrize("budget", [10**9, 30 * 32 * 48 * 3 * 2, 30 * 32 * 48 * 3 - 1])
def test_cached_clips_are_bit_for_bit_the_same(budget: int, videos: VideoList) -> None:
    plain = TrainingClips(videos, PRE, seed=0, augmentation=Augmentation(flip=0.5))
    cached = TrainingClips(videos, PRE, seed=0, augmentation=Augmentation(flip=0.5), cache_bytes=budget)
    for epoch in range(3):
        for i in range(5):
            assert torch.equal(plain[epoch, i]["clip"], cached[epoch, i]["clip"])
    assert cached._cached_bytes <= budget
    assert len(cached._cached) == min(5, budget // (30 * 32 * 48 * 3))


def test_persistent_workers_keep_what_they_decoded_from_epoch_to_epoch(videos: VideoList, tmp_path: Path) -> None:
    copies = tuple(Sample(path=tmp_path / s.path.name, label=s.label) for s in videos.samples)
    for sample, original in zip(copies, videos.samples, strict=True):
        sample.path.write_bytes(original.path.read_bytes())
    clips = TrainingClips(
        VideoList(classes=("a", "b"), samples=copies, source="here"),
        PRE,
        seed=0,
        augmentation=Augmentation(flip=0),
        cache_bytes=10**8,
    )
    sampler = EpochSampler(5, seed=0)
    batches = Batches(clips, batch_size=1, sampler=sampler, num_workers=1, persistent_workers=True)
    state = torch.get_rng_state()
    assert len(list(batches)) == 5
    for sample in copies:
        sample.path.unlink()
    sampler.at(1)
    second = list(batches)
    assert torch.equal(torch.get_rng_state(), state)
    original = TrainingClips(videos, PRE, seed=0, augmentation=Augmentation(flip=0))
    assert [int(batch["index"]) for batch in second] == [index for _, index in EpochSampler(5, seed=0, epoch=1)]
    for batch in second:
        assert torch.equal(batch["clip"][0], original[1, int(batch["index"])]["clip"])


def test_the_cache_is_used(videos: VideoList, tmp_path: Path) -> None:
    path = tmp_path / "gone.mp4"
    path.write_bytes(videos.samples[0].path.read_bytes())
    copy = VideoList(classes=("a", "b"), samples=(Sample(path=path, label=0),), source="here")
    cached = TrainingClips(copy, PRE, seed=0, augmentation=Augmentation(flip=0), cache_bytes=10**8)
    first = cached[0, 0]["clip"]
    path.unlink()
    assert torch.equal(cached[0, 0]["clip"], first)
    with pytest.raises(FileNotFoundError):
        TrainingClips(copy, PRE, seed=0, augmentation=Augmentation(flip=0))[0, 0]


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi"])
@pytest.mark.parametrize("cut", [False, True])
def test_draws_of_a_damaged_film_are_those_without_a_cache(name: str, cut: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4" if name == "a.avi" else "libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(60):
            picture = np.random.default_rng(i // 4).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    if not cut:
        data[len(data) * 8 // 10 : len(data) * 8 // 10 + 2000] = np.random.default_rng(1).bytes(2000)
    path.write_bytes(data[: len(data) * 9 // 10])
    sample = Sample(path=path, label=0)
    listed = VideoList(classes=("a", "b"), samples=(sample,), source="a test")

    def drawn(clips: TrainingClips, number: int) -> Tensor | None:
        try:
            return clips[0, number]["clip"]
        except VideoError:
            return None

    def fresh(cache_bytes: int) -> TrainingClips:
        return TrainingClips(listed, PRE, seed=0, augmentation=Augmentation(flip=0.5), cache_bytes=cache_bytes)

    expected = [drawn(fresh(0), number) for number in range(24)]
    cached = fresh(10**8)
    for order in (range(24), reversed(range(24)), [5, 5, 0, 23, 7]):
        for number in order:
            found, wanted = drawn(cached, number), expected[number]
            assert (found is None) == (wanted is None)
            assert found is None or wanted is None or torch.equal(found, wanted)


@pytest.mark.parametrize("cache_bytes", [0, 10**8])
def test_workers_give_the_same_clips(cache_bytes: int, videos: VideoList) -> None:
    clips = TrainingClips(videos, PRE, seed=1, augmentation=Augmentation(flip=0.5), cache_bytes=cache_bytes)
    sampler = EpochSampler(5, seed=1)
    alone = list(DataLoader(clips, batch_size=2, sampler=sampler))
    loader = DataLoader(clips, batch_size=2, sampler=sampler, num_workers=2, timeout=60)
    together = list(loader)
    assert [batch["index"].tolist() for batch in alone] == [batch["index"].tolist() for batch in together]
    assert all(torch.equal(a["clip"], b["clip"]) for a, b in zip(alone, together, strict=True))
    assert alone[0]["clip"].shape == (2, 8, 24, 24, 3)
    assert alone[0]["clip"].dtype == torch.uint8


def test_views(videos: VideoList) -> None:
    views = ViewClips(videos, PRE, clips=2, crops=3)
    item = views[3]
    assert torch.equal(item["views"], read_views(videos.samples[3].path, PRE, clips=2, crops=3))
    assert item["views"].shape == (6, 8, 24, 24, 3)
    assert (item["label"], item["index"], len(views)) == (1, 3, 5)


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"crops": 2}])
def test_views_refuse(wrong: dict[str, int], videos: VideoList) -> None:
    with pytest.raises(ValueError, match="views are"):
        ViewClips(videos, PRE, **wrong)


@pytest.mark.parametrize("world", [1, 3, 4])
def test_ranks_share_an_epoch(world: int) -> None:
    dealt = [list(EpochSampler(50, seed=0, epoch=2, rank=r, world=world)) for r in range(world)]
    assert {len(keys) for keys in dealt} == {50 // world}
    indices = [index for keys in dealt for _, index in keys]
    assert len(set(indices)) == 50 // world * world
    assert {epoch for keys in dealt for epoch, _ in keys} == {2}


def test_epochs_and_seeds_differ_and_repeat() -> None:
    orders = [[i for _, i in EpochSampler(50, seed=s, epoch=e)] for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize("world", [1, 2])
def test_resuming_goes_on_where_it_stopped(world: int) -> None:
    for rank in range(world):
        sampler = EpochSampler(21, seed=0, rank=rank, world=world)
        whole = list(sampler.at(5))
        for done in range(0, 21, world):
            rest = list(sampler.at(5, start=done))
            assert rest == whole[done // world :]
            assert len(sampler) == len(rest)


def test_the_order_is_not_the_draw_of_a_clip() -> None:
    """numpy pads seeds with zeros: the order of an epoch must not reuse the stream of its clip 0."""
    order = [i for _, i in EpochSampler(20, seed=3, epoch=4)]
    assert order != np.random.default_rng([3, 4, 0]).permutation(20).tolist()


@pytest.mark.parametrize(
    "how", [{"rank": 2, "world": 2}, {"world": 60}, {"epoch": -1}, {"start": 51}, {"start": 1, "world": 2}]
)
def test_sampler_refuses(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rank|no such place"):
        EpochSampler(50, seed=0, **how)
