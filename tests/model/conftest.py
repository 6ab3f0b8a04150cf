"""What tests of the network share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch has two threads, however many cores there are."""
    yield from _threads(2)


@pytest.fixture
def one_thread() -> Iterator[None]:
    yield from _threads(1)


def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)
