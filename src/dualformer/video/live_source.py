"""Opens live sources: cameras, URLs, pipes, and files played like them.

Every wait has a timeout, so that a reader can always be stopped.
"""

from __future__ import annotations

import os
import re
import select
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import av.container
import av.packet

from dualformer.urls import exact_url, public_url
from dualformer.video.container import VideoError, main_stream, video_errors

Kind = Literal["camera", "url", "pipe", "file"]

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_POLL = 0.1
"""Seconds between checks of a silent pipe whether to stop."""


@dataclass(frozen=True, kw_only=True)
class StreamSource:
    """The source of a stream."""

    kind: Kind
    name: str
    """As FFmpeg opens it; ``-`` for standard input."""
    device: str | None = None
    """FFmpeg's input format for a camera."""

    @classmethod
    def parse(cls, text: str | Path) -> StreamSource:
        """Parses ``camera:0`` or ``/dev/video0``; a URL; ``-`` for standard input; a named pipe; a file.

        On macOS and Windows the camera is a number or a name that FFmpeg knows. Raises ``FileNotFoundError`` for what
        is none of these.
        """
        text = str(text)
        if text == "-":
            return cls(kind="pipe", name=text)
        if text.startswith("camera:"):
            return _camera(text.removeprefix("camera:"))
        if re.match(r"/dev/video\d+$", text):
            return cls(kind="camera", name=text, device="v4l2")
        if _SCHEME.match(text):
            return cls(kind="url", name=exact_url(text))
        path = Path(text)
        if not path.exists():
            raise FileNotFoundError(f"{text}: no such file, and no camera:0, URL or - (standard input)")
        return cls(kind="pipe" if stat.S_ISFIFO(path.stat().st_mode) else "file", name=text)

    @property
    def ends(self) -> bool:
        """Whether the end of the data is the end of the stream. Other sources are lost, and may come back."""
        return self.kind == "file" or self.name == "-"

    def __str__(self) -> str:
        return "standard input" if self.name == "-" else public_url(self.name)


def _camera(which: str) -> StreamSource:
    if sys.platform == "darwin":
        return StreamSource(kind="camera", name=which or "0", device="avfoundation")
    if sys.platform == "win32":
        return StreamSource(kind="camera", name=f"video={which}", device="dshow")
    return StreamSource(
        kind="camera", name=which if which.startswith("/") else f"/dev/video{which or 0}", device="v4l2"
    )


class LiveVideo:
    """An open source with its packets and its decoder. Close it in the thread that reads it.

    ``timeout``: seconds to wait for an answer, and for data. ``stopped`` is asked while a pipe is silent. ``options``:
    for FFmpeg, such as ``{"video_size": "640x480"}`` of a camera.
    Raises ``VideoError`` where it does not open, does not answer, or has no video.
    """

    def __init__(
        self,
        source: StreamSource,
        *,
        timeout: float,
        stopped: Callable[[], bool],
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self._pipe: _Pipe | None = None
        wanted: dict[str, str] = {}
        if source.kind == "url":
            # By default FFmpeg looks at five seconds of a stream before it gives anything away.
            wanted |= {"analyzeduration": "1000000"}
        if source.name.startswith("rtsp://"):
            wanted |= {"rtsp_transport": "tcp"}  # over UDP, a packet that is lost damages pictures
        wanted |= dict(options or {})
        known = {name for names in av.formats_available for name in names.split(",")}
        if source.device is not None and source.device not in known:
            raise VideoError(source.name, f"this build of PyAV does not read cameras through {source.device}")
        file: Any = source.name
        if source.kind == "pipe":
            file = self._pipe = _Pipe(source, stopped)
        elif source.kind == "file":
            file = f"file:{source.name}"
        try:
            with video_errors(str(source), "it cannot be opened"):
                container = av.open(
                    file,
                    mode="r",
                    format=source.device,
                    options=wanted,
                    metadata_errors="replace",
                    timeout=(timeout, timeout) if source.kind == "url" else None,
                )
        except VideoError:
            self._close_pipe()
            raise
        assert isinstance(container, av.container.InputContainer)
        self.container = container
        try:
            if not self.container.streams.video:
                raise VideoError(str(source), "it has no video stream")
            self.stream = main_stream(self.container.streams.video)
            if self.stream.codec_context is None:
                raise VideoError(str(source), "this build of FFmpeg has no decoder for its video stream")
        except VideoError:
            self.close()
            raise
        self.codec = self.stream.codec_context
        # Threads that each decode a frame of their own would hold back as many frames.
        self.codec.thread_type = "SLICE"  # type: ignore[assignment]  # the setter takes names
        self.tick = float(self.stream.time_base or 0)
        self.rate = float(self.stream.average_rate or self.stream.guessed_rate or 0) or 25.0
        """Frames a second, by the source's header."""
        self.is_finite = source.kind == "url" and self.container.duration is not None
        """Whether it is a recorded video at a URL, which ends."""

    def packets(self) -> Iterator[av.packet.Packet]:
        """Yields packets with data until the source ends. Raises ``VideoError`` where it breaks off or is silent."""
        packets = iter(self.container.demux(self.stream))
        while True:
            with video_errors(str(self.source), "it broke off"):
                packet = next(packets, None)
            if packet is None:
                return
            if packet.size:
                yield packet

    def close(self) -> None:
        self.container.close()
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._pipe.close()


class _Pipe:
    """A file object for FFmpeg over standard input or a named pipe. It ends when ``stopped`` says so."""

    def __init__(self, source: StreamSource, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._own = source.name != "-"
        # Without O_NONBLOCK, opening waits for somebody who writes, whatever becomes of us.
        self._fd = os.open(source.name, os.O_RDONLY | os.O_NONBLOCK) if self._own else sys.stdin.fileno()
        self._begun = not self._own

    def read(self, size: int) -> bytes:
        while not self._stopped():
            if os.name == "nt":  # where only sockets can be waited for
                return os.read(self._fd, size)
            if not select.select([self._fd], [], [], _POLL)[0]:
                continue
            try:
                data = os.read(self._fd, size)
            except BlockingIOError:
                continue
            if data or self._begun:
                self._begun = True
                return data
            select.select([], [], [], _POLL)  # nobody writes yet, which looks like the end
        return b""

    def close(self) -> None:
        if self._own:
            os.close(self._fd)
