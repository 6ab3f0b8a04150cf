"""Decides what a video is handed over as: a path, a URL, a pipe, bytes, a file object, or frames in memory.

The only place that does. What can be read once, or from elsewhere, is read to its end here and kept: up to
`_KEPT_IN_MEMORY` bytes in memory, larger ones in a temporary file. So all readers see files or frames.
"""

import io
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import unquote
from urllib.request import url2pathname

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dualformer.remote_paths import RemotePath, as_path
from dualformer.urls import split_url, url_of
from dualformer.video.buffered_file import BufferedFile, buffer_temporary, format_name, temporary_file
from dualformer.video.container import VideoError, video_errors
from dualformer.video.file_slices import FileSlice, Media, is_frame_folder
from dualformer.video.memory_frames import ChannelOrder, MemoryFrames, check_rate, is_pil_image
from dualformer.video.remote_video import open_remote
from dualformer.video.video_segment import Footage, VideoSegment, parse_segment

_KEPT_IN_MEMORY = 64 * 2**20
_AT_ONCE = 2**20
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/(?:fd/(?P<number>\d+)|(?P<standard>stdin))")


class ReadableFile(Protocol):
    """A file object, opened in binary mode."""

    def read(self, size: int = ..., /) -> bytes | bytearray | None: ...


class PictureOrArray(Protocol):
    """A PIL image, or what NumPy makes an array of."""

    @property
    def __array_interface__(self) -> Any: ...


VideoSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile | FileSlice | VideoSegment | MemoryFrames
    | Tensor | NDArray[Any] | PictureOrArray | Iterable[Any] | Mapping[str, Any]
)  # fmt: skip
"""A video: a path or URL, a part of it (``film.mp4#t=1.5,3.2``, seconds), ``-`` for standard input, the content of a
file, a file object, all frames as uint8 (T, H, W, 3), a sequence of PIL images or of arrays (H, W, 3), or the record of
``bytes`` and ``path`` that Hugging Face's ``datasets`` gives for a video or an image that is not decoded."""


def resolve_source(
    video: VideoSource, *, fps: float | None = None, channel_order: ChannelOrder = "rgb"
) -> Footage | MemoryFrames:
    """Returns what readers open for a video.

    ``fps``: frames a second of frames in memory or of a folder of frames. ``channel_order``: of arrays in memory.
    A file object that can seek is read from its start and left where it was, another one from where it is.
    Raises ``ValueError`` for what is no video and for ``fps`` or ``channel_order`` of a file, ``FileNotFoundError``,
    :class:`VideoError` where reading fails.
    """
    check_rate(fps)
    if isinstance(video, MemoryFrames):
        return video
    media = _resolve_file(video)
    if media is not None:
        if fps is not None and not is_frame_folder(media.file if isinstance(media, VideoSegment) else media):
            raise ValueError("fps is for frames in memory; a file knows the times of its frames")
        if channel_order != "rgb":
            raise ValueError("channel_order is for arrays in memory; a file knows the order of its colours")
        return media
    if is_pil_image(video):
        frames: Any = [video]
    elif isinstance(video, (Tensor, np.ndarray)):
        frames = video
    elif hasattr(video, "__array__"):
        frames = np.asarray(video)
    elif isinstance(video, str) or not isinstance(video, Iterable):
        raise ValueError(f"a video is a path, URL, file object, bytes or frames, not {type(video).__name__}")
    else:
        frames = list(cast(Iterable[Any], video))
        if frames and isinstance(frames[0], (str, os.PathLike)):
            raise ValueError("a list stands for the frames of one video: label several files by `many(…)`")
    return MemoryFrames(frames=frames, fps=fps, channel_order=channel_order)


def source_name(video: object) -> str:
    """Returns what a source is called in answers, without reading it: its path or URL, "bytes", "file" or "frames"."""
    if isinstance(video, (str, os.PathLike)):
        text = os.fsdecode(video)
        return str(as_path(text)) if url_of(text) else text
    if isinstance(video, (bytes, bytearray, memoryview)):
        return "bytes"
    if isinstance(video, (FileSlice, VideoSegment)):
        return str(video)
    if isinstance(video, Mapping):
        return str(video.get("path") or "bytes")
    if hasattr(video, "read"):
        name = getattr(video, "name", None)
        return name if isinstance(name, str) else "file"
    return "frames"


