"""Decode every frame of every file, in processes of their own, so that no file can hang or crash the check."""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from dualformer.datasets.files import Verdict, find_videos, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.video.sequential import VideoError, VideoInfo, decode_all

__all__ = ["Verdict", "check_videos", "find_videos", "read_manifest", "write_manifest"]


def check_videos(
    paths: Sequence[Path],
    *,
    seconds_limit: float = 60,
    workers: int | None = None,
    progress: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """A verdict on every file, in the order of ``paths``.

    A file that takes longer than ``seconds_limit`` to decode, or brings its process down, is bad; the process is
    replaced. ``workers``: processes, None for one per core. ``progress`` is called with each verdict as it comes.
    Processes are spawned: a script that calls this needs the usual ``if __name__ == "__main__":``.
    """
    if not seconds_limit > 0:
        raise ValueError(f"seconds_limit must be positive, not {seconds_limit}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    verdicts: dict[int, Verdict] = {}
    waiting = list(reversed(range(len(paths))))
    crew = [_Worker() for _ in range(min(workers or _cores(), len(paths)))]
    try:
        while len(verdicts) < len(paths):
            for worker in crew:
                if worker.ready and worker.job is None and waiting:
                    worker.give(waiting.pop(), paths, seconds_limit)
            patience = max(0.0, min(worker.deadline for worker in crew) - time.monotonic())
            spoken = multiprocessing.connection.wait(
                [worker.connection for worker in crew], None if patience == math.inf else patience
            )
            for worker in list(crew):
                broken = False
                if worker.connection in spoken:
                    said = worker.hear()
                    if said == _READY:
                        continue
                    broken = said is None
                elif time.monotonic() >= worker.deadline:
                    said, broken = f"it took longer than {seconds_limit:g} s to decode", True
                else:
                    continue
                job = worker.job
                worker.job, worker.deadline = None, math.inf
                if broken:
                    worker.kill()
                    crew.remove(worker)
                    if waiting or job is None:
                        crew.append(_Worker())
                if job is not None:
                    verdicts[job] = verdict = _verdict(paths[job], said)
                    if progress is not None:
                        progress(verdict)
    finally:
        for worker in crew:
            worker.kill()
    return [verdicts[job] for job in range(len(paths))]


_READY = "ready"
_context = multiprocessing.get_context("spawn")  # a fork would copy whatever threads the caller runs


class _Worker:
    """A process that decodes one file after another, and what it is doing."""

    def __init__(self) -> None:
        self.connection, theirs = _context.Pipe()
        self.process = _context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = False
        self.job: int | None = None
        self.deadline = math.inf

    def give(self, job: int, paths: Sequence[Path], seconds_limit: float) -> None:
        self.job = job
        self.deadline = time.monotonic() + seconds_limit
        with contextlib.suppress(BrokenPipeError):  # it has died meanwhile: hearing from it says so
            self.connection.send(str(paths[job]))

    def hear(self) -> VideoInfo | str | None:
        """What it found, why a file is bad, or None: it has died."""
        try:
            said = self.connection.recv()
        except (EOFError, ConnectionResetError):
            if not self.ready:
                raise DatasetError("the processes that check videos do not start: the lines above say why") from None
            return None
        self.ready = True
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends us
    connection.send(_READY)
    while True:
        try:
            path = connection.recv()
        except EOFError:
            return
        try:
            said: VideoInfo | str = decode_all(path)
        except VideoError as error:
            said = error.reason
        except FileNotFoundError:
            said = "there is no such file"
        except OSError as error:
            said = f"it cannot be read ({error.strerror})"
        connection.send(said)


def _verdict(path: Path, said: VideoInfo | str | None) -> Verdict:
    if said is None:
        return Verdict(path=path, ok=False, reason="decoding it brings the process down")
    if isinstance(said, str):
        return Verdict(path=path, ok=False, reason=said)
    return Verdict(
        path=path,
        ok=True,
        frames=said.frames,
        fps=said.fps,
        width=said.width,
        height=said.height,
        duration=said.duration,
        codec=said.codec,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
