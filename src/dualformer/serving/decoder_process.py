"""What runs in the processes that decode: one file after another in, pixels out.

A file from a stranger may do anything to the code that reads it. So it is read here, under bounds, by a process that
may take only so much memory, and that is killed when it takes too long. What goes back are words in JSON and plain
bytes: nothing that the server would run by reading it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dualformer.explain.shown_clip import Moment, see_file
from dualformer.inference.allocator import return_freed_memory
from dualformer.inference.sliding_windows import Sampler, Windows
from dualformer.inference.timeline import Cutter
from dualformer.video.bounds import Bounds, bounded
from dualformer.video.clip_reader import views_from
from dualformer.video.container import BoundsError, OpenVideo, VideoError
from dualformer.video.frames import open_video
from dualformer.video.playback import Playing, last_interval
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.views import Views

Job = Literal["views", "windows", "clip"]
"""The test views of a file; its overlapping clips, one by one; the clip in its middle, to be explained."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read. ``seconds`` of one, ``memory`` in bytes."""

    preprocessing: Preprocessing
    views: Views
    bounds: Bounds
    seconds: float
    memory: int


Send = Callable[[dict[str, Any], list[NDArray[Any]]], None]


def serve(connection: Connection, reading: Reading) -> None:
    """Reads files until the server hangs up. A job is ``{"job": …, "path": …}``; see `Send` for what comes back: words,
    and then the arrays whose bytes follow. ``{"ready": true}`` comes first, ``{"refused": …}`` where a file is bad."""
    # Ctrl-C and a shutdown of the machine reach every process; this one lives as long as the server wants it to.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger("dualformer").setLevel(logging.ERROR)  # remarks about files are not the server's log
    torch.set_num_threads(1)
    gc.freeze()  # what imports have made is not looked through after every file

    def send(words: dict[str, Any], arrays: list[NDArray[Any]]) -> None:
        shapes = [[array.dtype.str, *array.shape] for array in arrays]
        connection.send_bytes(json.dumps({**words, "arrays": shapes}).encode())
        for array in arrays:
            connection.send_bytes(array.tobytes())

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the server hangs up
        send({"ready": True}, [])
        while True:
            job = json.loads(connection.recv_bytes())
            _limit_time(reading.seconds)
            _limit_memory(reading.memory)
            _work(job, reading, send)
            gc.collect()
            return_freed_memory()  # a large file leaves nothing behind that the next one would be short of


def _work(job: dict[str, Any], reading: Reading, send: Send) -> None:
    try:
        with bounded(reading.bounds):
            _JOBS[job["job"]](Path(job["path"]), reading, send)
    except VideoError as error:
        send({"refused": _code(error), "reason": error.reason}, [])
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # which is how torch says it
            raise
        send({"refused": "too_much_memory", "reason": "reading it takes more memory than it may"}, [])


def _views(path: Path, reading: Reading, send: Send) -> None:
    pre, views = reading.preprocessing, reading.views
    _opened(path)
    with open_video(path, clock=pre.fps is not None) as reader:
        pixels = views_from(reader, path, pre, clips=views.clips, crops=views.crops)
        frames, last = len(reader.times), float(reader.times[-1])
    send({"frames": frames, "seconds": last + last_interval(0.0, last, frames)}, [pixels.numpy()])


def _windows(path: Path, reading: Reading, send: Send) -> None:
    pre = reading.preprocessing
    _opened(path)
    with Playing(path, clock=pre.fps is not None) as playing:
        cutter = Cutter(playing, Sampler(pre, reading.views.crops), Windows(pre))
        any_clip = False
        for window in cutter:
            send({"start": window.start, "end": window.end}, [window.views.numpy()])
            any_clip = True
        if cutter.error is not None and (not any_clip or isinstance(cutter.error, BoundsError)):
            raise cutter.error
        footage = cutter.footage()
    starts = np.array(footage.starts, dtype=np.float64)
    send({"frames": footage.frames, "end": footage.end, "error": footage.error, "last": True}, [starts])


def _clip(path: Path, reading: Reading, send: Send) -> None:
    _opened(path)
    clip = see_file(path, reading.preprocessing, Moment())
    times = np.zeros(0) if clip.times is None else clip.times
    send({"box": clip.box}, [clip.view.numpy(), clip.frames, clip.numbers, times])


_JOBS: dict[Job, Callable[[Path, Reading, Send], None]] = {"views": _views, "windows": _windows, "clip": _clip}


class _NoVideo(VideoError):
    """It does not open, or has no pictures."""


def _opened(path: Path) -> None:
    """Tells what is no video from a video that does not decode."""
    try:
        OpenVideo(path, 1).close()
    except BoundsError:
        raise
    except VideoError as error:
        raise _NoVideo(path, error.reason) from error.__cause__


def _code(error: VideoError) -> str:
    if isinstance(error.__cause__, MemoryError):  # FFmpeg says so as well
        return "too_much_memory"
    if isinstance(error, BoundsError):
        return {"pixels": "too_many_pixels", "frames": "too_many_frames", "seconds": "too_long"}[error.what]
    return "unsupported_file" if isinstance(error, _NoVideo) else "does_not_decode"


def _limit_memory(most: int) -> None:
    """What this process may take besides what it has, and no dumps of it. Elsewhere than on Linux the kernel does not
    keep such a limit."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + most
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """The server kills what takes too long. Where the server itself was killed, this ends an endless loop: by computing
    time, which is no more than time."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds + 5)
