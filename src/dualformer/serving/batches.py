"""Views of several requests through the network together.

One thread uses the network, and nothing else does: a GPU, or all cores of a CPU, gain nothing from two at a time.
"""

from __future__ import annotations

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
    """Probabilities (V, classes) of the views of one request, and the seconds that it waited and that they took."""

    probabilities: NDArray[np.float32]
    waited: float
    took: float


class _Waiting(NamedTuple):
    views: Tensor
    since: float
    future: Future[Scores]


class Batcher:
    """``predict``: uint8 views (V, T, h, w, 3) → probabilities (V, classes).

    The views that wait longest go first, with those that come behind them up to ``most`` views in all. Are there fewer,
    they wait until the first of them has waited for ``patience`` seconds. Views of one request are not divided.
    """

    def __init__(
        self, predict: Callable[[Tensor], NDArray[np.float32]], *, most: int, patience: float, metrics: Metrics
    ) -> None:
        if most < 1:
            raise ValueError(f"a batch has at least 1 view, not {most}")
        if not 0 <= patience < math.inf:
            raise ValueError(f"a batch cannot wait for {patience:g} s")
        self._predict, self._most, self._patience, self._metrics = predict, most, patience, metrics
        self._waiting: deque[_Waiting] = deque()
        self._came = threading.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    def submit(self, views: Tensor) -> Future[Scores]:
        """Scores of the views of one request."""
        each = _Waiting(views, time.monotonic(), Future())
        with self._came:
            self._waiting.append(each)
            self._came.notify()
        self._thread.submit(self._run)  # one turn for each; where a batch has served several, some find nothing to do
        return each.future

    def call(self, work: Callable[[], Result]) -> Future[Result]:
        """Anything else that uses the network, in its turn."""
        return self._thread.submit(work)

    def views_waiting(self) -> int:
        with self._came:
            return sum(len(each.views) for each in self._waiting)

    def close(self) -> None:
        """What is at the network is finished; who waits for it has a cancelled future."""
        with self._came:
            left, self._patience = list(self._waiting), 0.0
            self._waiting.clear()
            self._came.notify()
        for each in left:
            each.future.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        batch = [each for each in self._gather() if each.future.set_running_or_notify_cancel()]
        if not batch:
            return
        begun = time.monotonic()
        try:
            probabilities = self._predict(torch.cat([each.views for each in batch]))
        except BaseException as error:  # whatever it is, those who wait are to hear of it
            for each in batch:
                each.future.set_exception(error)
            return
        took = time.monotonic() - begun
        self._metrics.network.observe(took)
        self._metrics.batch.observe(len(probabilities))
        ends = np.cumsum([len(each.views) for each in batch])
        for each, part in zip(batch, np.split(probabilities, ends[:-1]), strict=True):
            each.future.set_result(Scores(part, begun - each.since, took))

    def _gather(self) -> list[_Waiting]:
        with self._came:
            if not self._waiting:
                return []
            end = self._waiting[0].since + self._patience
            while sum(len(each.views) for each in self._waiting) < self._most:
                if (left := end - time.monotonic()) <= 0 or not self._came.wait(left):
                    break
            batch: list[_Waiting] = []
            room = self._most
            while self._waiting and (not batch or len(self._waiting[0].views) <= room):
                batch.append(self._waiting.popleft())
                room -= len(batch[-1].views)
            return batch
