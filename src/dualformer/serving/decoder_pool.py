"""A pool of processes that decode uploaded files, each one file at a time, under a limit of time.

A process that is too slow, takes too much memory or dies is replaced, and its request fails. On Linux, processes are
forked from one that has imported everything and done nothing, so that a new one starts in milliseconds.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dualformer.cores import available_cores
from dualformer.errors import DualFormerError
from dualformer.serving import decoder_process
from dualformer.serving.decoder_process import DecoderSettings, Job
from dualformer.serving.request_error import STATUS, RequestError

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

Result = TypeVar("Result")

_START_SECONDS = 120.0
"""Importing torch from a slow disk takes long."""
_MAX_HEADER, _MAX_ARRAY = 2**16, 2**31
"""Bytes of a part of a reply."""


class Message(NamedTuple):
    """A reply of a process: a JSON header and arrays."""

    header: dict[str, Any]
    arrays: list[NDArray[Any]]


class Worker:
    """One decoding process. Not thread-safe. Raises ``DualFormerError`` where it does not start."""

    def __init__(self, settings: DecoderSettings) -> None:
        context = _context()
        self._settings = settings
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=decoder_process.run_decoder, args=(theirs, settings), daemon=True)
        self._process.start()
        theirs.close()
        self._seconds_left = _START_SECONDS
        self._unusable = False
        try:
            self._receive_message()
        except _ConnectionLost as error:
            raise DualFormerError("the processes that decode videos do not start: the lines above say why") from error

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can take a job."""
        return not self._unusable and self._process.is_alive()

    def run(self, job: Job, path: str) -> Generator[Message, None, None]:
        """Yields the replies to a job on a file. Only the time spent waiting for them counts against the limit.

        Raises ``RequestError`` for a file that is bad, takes too long, or crashes the process.
        """
        self._seconds_left = self._settings.seconds
        done = False
        try:
            self._connection.send_bytes(json.dumps({"job": job, "path": path}).encode())
            while not done:
                message = self._receive_message()
                if "refused" in message.header:
                    done = True
                    raise self._error_of(message.header)
                done = job != "windows" or "last" in message.header
                yield message
        except (_ConnectionLost, ConnectionError) as error:  # ConnectionError: it died before the job came
            if self._seconds_left <= 0:
                limit = f"reading it took longer than {self._settings.seconds:g} s: send a shorter or smaller video"
                raise RequestError("too_slow_to_decode", limit) from error
            died = "reading it brought the process down that read it: convert it to H.264 in MP4 and try again"
            raise RequestError("decoder_died", died) from error
        finally:
            if not done:  # it still works on a job whose result nobody wants
                self.kill()

    def kill(self) -> None:
        """Kills the process; a `run` that waits for it raises."""
        self._unusable = True
        self._process.kill()

    def close(self) -> None:
        self.kill()
        self._process.join()
        self._connection.close()

    def _error_of(self, header: dict[str, Any]) -> RequestError:
        code = header["refused"]
        if code == "too_much_memory":
            self._unusable = True  # how much memory it still has is unknown
        if code not in STATUS:
            raise _ConnectionLost
        pixels = self._settings.bounds.pixels
        remedy = {
            "too_long": "cut it",
            "too_many_frames": "cut it",
            "too_many_pixels": "scale it down",
            "unsupported_file": "send a video or image file, such as H.264 in MP4",
            "does_not_decode": "send a whole, undamaged file",
        }.get(code, f"convert it to H.264 in MP4 of at most {pixels} pixels a frame and try again")
        return RequestError(code, f"the video: {header['reason']}; {remedy}")

    def _receive_message(self) -> Message:
        """Receives a reply within the time that is left. Raises ``_ConnectionLost``."""
        begun = time.monotonic()
        # A process that hangs halfway through a message would block `recv_bytes` for ever: killing it ends that.
        timer = threading.Timer(max(0.0, self._seconds_left), self.kill)
        timer.daemon = True
        timer.start()
        try:
            header = json.loads(self._connection.recv_bytes(_MAX_HEADER))
            arrays = [
                np.frombuffer(self._connection.recv_bytes(_MAX_ARRAY), dtype=np.dtype(kind)).reshape(shape).copy()
                for kind, *shape in header["arrays"]
            ]
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            self.kill()
            raise _ConnectionLost from error
        finally:
            timer.cancel()
            self._seconds_left -= time.monotonic() - begun
        return Message(header, arrays)


class _ConnectionLost(Exception):
    """A process has died, was killed, or sends what is no reply."""


class DecoderPool:
    """``workers`` processes, with a thread for each that waits for its replies.

    ``on_replace`` is called when a process has been replaced. Starting the first process takes seconds.
    """

    def __init__(
        self, settings: DecoderSettings, *, workers: int | None = None, on_replace: Callable[[], None]
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        count = workers or min(8, available_cores())
        self._settings, self._on_replace = settings, on_replace
        self._closed = False
        atexit.register(self.close)  # before multiprocessing waits for the processes, which end only when told to
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._workers: set[Worker] = set()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoding")
        try:
            for _ in range(count):
                self._idle.put(self._start())
        except BaseException:
            self.close()
            raise

    def submit(self, use: Callable[[Worker], Result]) -> Future[tuple[Result, float, float]]:
        """Calls ``use`` with a process, in a thread, as soon as one is free.

        Returns the future of its result, the seconds for which it waited for a process, and those that it took.
        """
        return self._threads.submit(self._run, use, time.monotonic())

    def close(self) -> None:
        """Kills all processes. Running jobs raise ``RequestError``; waiting ones have a cancelled future."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in workers:
            worker.close()

    def _run(self, use: Callable[[Worker], Result], since: float) -> tuple[Result, float, float]:
        worker = self._idle.get()  # there are as many as threads
        begun = time.monotonic()
        try:
            if not worker.is_alive and not self._closed:
                worker.close()
                fresh = self._start()
                with self._lock:
                    self._workers.discard(worker)
                self._on_replace()
                worker = fresh
            return use(worker), begun - since, time.monotonic() - begun
        except RequestError as error:
            if self._closed:
                raise RequestError("shutting_down", "the server is shutting down: try again") from error
            raise
        finally:
            self._idle.put(worker)

    def _start(self) -> Worker:
        worker = Worker(self._settings)
        with self._lock:
            self._workers.add(worker)
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
