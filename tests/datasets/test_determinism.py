"""The same seed gives the same batches, whatever number of workers and ranks reads them, and however long they take."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips
from dualformer.datasets.samples import VideoList
from dualformer.datasets.shards.shard_order import ShardOrder
from dualformer.datasets.shards.write_shards import write_shards
from dualformer.datasets.splits import open_all_splits, open_splits
from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than there are cores

SEED, BATCH, REPEATS = 5, 4, 2
EVERYTHING = Augmentation(
    flip=0.5,
    colour_jitter=0.4,
    randaugment=RandAugment(magnitude=9, number=2, std=0.5),
    erasing=0.5,
)
Batch = dict[str, Any]


class Uneven(TrainingClips):
    """Some clips take longer, other ones in each worker."""

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        worker = torch.utils.data.get_worker_info()
        time.sleep(0.002 * ((key[1] * 7 + (3 * worker.id if worker else 0)) % 5))
        return super().__getitem__(key)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("determinism")
    rng = np.random.default_rng(0)
    for i in range(13):
        path = root / "videos" / ("train" if i < 11 else "val") / ("a", "b")[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (12, 4, 6, 3), dtype=np.uint8)
        write_video(path, coarse.repeat(8, axis=1).repeat(8, axis=2), fps=25)
    write_shards(open_all_splits(root / "videos")[0], root / "shards", made_from="videos", size=8_000)
    return root


@pytest.fixture(params=["files", "shards"])
def source(request: pytest.FixtureRequest, folder: Path) -> tuple[VideoList, ShardOrder | None]:
    """Eleven videos, an odd number, and the order in which they are gone through if it is not drawn freely."""
    if request.param == "files":
        return open_splits(folder / "videos").train, None
    videos = open_splits(folder / "shards").train
    return videos, ShardOrder.of(videos, SEED)


def epochs(
    source: tuple[VideoList, ShardOrder | None], *, workers: int = 0, rank: int = 0, world: int = 1, cache: int = 0
) -> Iterator[list[Batch]]:
    """The batches of two epochs for one rank; all ranks together have BATCH clips in a batch."""
    videos, order = source
    clips = Uneven(videos, kinetics(4, 2, 24), seed=SEED, augmentation=EVERYTHING, cache_bytes=cache)
    sampler = EpochSampler(len(videos), seed=SEED, rank=rank, world=world, repeats=REPEATS, order=order)
    batches = Batches(
        clips,
        batch_size=BATCH // world,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        timeout=60 if workers else 0,
    )
    for epoch in range(2):
        sampler.at(epoch)
        yield list(batches)


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys() == {"clip", "label", "index"}
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("cache", [0, 10**8])
def test_any_number_of_workers(source: tuple[VideoList, ShardOrder | None], workers: int, cache: int) -> None:
    alone = list(epochs(source))
    assert [len(batches) for batches in alone] == [6, 6]  # 11 videos twice over, in fours
    assert not torch.equal(alone[0][0]["clip"], alone[1][0]["clip"])
    for one, other in zip(alone, epochs(source, workers=workers, cache=cache), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(("world", "workers"), [(2, (0, 0)), (2, (1, 2)), (4, (0, 1, 0, 2))])
def test_any_number_of_ranks(source: tuple[VideoList, ShardOrder | None], world: int, workers: tuple[int, ...]) -> None:
    """Batch number k of all ranks together is batch number k of one process, its clips dealt out in turn."""
    ranks = [list(epochs(source, workers=workers[rank], rank=rank, world=world)) for rank in range(world)]
    for epoch, alone in enumerate(epochs(source)):
        dealt = [ranks[rank][epoch] for rank in range(world)]
        together = [
            {key: torch.stack([part[key] for part in parts], dim=1).flatten(0, 1) for key in parts[0]}
            for parts in zip(*dealt, strict=True)
        ]
        # All ranks have equally many clips: up to world - 1 of an epoch's last ones are left out.
        left_out = 11 * REPEATS % world
        if left_out:
            alone[-1] = {key: value[:-left_out] for key, value in alone[-1].items()}
        assert_same(together, [batch for batch in alone if len(batch["index"])])
        assert sum(len(batch["index"]) for batch in together) == 11 * REPEATS - left_out
