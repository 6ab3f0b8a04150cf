"""The processes that decode, as the server sees them: each reads one file at a time, under a limit of time.

A process that is too slow, takes too much memory or dies is replaced, and costs the request that it was at. Where the
system can, processes are forked from one that has imported everything and done nothing, so that a new one takes
milliseconds.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dualformer.errors import DualFormerError
from dualformer.serving import decoder_process
from dualformer.serving.decoder_process import Job, Reading
from dualformer.serving.request_error import STATUS, RequestError

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

Result = TypeVar("Result")

_START_SECONDS = 120.0
"""Importing torch from a slow disk takes long."""
_MOST_WORDS = 2**16
_MOST_BYTES = 2**31


class Message:
    """What a process says: words, and arrays."""

    def __init__(self, words: dict[str, Any], arrays: list[NDArray[Any]]) -> None:
        self.words, self.arrays = words, arrays


class Worker:
    """One process. Not thread-safe. Raises ``DualFormerError`` where it does not start."""

    def __init__(self, reading: Reading) -> None:
        context = _context()
        self._reading = reading
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=decoder_process.serve, args=(theirs, reading), daemon=True)
        self._process.start()
        theirs.close()
        self._left = _START_SECONDS
        self._spent = False
        try:
            self._hear()
        except _Gone as error:
            raise DualFormerError("the processes that decode videos do not start: the lines above say why") from error

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._spent and self._process.is_alive()

    def ask(self, job: Job, path: str) -> Generator[Message, None, None]:
        """What it says about a file, one message after another; only the time that is waited for it counts.

        Raises ``RequestError`` for a file that is bad, takes too long, or brings the process down.
        """
        self._left = self._reading.seconds
        done = False
        try:
            self._connection.send_bytes(json.dumps({"job": job, "path": path}).encode())
            while not done:
                message = self._hear()
                if "refused" in message.words:
                    done = True
                    raise self._refusal(message.words)
                done = job != "windows" or "last" in message.words
                yield message
        except (_Gone, ConnectionError) as error:  # ConnectionError: it died before it was asked
            if self._left <= 0:
                limit = f"reading it took longer than {self._reading.seconds:g} s: send a shorter or smaller video"
                raise RequestError("too_slow_to_decode", limit) from error
            died = "reading it brought the process down that read it: convert it to H.264 in MP4 and try again"
            raise RequestError("decoder_died", died) from error
        finally:
            if not done:  # it is at work still, for nobody
                self.kill()

    def kill(self) -> None:
        """Whoever is listening to it hears that it is gone."""
        self._spent = True
        self._process.kill()

    def close(self) -> None:
        self.kill()
        self._process.join()
        self._connection.close()

    def _refusal(self, words: dict[str, Any]) -> RequestError:
        code = words["refused"]
        if code == "too_much_memory":
            self._spent = True  # what it has left is anybody's guess
        if code not in STATUS:
            raise _Gone
        pixels = self._reading.bounds.pixels
        remedy = {
            "too_long": "cut it",
            "too_many_frames": "cut it",
            "too_many_pixels": "scale it down",
            "unsupported_file": "send a video or image file, such as H.264 in MP4",
        }.get(code, f"convert it to H.264 in MP4 of at most {pixels} pixels a frame and try again")
        return RequestError(code, f"the video: {words['reason']}; {remedy}")

    def _hear(self) -> Message:
        """Within the time that is left, which it shortens. Raises ``_Gone``."""
        begun = time.monotonic()
        # A process that hangs halfway through a message would be waited for without an end: killing it ends the wait.
        timer = threading.Timer(max(0.0, self._left), self.kill)
        timer.daemon = True
        timer.start()
        try:
            words = json.loads(self._connection.recv_bytes(_MOST_WORDS))
            arrays = [
                np.frombuffer(self._connection.recv_bytes(_MOST_BYTES), dtype=np.dtype(kind)).reshape(shape).copy()
                for kind, *shape in words["arrays"]
            ]
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            self.kill()
            raise _Gone from error
        finally:
            timer.cancel()
            self._left -= time.monotonic() - begun
        return Message(words, arrays)


class _Gone(Exception):
    """A process has died, was killed, or talks nonsense."""


class Timed(Generic[Result]):
    """A result, and the seconds that it waited for a process and that it took."""

    def __init__(self, result: Result, waited: float, took: float) -> None:
        self.result, self.waited, self.took = result, waited, took


class DecoderPool:
    """``workers`` processes, and a thread for each that listens to it.

    ``replaced`` is called when a process has been replaced. Making one takes seconds, the first time.
    """

    def __init__(self, reading: Reading, *, workers: int | None = None, replaced: Callable[[], None]) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        count = workers or min(8, _cores())
        self._reading, self._replaced = reading, replaced
        self._closed = False
        atexit.register(self.close)  # before multiprocessing waits for its processes, which end when they are told to
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._all: set[Worker] = set()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoding")
        try:
            for _ in range(count):
                self._idle.put(self._new())
        except BaseException:
            self.close()
            raise

    def submit(self, use: Callable[[Worker], Result]) -> Future[Timed[Result]]:
        """Has ``use`` talk to a process, in a thread, as soon as one is free."""
        return self._threads.submit(self._use, use, time.monotonic())

    def close(self) -> None:
        """Kills all. Whoever waits for one has its ``RequestError``, or a cancelled future."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            workers = list(self._all)
        for worker in workers:
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in workers:
            worker.close()

    def _use(self, use: Callable[[Worker], Result], since: float) -> Timed[Result]:
        worker = self._idle.get()  # there are as many as threads
        begun = time.monotonic()
        try:
            if not worker.is_alive and not self._closed:
                worker = self._instead_of(worker)
            return Timed(use(worker), begun - since, time.monotonic() - begun)
        except RequestError as refused:
            if self._closed:
                raise RequestError("shutting_down", "the server is shutting down: try again") from refused
            raise
        finally:
            self._idle.put(worker)

    def _instead_of(self, spent: Worker) -> Worker:
        spent.close()
        fresh = self._new()
        with self._lock:
            self._all.discard(spent)
        self._replaced()
        return fresh

    def _new(self) -> Worker:
        worker = Worker(self._reading)
        with self._lock:
            self._all.add(worker)
            closed = self._closed
        if closed:
            worker.kill()
        return worker


def _context() -> ForkServerContext | SpawnContext:
    # macOS has libraries that do not bear a fork, and Windows has none.
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([decoder_process.__name__])
    return context


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
