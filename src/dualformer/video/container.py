"""Opens a file with FFmpeg, finds its video stream, and reports what is wrong with it.

An image is opened like a video of one frame; pictures that cameras append to it (previews, depth, gain maps) are left
out. Settings work around known faults: titles in Latin-1 must not stop a file from opening; loader workers decode on
one thread (FFmpeg's threads beside torch's workers can hang); FFmpeg's log level stays (changing it can deadlock).
"""

import gc
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import av
import av.container
import av.error
import av.packet
import av.stream
import av.video
import av.video.codeccontext
import av.video.stream

from dualformer.errors import DualFormerError
from dualformer.files import text_in_place_of
from dualformer.video.file_formats import ALLOWED_DEMUXERS, IMAGE_BRANDS, IMAGE_DEMUXERS, IMAGE_EXTENSIONS
from dualformer.video.file_slices import FileSlice, Media, SliceReader, media_path, media_size

_THREADS_PAY_FROM = 320 * 240  # pixels; below, starting FFmpeg's threads costs more than they save


class VideoError(DualFormerError):
    """A file that cannot be decoded, or not completely. It has ``path`` and ``reason``; its text is "PATH: reason"."""

    def __init__(self, path: str | Media, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str]]:
        return type(self), (self.path, self.reason)  # two arguments, or it does not survive the way out of a worker


class UnreachableError(VideoError):
    """A file whose bytes do not come, and which may be good; asking once more is no use for now."""


class FrameCountError(VideoError):
    """The file holds another number of frames than its packets promise; the reader has counted them by now."""


class FileLimitError(VideoError):
    """A file holds more ``what`` than `FileLimits` allow, or its header says so."""

    def __init__(self, path: str | Media, reason: str, what: Literal["pixels", "frames", "seconds"]) -> None:
        super().__init__(path, reason)
        self.what = what

    def __reduce__(self) -> tuple[type["FileLimitError"], tuple[str, str, str]]:  # type: ignore[override]  # three here
        return type(self), (self.path, self.reason, self.what)


