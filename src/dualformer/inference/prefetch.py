"""Decodes the next videos while the network works."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def ahead(items: Iterator[Item], *, depth: int) -> Generator[Item, None, None]:
    """Yields the same items; a thread makes those that come next, ``depth`` of them at most.

    An error that making one raises comes in its place. Closing the iterator waits for the item that is being made.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as pool:
        coming = deque(pool.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(pool.submit(next, items, _END))
                yield item  # type: ignore[misc]  # the end is no item
        finally:
            for future in coming:
                future.cancel()
