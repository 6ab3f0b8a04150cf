"""Opening a file and naming what is wrong with it: the only place that talks to the container about streams.

Settings here are answers to known faults, not taste: titles in Latin-1 must not stop a file from opening, one decoding
thread inside loader workers (FFmpeg's threads beside torch's workers are a known hang), and FFmpeg's log level is never
touched (with frame threads and an early exit that deadlocks).
"""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import av.container
import av.error
import av.packet
import av.stream
import av.video
import av.video.codeccontext
import av.video.stream

from dualformer.errors import DualFormerError

# Formats that hold video themselves. FFmpeg would also open playlists and image sequences, which name *other* files:
# an uploaded file must not be able to read those.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,mpegtsraw,h264,hevc,av1,obu,ivf,m4v,flv,live_flv,"
    "asf,asf_o,gif,apng,ogg,mxf,nut,rm,dv,vc1,wtv,yuv4mpegpipe,dirac,nsv,ea,bink,smacker,swf,amv,film_cpk,r3d,gxf"
)
_THREADS_PAY_FROM = 320 * 240  # pixels; below, starting FFmpeg's threads costs more than they save


class VideoError(DualFormerError):
    """A file that cannot be decoded, or not honestly. ``path`` and ``reason``; as text "PATH: reason"."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str]]:
        return type(self), (self.path, self.reason)  # two arguments, or it does not survive the way out of a worker


class FrameCountError(VideoError):
    """Another number of frames decodes than the packets of the file promise; the reader has counted them meanwhile."""


class OpenVideo:
    """An open container, its video stream and its decoder. Close it."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self.path = path
        if not path.exists():
            raise FileNotFoundError(f"no such video file: {path}")
        if path.is_dir():
            raise VideoError(path, "it is a folder, not a video file")
        if path.stat().st_size == 0:
            raise VideoError(path, "the file is empty (0 bytes)")
        try:
            # "file:" keeps a name with a colon from being read as a protocol.
            self.container: av.container.InputContainer = av.open(
                f"file:{path}", mode="r", metadata_errors="replace", options={"format_whitelist": _FORMATS}
            )
        except av.error.FFmpegError as error:
            raise VideoError(path, f"it cannot be opened as a video ({ffmpeg_says(error)})") from error
        streams = [s for s in self.container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            self.container.close()
            raise VideoError(path, "it has no video stream (sound or pictures only)")
        self.stream: av.video.stream.VideoStream = streams[0]
        if self.stream.codec_context is None:
            self.container.close()
            raise VideoError(path, "this build of FFmpeg has no decoder for its video stream")
        self.codec: av.video.codeccontext.VideoCodecContext = self.stream.codec_context
        # As the container declares it, before decoding moves it along with the stream.
        self.declared_size: tuple[int, int] = (self.codec.height, self.codec.width)
        if threads is None:
            small = self.codec.width * self.codec.height < _THREADS_PAY_FROM
            threads = 1 if small or _in_loader_worker() else 0
        if threads == 1:
            self.codec.thread_type = "NONE"  # type: ignore[assignment]  # the setter takes names
            self.codec.thread_count = 1
        else:
            self.codec.thread_type = "AUTO"  # type: ignore[assignment]
            self.codec.thread_count = threads

    def close(self) -> None:
        self.container.close()


# A container and its streams refer to each other, so a decoder is freed by the garbage collector and not when it is
# closed. If that happens in a forked child, freeing waits for ever for the decoder's threads, which live in the parent
# alone: loader workers hang. So nothing of the kind may be lying around when a process forks.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=gc.collect)


def _in_loader_worker() -> bool:
    # Where nothing has imported the loader there is no loader, and importing torch to learn that would take seconds.
    loader = sys.modules.get("torch.utils.data")
    return loader is not None and loader.get_worker_info() is not None


def ffmpeg_says(error: av.error.FFmpegError) -> str:
    return f"FFmpeg: {error.strerror}"


def packets_of(video: OpenVideo) -> Iterator[av.packet.Packet]:
    """Packets with data in them: empty ones mark dropped frames in AVI, and the end of the file."""
    try:
        for packet in video.container.demux(video.stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError as error:
        raise VideoError(video.path, f"its data cannot be read to the end ({ffmpeg_says(error)})") from error
