"""Runs the views of several requests through the network together, in dynamic batches.

One thread runs the network: a GPU, or all cores of a CPU, gain nothing from two batches at a time.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.serving.metrics import Metrics

Result = TypeVar("Result")


class Scores(NamedTuple):
    """Probabilities (V, classes) of the views of one request, the seconds that it waited, and those of its batch."""

    probabilities: NDArray[np.float32]
    waited: float
    took: float


class _Request(NamedTuple):
    views: Tensor
    since: float
    future: Future[Scores]


class Batcher:
    """Collects views uint8 (V, T, h, w, 3) of requests into batches for ``predict``, which returns (V, classes).

    The oldest requests go first, up to ``max_views`` views in a batch; the views of one request stay together. A batch
    that is not full waits until its oldest request is ``max_delay`` seconds old.
    """

    def __init__(
        self, predict: Callable[[Tensor], NDArray[np.float32]], *, max_views: int, max_delay: float, metrics: Metrics
    ) -> None:
        if max_views < 1:
            raise ValueError(f"a batch has at least 1 view, not {max_views}")
        if not 0 <= max_delay < math.inf:
            raise ValueError(f"a batch cannot wait for {max_delay:g} s")
        self._predict, self._max_views, self._max_delay, self._metrics = predict, max_views, max_delay, metrics
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    def submit(self, views: Tensor) -> Future[Scores]:
        """Queues the views of one request and returns the future of their scores."""
        request = _Request(views, time.monotonic(), Future())
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        self._thread.submit(self._run)  # one call for each request; after a batch of several, some find nothing to do
        return request.future

    def call(self, work: Callable[[], Result]) -> Future[Result]:
        """Queues anything else that uses the network, and returns the future of its result."""
        return self._thread.submit(work)

    def views_waiting(self) -> int:
        with self._changed:
            return sum(len(each.views) for each in self._waiting)

    def close(self) -> None:
        """Finishes the running batch and cancels the futures of all requests that wait."""
        with self._changed:
            left, self._max_delay = list(self._waiting), 0.0
            self._waiting.clear()
            self._changed.notify()
        for each in left:
            each.future.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        batch = [each for each in self._next_batch() if each.future.set_running_or_notify_cancel()]
        if not batch:
            return
        begun = time.monotonic()
        try:
            probabilities = self._predict(torch.cat([each.views for each in batch]))
        except BaseException as error:  # whatever it is, those who wait get it
            for each in batch:
                each.future.set_exception(error)
            return
        took = time.monotonic() - begun
        self._metrics.network.observe(took)
        self._metrics.batch.observe(len(probabilities))
        ends = np.cumsum([len(each.views) for each in batch])
        for each, part in zip(batch, np.split(probabilities, ends[:-1]), strict=True):
            each.future.set_result(Scores(part, begun - each.since, took))

    def _next_batch(self) -> list[_Request]:
        with self._changed:
            if not self._waiting:
                return []
            end = self._waiting[0].since + self._max_delay
            while sum(len(each.views) for each in self._waiting) < self._max_views:
                if (left := end - time.monotonic()) <= 0 or not self._changed.wait(left):
                    break
            batch: list[_Request] = []
            room = self._max_views
            while self._waiting and (not batch or len(self._waiting[0].views) <= room):
                batch.append(self._waiting.popleft())
                room -= len(batch[-1].views)
            return batch
