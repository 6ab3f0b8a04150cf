"""The order that goes through few shards at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualformer.datasets.clip_datasets import EpochSampler
from dualformer.datasets.shards.shard_order import LANES, ShardOrder

SHARDS = np.repeat(np.arange(100), np.random.default_rng(0).integers(30, 60, 100))
"""A hundred shards of 30 to 59 samples."""
COUNT = len(SHARDS)


@given(
    shards=st.lists(st.integers(0, 6), min_size=1, max_size=60).map(lambda x: np.unique(x, return_inverse=True)[1]),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
    lanes=st.integers(1, 20),
)
def test_it_is_a_permutation_drawn_from_seed_and_epoch(shards, seed: int, epoch: int, lanes: int) -> None:
    order = ShardOrder(shards, seed, lanes)
    assert sorted(order(epoch).tolist()) == list(range(len(shards)))
    assert np.array_equal(order(epoch), ShardOrder(shards, seed, lanes)(epoch))


def test_other_seeds_and_epochs_give_other_orders() -> None:
    orders = [tuple(ShardOrder(SHARDS, seed)(epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_few_shards_are_in_use_at_any_time() -> None:
    order = ShardOrder(SHARDS, 0)(0)
    first, last = np.full(100, COUNT), np.zeros(100, dtype=int)
    for place, sample in enumerate(order):
        shard = SHARDS[sample]
        first[shard], last[shard] = min(first[shard], place), max(last[shard], place)
    # A shard that a lane's end cuts is used twice: at the end of one lane and at the start of the next.
    whole = last - first < 60 * LANES
    assert (~whole).sum() <= LANES
    in_use = [(whole & (first <= place) & (place <= last)).sum() for place in range(COUNT)]
    assert max(in_use) <= LANES
    assert np.mean(in_use) > 12


def test_a_batch_mixes_shards_and_a_shard_its_samples() -> None:
    order = ShardOrder(SHARDS, 0)(0)
    distinct = [len(set(SHARDS[order[start : start + 16]])) for start in range(0, COUNT - 16, 16)]
    assert min(distinct) >= 14
    lane = [int(sample) for sample in order[::LANES]]
    assert np.mean(np.diff(lane) == 1) < 0.1


@pytest.mark.parametrize("world", [2, 4, 8, 16])
def test_ranks_have_shards_to_themselves(world: int) -> None:
    order = ShardOrder(SHARDS, 3)
    readers: dict[int, set[int]] = {}
    for rank in range(world):
        for _, sample in EpochSampler(COUNT, seed=3, rank=rank, world=world, order=order).at(2):
            readers.setdefault(int(SHARDS[sample]), set()).add(rank)
    assert len(readers) == 100
    assert sum(len(ranks) > 1 for ranks in readers.values()) <= LANES - 1
    assert max(len(ranks) for ranks in readers.values()) <= 2


@pytest.mark.parametrize("world", [1, 2, 3])
def test_any_number_of_ranks_has_the_same_batches_and_resumes_exactly(world: int) -> None:
    order = ShardOrder(SHARDS, 3)
    alone = [sample for _, sample in EpochSampler(COUNT, seed=3, order=order).at(1)]
    dealt = [
        [sample for _, sample in EpochSampler(COUNT, seed=3, rank=rank, world=world, order=order).at(1)]
        for rank in range(world)
    ]
    together = [sample for step in zip(*dealt, strict=True) for sample in step]
    assert together == alone[: len(together)] and len(alone) - len(together) < world
    for start in (0, 7 * world, 500 * world):
        sampler = EpochSampler(COUNT, seed=3, world=world, order=order).at(1, start)
        assert [sample for _, sample in sampler] == dealt[0][start // world :]
