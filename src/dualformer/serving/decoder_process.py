"""The process that decodes uploaded files: paths in, pixels out.

A file from a stranger may do anything to the code that reads it. So a process of its own reads it, under bounds, with
limited memory, and is killed when it takes too long. It sends back JSON and plain bytes: nothing that could make the
server run code.
"""

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

from dualformer.explain.shown_clip import ClipChoice, read_shown_clip
from dualformer.inference.allocator import return_freed_memory
from dualformer.inference.sliding_windows import WindowReader
from dualformer.video.clip_reader import Views, views_from_reader
from dualformer.video.container import FileLimitError, FileLimits, OpenVideo, VideoError, limit_files
from dualformer.video.open_video import open_video
from dualformer.video.playback import Playback, last_interval
from dualformer.video.preprocessing import Preprocessing

Job = Literal["views", "windows", "clip"]
"""The test views of a file; its overlapping clips, one by one; the clip in its middle, to be explained."""


@dataclass(frozen=True, kw_only=True)
class DecoderSettings:
    """How files are read: at most ``seconds`` and ``memory`` bytes for each."""

    preprocessing: Preprocessing
    views: Views
    bounds: FileLimits
    seconds: float
    memory: int
    hop: float | None = None
    """Seconds between the starts of two clips of a timeline; None: half a clip."""


Send = Callable[[dict[str, Any], list[NDArray[Any]]], None]


def run_decoder(connection: Connection, settings: DecoderSettings) -> None:
    """Decodes files until the server closes the connection.

    A job is ``{"job": …, "path": …}``. Every reply is a JSON header and the bytes of its arrays. The first reply is
    ``{"ready": true}``; ``{"refused": …}`` is the reply to a bad file.
    """
    # Ctrl-C and a shutdown of the machine reach every process; the server ends this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger("dualformer").setLevel(logging.ERROR)  # remarks about files do not belong in the server's log
    torch.set_num_threads(1)
    gc.freeze()  # the collector skips what imports have made

    def send(header: dict[str, Any], arrays: list[NDArray[Any]]) -> None:
        shapes = [[array.dtype.str, *array.shape] for array in arrays]
        connection.send_bytes(json.dumps({**header, "arrays": shapes}).encode())
        for array in arrays:
            connection.send_bytes(array.tobytes())

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the server hangs up
        send({"ready": True}, [])
        while True:
            job = json.loads(connection.recv_bytes())
            _limit_time(settings.seconds)
            _limit_memory(settings.memory)
            _run_job(job, settings, send)
            gc.collect()
            return_freed_memory()  # a large file leaves the next one all of the memory


def _run_job(job: dict[str, Any], settings: DecoderSettings, send: Send) -> None:
    try:
        with limit_files(settings.bounds):
            path = Path(job["path"])
            _check_opens(path)
            _JOBS[job["job"]](path, settings, send)
    except VideoError as error:
        send({"refused": _error_code(error), "reason": error.reason}, [])
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # which is how torch says it
            raise
        send({"refused": "too_much_memory", "reason": "reading it takes more memory than it may"}, [])


def _send_views(path: Path, settings: DecoderSettings, send: Send) -> None:
    pre, views = settings.preprocessing, settings.views
    with open_video(path, clock=pre.fps is not None) as reader:
        pixels = views_from_reader(reader, path, pre, clips=views.clips, crops=views.crops)
        frames, last = len(reader.times), float(reader.times[-1])
    send({"frames": frames, "seconds": last + last_interval(0.0, last, frames)}, [pixels.numpy()])


def _send_windows(path: Path, settings: DecoderSettings, send: Send) -> None:
    pre = settings.preprocessing
    with Playback(path, clock=pre.fps is not None) as playing:
        windows = WindowReader(playing, pre, crops=settings.views.crops, hop=settings.hop)
        any_clip = False
        for window in windows:
            send({"start": window.start, "end": window.end, "lasts": window.lasts}, [window.views.numpy()])
            any_clip = True
        if windows.error is not None and (not any_clip or isinstance(windows.error, FileLimitError)):
            raise windows.error
        summary = windows.summary()
    starts = np.array(summary.starts, dtype=np.float64)
    send({"frames": summary.frames, "end": summary.end, "error": summary.error, "last": True}, [starts])


def _send_clip(path: Path, settings: DecoderSettings, send: Send) -> None:
    clip = read_shown_clip(path, settings.preprocessing, ClipChoice())
    times = np.zeros(0) if clip.times is None else clip.times
    send({"box": clip.box}, [clip.view.numpy(), clip.frames, clip.numbers, times])


_JOBS: dict[Job, Callable[[Path, DecoderSettings, Send], None]] = {
    "views": _send_views,
    "windows": _send_windows,
    "clip": _send_clip,
}


class _NoVideo(VideoError):
    """The file does not open, or has no pictures."""


def _check_opens(path: Path) -> None:
    """Raises `_NoVideo` for what is no video, in contrast to a video that does not decode."""
    try:
        OpenVideo(path, 1).close()
    except FileLimitError:
        raise
    except VideoError as error:
        raise _NoVideo(path, error.reason) from error.__cause__


def _error_code(error: VideoError) -> str:
    if isinstance(error.__cause__, MemoryError):  # FFmpeg says so as well
        return "too_much_memory"
    if isinstance(error, FileLimitError):
        return {"pixels": "too_many_pixels", "frames": "too_many_frames", "seconds": "too_long"}[error.what]
    return "unsupported_file" if isinstance(error, _NoVideo) else "does_not_decode"


def _limit_memory(most: int) -> None:
    """Limits the memory that this process may take besides what it has, and turns off core dumps. Only Linux keeps
    such a limit."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + most
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Ends an endless loop where the server, which kills what takes too long, was itself killed. It counts computing
    time, which is never more than time."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds + 5)