@dataclass(frozen=True, kw_only=True)
class FileLimits:
    """The most that one video from a stranger may hold. Raises ``ValueError`` for what is not positive.

    What a file's header says is checked against them before a frame is decoded, and what it really holds while it is
    read.
    """

    pixels: int
    """Width times height of a frame, as it is stored."""
    frames: int
    seconds: float
    """From the first frame to the last."""

    def __post_init__(self) -> None:
        for name in ("pixels", "frames", "seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"the bound on {name} must be positive, not {getattr(self, name)}")


_limits: ContextVar[FileLimits | None] = ContextVar("file_limits", default=None)


@contextmanager
def limit_files(limits: FileLimits) -> Iterator[None]:
    """Sets the limits for files that are opened within. Threads that start meanwhile do not have them."""
    token = _limits.set(limits)
    try:
        yield
    finally:
        _limits.reset(token)


_FOREIGN_ERRORS = (av.error.FFmpegError, OSError, ValueError, LookupError, ArithmeticError, EOFError, MemoryError)
"""What FFmpeg, PyAV and Pillow raise for a damaged file, and what reading its bytes may raise beneath them."""


@contextmanager
def video_errors(path: str | Media, what: str) -> Iterator[None]:
    """Turns whatever FFmpeg, PyAV and Pillow raise for a file into :class:`VideoError`: "PATH: WHAT (FFmpeg: reason)".

    The one rule for it: every call of them that touches a file's data goes through here. The project's own errors pass.
    """
    try:
        yield
    except DualFormerError:
        raise
    except _FOREIGN_ERRORS as error:
        raise VideoError(path, f"{what} ({foreign_reason(error)})") from error


def foreign_reason(error: BaseException) -> str:
    """Returns what FFmpeg, or else the system or PyAV, says is wrong, for a message of one line."""
    if isinstance(error, av.error.FFmpegError):
        return f"FFmpeg: {error.strerror}"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    said = error.strerror if isinstance(error, OSError) else None
    return said or " ".join(str(error).split()) or type(error).__name__


class OpenVideo:
    """An open file with its container, video stream and decoder. Close it after use.

    ``threads``: decoding threads; None: 1 inside a loader worker, for images and small frames, else one a core.
    ``edits``: follow the container's edit list, by which an MP4 hides a part of what it stores.
    The `FileLimits` that hold when it is opened hold for all that is read from it. Raises ``FileNotFoundError``,
    :class:`VideoError` for what is no video or image, :class:`FileLimitError`.
    """

    def __init__(self, path: Media, threads: int | None, *, edits: bool = True) -> None:
        self.path = path
        if isinstance(path, Path) and not path.exists():
            raise FileNotFoundError(f"no such video or image file: {path}")
        if isinstance(path, Path) and path.is_dir():
            raise VideoError(path, "it is a folder, not a video or image file")
        if isinstance(path, Path) and path.is_fifo():
            raise VideoError(path, "it is a pipe, which is read only once, and not a file")
        if media_size(path) == 0:
            raise VideoError(path, "the file is empty (0 bytes)")
        try:
            # With a second picture behind the first, FFmpeg would take a photo for an endless stream of JPEGs.
            kind = "jpeg_pipe" if _is_jpeg(path) else None
            self._source = _source(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise VideoError(path, f"it cannot be read ({error.strerror})") from error
        self.limits: FileLimits | None = _limits.get()
        # What names other files is not opened at all, and what comes with a file is no reason to open a connection.
        options = {"format_whitelist": ALLOWED_DEMUXERS, "protocol_whitelist": "file"}
        # FFmpeg holds every frame against this before it takes memory for it, also those that it decodes on opening.
        largest = {} if self.limits is None else {"max_pixels": str(self.limits.pixels)}
        if not edits:
            options["ignore_editlist"] = "1"
        try:
            with video_errors(path, "it cannot be opened as a video or image"):
                self.container: av.container.InputContainer = av.open(
                    self._source, mode="r", format=kind, metadata_errors="replace", options={**options, **largest}
                )
        except UnreachableError:
            self._close_source()
            raise
        except VideoError as error:
            self._close_source()
            if kind := _kind_of_other(path):
                raise VideoError(path, f"{error.reason}: it is {kind}") from error.__cause__
            raise
        except DualFormerError:  # of what the file is read from
            self._close_source()
            raise
        self._open = True
        try:
            self.stream = self._choose_stream()
            if self.stream.codec_context is None:
                raise VideoError(path, "this build of FFmpeg has no decoder for its video stream")
            if self.limits is not None:
                self._check_header(self.limits)
        except VideoError:
            self.container.close()
            self._close_source()
            raise
        self.codec: av.video.codeccontext.VideoCodecContext = self.stream.codec_context
        # As the container declares it, before decoding moves it along with the stream.
        self.declared_size: tuple[int, int] = (self.codec.height, self.codec.width)
        brand = self.container.metadata.get("major_brand")
        self.is_image: bool = self.container.format.name in IMAGE_DEMUXERS or brand in IMAGE_BRANDS
        if self.is_image and self.codec.name == "mjpeg":
            # Else what does not decode is filled with grey, and nobody is told.
            largest["err_detect"] = "explode"
        if largest:
            self.codec.options = largest
        if threads is None:
            small = self.codec.width * self.codec.height < _THREADS_PAY_FROM
            alone = small or self.is_image or _in_loader_worker() or self.limits is not None  # threads take memory
            threads = 1 if alone else 0
        self.threads: int = threads
        if threads == 1:
            self.codec.thread_type = "NONE"  # type: ignore[assignment]  # the setter takes names
            self.codec.thread_count = 1
        else:
            self.codec.thread_type = "AUTO"  # type: ignore[assignment]
            self.codec.thread_count = threads

    def close(self) -> None:
        """Closes the file and frees its decoder. A second time, nothing happens."""
        if not self._open:
            return
        self._open = False
        self.container.close()
        self._close_source()
        # A container and its streams refer to each other: the decoder, with the pictures that it keeps, is freed by the
        # garbage collector alone. Left to itself that comes so late that memory falls to pieces: a process that reads
        # clips of ordinary videos grows by 50 KB with each. Collecting what is young takes a tenth of a millisecond.
        del self.container, self.stream, self.codec
        gc.collect(1)

    def _close_source(self) -> None:
        if not isinstance(self._source, str):
            self._source.close()

    def _check_header(self, limits: FileLimits) -> None:
        context = self.stream.codec_context
        if context.width * context.height > limits.pixels:
            reason = f"its frames are of {context.width}x{context.height} pixels, more than {limits.pixels} together"
            raise FileLimitError(self.path, reason, "pixels")
        seconds = (self.container.duration or 0) / 1e6
        if self.stream.duration is not None and self.stream.time_base is not None:
            seconds = float(self.stream.duration * self.stream.time_base)  # the sound may last longer
        if seconds > limits.seconds:
            raise FileLimitError(self.path, f"it lasts {seconds:.1f} s, more than {limits.seconds:g} s", "seconds")

    def _choose_stream(self) -> av.video.stream.VideoStream:
        streams = [s for s in self.container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise VideoError(self.path, "it has no video stream (sound or pictures only)")
        whole = [s for s in streams if not s.disposition & av.stream.Disposition.dependent]
        if self.container.format.name == "tiff_pipe" and _has_jpeg_in_tiff(self.path):
            raise VideoError(self.path, "it is a TIFF with JPEG inside, which is not read: convert it to JPEG or PNG")
        if not whole:
            reason = "its picture is put together from tiles, as phones store photos: convert it to JPEG or PNG"
            raise VideoError(self.path, reason)
        return main_stream(whole)


def main_stream(streams: Sequence[av.video.stream.VideoStream]) -> av.video.stream.VideoStream:
    """Returns the film among several video streams, at least one: no cover art, no thumbnails and no single picture
    where there is another; of those the one of the largest pictures, of equal ones the default one, then the first."""
    kinds = av.stream.Disposition
    pictures = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image

    def rank(stream: av.video.stream.VideoStream) -> tuple[bool, bool, int, bool]:
        context = stream.codec_context  # None for a codec that this FFmpeg does not know
        area = context.width * context.height if context is not None else 0
        is_picture = bool(stream.disposition & pictures)
        return not is_picture, stream.frames != 1, area, bool(stream.disposition & kinds.default)

    return max(streams, key=rank)  # the first of equal ones


def _source(media: Media) -> str | IO[bytes] | SliceReader:
    """Returns what FFmpeg opens for a file.

    FFmpeg looks at the name besides what is in the file, and by some names it would take a file for one of a numbered
    sequence, with %d or * for the number: those are opened without a name.
    """
    nameless = media_path(media).suffix.lower() in (*IMAGE_EXTENSIONS, ".gif")
    if isinstance(media, FileSlice):
        window = media.open_unbuffered()
        window.name = "" if nameless or not media.path.suffix else media.path.name
        return window
    if nameless:
        return os.fdopen(os.open(media, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")
    return f"file:{media}"  # or a name with a colon would be read as a protocol


# Where a decoder that nobody closed is freed by the garbage collector of a forked child, freeing waits for ever for the
# decoder's threads, which live in the parent alone: loader workers hang. So none may lie around when a process forks.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=gc.collect)


def _in_loader_worker() -> bool:
    # Where nothing has imported the loader there is no loader, and importing torch to learn that would take seconds.
    loader = sys.modules.get("torch.utils.data")
    return loader is not None and loader.get_worker_info() is not None


def demux(video: OpenVideo) -> Iterator[av.packet.Packet]:
    """Yields the packets that hold data (empty ones mark dropped frames in AVI, and the end); one of an image."""
    packets = _demux(video)
    return packets if video.limits is None else _enforce_limits(video.limits, packets, video)


def _enforce_limits(
    limits: FileLimits, packets: Iterator[av.packet.Packet], video: OpenVideo
) -> Iterator[av.packet.Packet]:
    """Yields the same packets. Raises :class:`FileLimitError` where there are too many, whatever the header says."""
    tick = float(video.stream.time_base or 0)
    rate = float(video.stream.average_rate or video.stream.guessed_rate or 25)
    first = last = 0
    timed = False
    for number, packet in enumerate(packets, 1):
        if number > limits.frames:
            raise FileLimitError(video.path, f"it has more than {limits.frames} frames", "frames")
        time = packet.dts if packet.pts is None else packet.pts
        if time is None or tick == 0:
            seconds = number / rate
        elif packet.is_discard:  # an edit list hides it
            seconds = 0.0
        else:
            first, last = (min(first, time), max(last, time)) if timed else (time, time)
            timed, seconds = True, (last - first) * tick
        if seconds > limits.seconds:
            raise FileLimitError(video.path, f"its frames span more than {limits.seconds:g} s", "seconds")
        yield packet


def _demux(video: OpenVideo) -> Iterator[av.packet.Packet]:
    packets = iter(video.container.demux(video.stream))
    while True:
        try:
            with video_errors(video.path, "its data cannot be read to the end"):
                packet = next(packets, None)
        except VideoError as error:
            if isinstance(error.__cause__, IndexError):
                # Behind the last packet PyAV looks all streams up, those among them that turned up only on the way, as
                # in recordings from the air; the list that it looks them up in does not grow.
                return
            raise
        if packet is None:
            return
        if packet.size:
            if video.is_image and video.codec.name == "mjpeg" and not _has_jpeg_end(bytes(packet)):
                raise VideoError(video.path, "it ends early: the end of its picture is missing")
            yield packet
            if video.is_image:
                return


def _kind_of_other(media: Media) -> str:
    """Returns what a file is that is no video, and the remedy: an archive, or as `text_in_place_of`."""
    with media.open("rb") as file:
        start = file.read(512)
    is_packed_tar = start.startswith(b"\x1f\x8b") and media_path(media).name.endswith((".tar.gz", ".tgz"))
    is_tar = start[257:262] == b"ustar" or is_packed_tar
    kind = "zip" if start.startswith(b"PK\x03\x04") else "tar" if is_tar else ""
    return f"an archive: name a file in it, as {kind}://FILE::ARCHIVE" if kind else text_in_place_of(start)


def _is_jpeg(media: Media) -> bool:
    with media.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def _has_jpeg_end(data: bytes) -> bool:
    """Returns whether a JPEG's end marker follows its picture; FFmpeg does not report a truncated one.

    Markers before the picture are those of previews inside its header. The picture itself never looks like a marker.
    A header that cannot be followed is left to the decoder.
    """
    start_of_scan, place = 0xDA, 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = struct.unpack(">xBH", data[place : place + 4])
        if marker == start_of_scan:
            return data.find(b"\xff\xd9", place) >= 0
        place += 1 if marker == 0xFF else 2 + length  # any number of bytes 255 may precede a marker
    return True


def _has_jpeg_in_tiff(media: Media) -> bool:
    """Returns whether a TIFF's first image is compressed as JPEG, which FFmpeg decodes to black without an error."""
    compression, jpeg = 259, (6, 7)
    try:
        with media.open("rb") as file:
            order = {b"II": "<", b"MM": ">"}[file.read(2)]
            _, first = struct.unpack(f"{order}HI", file.read(6))
            file.seek(first)
            (entries,) = struct.unpack(f"{order}H", file.read(2))
            for _ in range(entries):
                tag, _, _, value, _ = struct.unpack(f"{order}HHIHH", file.read(12))
                if tag == compression:
                    return value in jpeg
    except (KeyError, struct.error):
        pass  # damaged: decoding it says so
    return False
