"""Runs jobs in worker processes with a time limit, so that no job can hang or crash the caller."""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import signal
import time
from collections.abc import Callable, Generator, Sequence
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from dualformer.cores import available_cores
from dualformer.datasets.samples import DatasetError


class JobFailure(Enum):
    """Why a job gave no result."""

    TIMED_OUT = "it took longer than its time"
    CRASHED = "its process died"


def run_isolated(
    work: Callable[[Any], Any], jobs: Sequence[Any], *, seconds_limit: float, workers: int | None = None
) -> Generator[tuple[int, Any], None, None]:
    """Yields (index of the job, ``work(job)`` or a `JobFailure`) for every job, as they are done.

    A process whose job takes longer than ``seconds_limit``, or brings it down, is replaced. ``workers``: processes,
    None for one per core. They are spawned: ``work`` is a function of a module, and a script that calls this needs the
    usual ``if __name__ == "__main__":``. Closing the iterator ends them.
    """
    if not seconds_limit > 0:
        raise ValueError(f"seconds_limit must be positive, not {seconds_limit}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    waiting = list(reversed(range(len(jobs))))
    left = len(jobs)
    pool = [_Worker(work) for _ in range(min(workers or available_cores(), left))]
    try:
        while left:
            for worker in pool:
                if worker.ready and worker.job is None and waiting:
                    worker.start(waiting.pop(), jobs, seconds_limit)
            wait_seconds = max(0.0, min(worker.deadline for worker in pool) - time.monotonic())
            answering = multiprocessing.connection.wait(
                [worker.connection for worker in pool], None if wait_seconds == math.inf else wait_seconds
            )
            for worker in list(pool):
                if worker.connection in answering:
                    answer = worker.receive()
                    if answer is _READY:
                        continue
                elif time.monotonic() >= worker.deadline:
                    answer = JobFailure.TIMED_OUT
                else:
                    continue
                job = worker.job
                worker.job, worker.deadline = None, math.inf
                if isinstance(answer, JobFailure):
                    worker.kill()
                    pool.remove(worker)
                    if waiting or job is None:
                        pool.append(_Worker(work))
                if job is not None:
                    left -= 1
                    yield job, answer
    finally:
        for worker in pool:
            worker.kill()


_READY = object()
_context = multiprocessing.get_context("spawn")  # a fork would copy whatever threads the caller runs


class _Worker:
    """A process that does one job after another; ``job`` is the index of the present one."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.connection, remote_end = _context.Pipe()
        self.process = _context.Process(target=_work_loop, args=(remote_end, work), daemon=True)
        self.process.start()
        remote_end.close()
        self.ready = False
        self.job: int | None = None
        self.deadline = math.inf

    def start(self, job: int, jobs: Sequence[Any], seconds_limit: float) -> None:
        self.job = job
        self.deadline = time.monotonic() + seconds_limit
        with contextlib.suppress(BrokenPipeError):  # it has died meanwhile: `receive` says so
            self.connection.send(jobs[job])

    def receive(self) -> Any:
        """Returns a result, `_READY`, or that the process has died."""
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError):
            if not self.ready:
                raise DatasetError("the processes that check videos do not start: the lines above say why") from None
            return JobFailure.CRASHED
        if not self.ready:
            self.ready = True
            return _READY
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _work_loop(connection: Connection, work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends us
    connection.send(None)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(work(job))
