"""How long a run takes, measured with a few of its own batches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from dualformer.training.objective import Batch, ClipObjective


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds for a batch on one device."""

    start: float
    """Until the first batch is there, which is read by workers that have just been started."""
    read: float
    """To read and change its clips, by all workers together."""
    step: float
    """Forward and backward pass and the optimizer's step."""
    judge: float
    """Forward pass of as many validation clips."""
    clips: int
    """Clips of the batch that was computed. Fewer than the run's, where those would have taken too long."""
    memory: int | None
    """Most bytes of the GPU's memory that tensors held; None on other devices."""

    def run(self, *, batches: int, val_batches: float, epochs: int, workers: int) -> float:
        """Seconds of a run whose epochs have so many batches on each device; writing weights down is not in it.

        Workers read while others are computed. Those for validation are started anew in every epoch.
        """
        together = max if workers else lambda *seconds: sum(seconds)
        judging = self.start + val_batches * together(self.read, self.judge)
        return self.start + epochs * (batches * together(self.read, self.step) + judging)


def time_reading(
    batches: Iterable[Batch], *, workers: int, seconds: float, most: int = 64
) -> tuple[Batch, float, float]:
    """A batch, the seconds until it was there, and those for each once all workers are busy.

    It stops after about ``seconds``.
    """
    started = time.perf_counter()
    arrived: list[float] = []
    first: Batch | None = None
    for batch in itertools.islice(batches, most):
        first = first or batch
        arrived.append(time.perf_counter() - started)
        if arrived[-1] > seconds and len(arrived) > workers:
            break
    assert first is not None
    # Each worker starts up, and then reads a whole batch alone: the first round tells nothing of the rounds to come.
    later = len(arrived) - max(1, workers)
    if later >= max(1, workers):
        return first, arrived[0], (arrived[-1] - arrived[-1 - later]) / later
    return first, arrived[0], arrived[-1] / len(arrived)


def time_computing(
    objective: ClipObjective,
    batch: Batch,
    *,
    fabric: Fabric,
    optimizer: torch.optim.Optimizer,
    autocast: Callable[[], AbstractContextManager[object]],
    batch_size: int,
    seconds: float,
) -> tuple[float, float, int]:
    """Seconds for a training step and for judging, of ``batch_size`` clips, and with how many clips it was measured.

    The network is changed. If a whole batch is likely to take more than ``seconds``, one clip stands for it.
    """
    module = fabric.setup_module(objective)
    module.train()

    def step(clips: Batch) -> None:
        with autocast():
            loss = module(clips).loss
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    def judge(clips: Batch) -> None:
        with torch.no_grad(), autocast():
            module(clips)

    batch = {key: value.to(fabric.device) for key, value in batch.items()}
    one = {key: value[:1] for key, value in batch.items()}
    _seconds(fabric.device, lambda: step(one))  # the first pass sets things up
    of_one = _seconds(fabric.device, lambda: step(one))
    clips = min(len(batch["clip"]), batch_size)
    if 2 * of_one * clips > seconds:
        clips = 1
    taken = {key: value[:clips] for key, value in batch.items()}
    if clips > 1:
        step(taken)  # and the first of this size: compilers begin anew
    times = [_seconds(fabric.device, lambda: step(taken))]
    while sum(times) < seconds / 2 and len(times) < 6:
        times.append(_seconds(fabric.device, lambda: step(taken)))
    module.eval()
    judging = min(_seconds(fabric.device, lambda: judge(taken)) for _ in range(2))
    return min(times) * batch_size / clips, judging * batch_size / clips, clips


def _seconds(device: torch.device, work: Callable[[], None]) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started