def _resolve_file(video: Any) -> Footage | None:
    """Returns the file that a source is or holds; None for frames."""
    if isinstance(video, (FileSlice, VideoSegment)):
        return video
    if isinstance(video, (str, os.PathLike)):
        return _resolve_path(video)
    if isinstance(video, (bytes, bytearray, memoryview)):
        data = bytes(video)
        return BufferedFile(path=Path("bytes"), size=len(data), name="bytes", data=data)
    if isinstance(video, Mapping):
        return _resolve_record(video)
    if hasattr(video, "read") and not isinstance(video, (Tensor, np.ndarray)) and not is_pil_image(video):
        return _resolve_object(video)
    return None


def _resolve_record(video: Mapping[str, Any]) -> Footage:
    data, path = video.get("bytes"), video.get("path")
    if data is not None:
        name = str(path or "bytes")
        return BufferedFile(path=format_name(Path(name)), size=len(data), name=name, data=data)
    if path is None:
        raise ValueError(f"a record of a video has bytes or a path, and this one has {', '.join(map(str, video))}")
    return _resolve_path(path)


def _resolve_path(video: str | os.PathLike[str]) -> Footage:
    text = os.fsdecode(video)
    if text == "-":
        stdin = getattr(sys.stdin, "buffer", None)
        if stdin is None or stdin.isatty():
            raise ValueError("- is standard input, and nothing is piped into it")
        return _buffer(stdin, text)
    path = Path(text)
    if (url_of(text) or split_url(text)) and not path.exists():
        return _resolve_url(text)
    try:
        mode = path.stat().st_mode
    except OSError:  # opening it says why
        return parse_segment(path) or path
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode):
        with video_errors(text, "it cannot be read"), _open_pipe(path) as file:
            return _buffer(file, text)
    return path


def _open_pipe(path: Path) -> io.BufferedReader:
    # A socket cannot be opened by its name, and a process's own pipes need not be.
    if found := _DESCRIPTOR.fullmatch(str(path)):
        return os.fdopen(os.dup(int(found["number"] or 0)), "rb")
    return path.open("rb")


def _resolve_url(text: str) -> Footage:
    kind, rest = split_url(text) or ("", "")
    if kind in ("file", "local"):
        return Path(url2pathname(unquote(f"/{rest}")))
    path = as_path(text)
    if not isinstance(path, RemotePath):
        name = f"{kind}://{rest}"
        raise VideoError(
            name, "fsspec reads no such addresses: fetch the file, or give a live one to `dualformer stream`"
        )
    if segment := parse_segment(path):
        return segment
    return open_remote(path)


def _resolve_object(file: Any) -> Media:
    name = source_name(file)
    if getattr(file, "closed", False):
        raise ValueError(f"{name}: the file object is closed")
    if isinstance(file, io.TextIOBase):
        raise ValueError(f"{name}: the file object is opened as text: open it in binary mode, 'rb'")
    # Not what reads a file and changes what is in it, as gzip does.
    raw = file.raw if type(file) is io.BufferedReader else file
    with suppress(OSError, ValueError):
        if type(raw) is io.FileIO and isinstance(raw.name, str) and os.path.samestat(
            os.fstat(raw.fileno()), Path(raw.name).stat()
        ) and stat.S_ISREG(os.fstat(raw.fileno()).st_mode):  # fmt: skip
            return Path(raw.name)
    try:
        place = file.tell() if file.seekable() else None
    except (AttributeError, OSError, ValueError):
        place = None
    with video_errors(name, "it cannot be read"):
        if place is None:
            return _buffer(file, name)
        file.seek(0)
        try:
            return _buffer(file, name)
        finally:
            file.seek(place)


def _buffer(file: ReadableFile, name: str) -> BufferedFile:
    """Reads a file object to its end."""
    kept = bytearray()
    target: Path | None = None
    out: io.BufferedWriter | None = None
    try:
        while data := file.read(_AT_ONCE):
            if isinstance(data, str):
                raise ValueError(f"{name}: the file object gives text: open it in binary mode, 'rb'")
            if out is None and len(kept) + len(data) <= _KEPT_IN_MEMORY:
                kept += data
                continue
            if out is None:
                target = temporary_file()
                out = target.open("wb")
                out.write(kept)
                kept.clear()
            out.write(data)
    except BaseException:
        if out is not None and target is not None:
            out.close()
            target.unlink()
        raise
    path = Path(name).name.replace("%", "_") or "file"
    if out is not None and target is not None:
        out.close()
        return buffer_temporary(name, Path(path), target)
    return BufferedFile(path=Path(path), size=len(kept), name=name, data=bytes(kept))
