"""Frames of a video file, by number and in order, decoded by torchcodec with the FFmpeg of the machine.

torchcodec finds a frame by the times that it reads off the packets. Where those lead astray, as in transport streams
and behind some edit lists, it gives another frame: so each frame must come with the time that the table of packets has
for its number, or that is an error. Files whose packets do not tell their frames are refused. PyAV reads all of these.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import av.video.frame
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.errors import DualFormerError
from dualformer.video.backend import VARIABLE, import_torchcodec
from dualformer.video.container import OpenVideo, VideoError
from dualformer.video.file_pieces import Media
from dualformer.video.frame_reader_base import as_asked, checked_numbers, stacked
from dualformer.video.packets import Table, scan, tabulate
from dualformer.video.sequential import VideoInfo, decode_opened, describe, orientation, refuse_if_cut

_SEEKS_BEHIND_KEY_FRAMES = {"mpegts", "mpeg"}  # and what then decodes may be garbage with the right time


class TorchcodecReader:
    """Random and sequential access to the frames of one file, as `VideoReader` gives it. A context manager.

    ``threads``: decoding threads, chosen as for `VideoReader`. Raises ``FileNotFoundError``, `DecoderMissingError`
    where torchcodec cannot be imported, and :class:`VideoError` for what is no decodable video, and for what
    torchcodec does not read right: frames that it cannot number, that are mirrored, or that change in size.
    """

    def __init__(self, path: str | Media, *, threads: int | None = None) -> None:
        torchcodec = import_torchcodec()
        self._path = Path(path) if isinstance(path, str) else path
        self._file: BinaryIO | None = None
        self._decoder: Any = None
        # PyAV opens it first: it refuses formats that name other files, and says what is wrong in the same words.
        video = OpenVideo(self._path, threads)
        try:
            table = self._tabulated(video)
            stream, threads = video.stream.index, video.threads
        finally:
            video.close()
        self.times: NDArray[np.float64] = table.times
        self._info = self._described()
        self._seconds = table.pts * table.tick
        self._near = 0.25 * table.tick
        try:
            if isinstance(self._path, Path):
                source = f"file:{self._path}"  # or a name with a colon would be read as a protocol
            else:
                source = self._file = self._path.open()
            self._decoder = torchcodec.decoders.VideoDecoder(
                source,
                stream_index=stream,
                dimension_order="NHWC",
                num_ffmpeg_threads=threads,
                device="cpu",
                seek_mode="exact",
            )
            self._compare()
        except DualFormerError:
            self.close()
            raise
        except (RuntimeError, ValueError) as error:
            self.close()
            raise self._refused(f"torchcodec does not open it ({_said(error)})") from error

    def __enter__(self) -> "TorchcodecReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._decoder = None
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def info(self) -> VideoInfo:
        return self._info

    def read(self, indices: ArrayLike) -> Tensor:
        """Frames by number as uint8 RGB (n, H, W, 3), in any order, with repeats; one pass over the file.

        Raises ``ValueError`` for a number outside the video, :class:`VideoError` where a frame does not decode, or
        another one does.
        """
        wanted = checked_numbers(indices, len(self), self._path)
        unique = np.unique(wanted)
        out = stacked(self.frames(unique), len(unique))
        if out is None:
            return torch.empty((0, self.info.height, self.info.width, 3), dtype=torch.uint8)
        return as_asked(out, unique, wanted)

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        """The same one by one: (number, uint8 (H, W, 3)), each once, in display order, holding one frame at a time."""
        for index in np.unique(checked_numbers(indices, len(self), self._path)).tolist():
            yield index, self._frame(index)

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        """Every frame in display order as (seconds from the first, uint8 (H, W, 3)), in constant memory."""
        for index, seconds in enumerate(self.times.tolist()):
            yield seconds, self._frame(index)

    def _frame(self, index: int) -> Tensor:
        try:
            frame = self._decoder.get_frame_at(index)
        except DualFormerError:  # of what the file is read from
            raise
        except (RuntimeError, ValueError) as error:
            raise self._refused(f"torchcodec does not decode frame {index} ({_said(error)})") from error
        if abs(frame.pts_seconds - self._seconds[index]) > self._near:
            at, due = frame.pts_seconds - self._seconds[0], self.times[index]
            raise self._refused(f"torchcodec gives the frame at {at:.3f} s for frame {index}, which is at {due:.3f} s")
        height, width = frame.data.shape[:2]
        if (height, width) != (self._info.height, self._info.width):
            size, first = f"{width}x{height}", f"{self._info.width}x{self._info.height}"
            raise self._refused(f"its frame size changes from {first} to {size}, and torchcodec does not scale it")
        return frame.data

    def _tabulated(self, video: OpenVideo) -> Table:
        if video.is_image:
            raise VideoError(self._path, "it is an image with the name of a video: name it as what it is")
        if video.container.format.name in _SEEKS_BEHIND_KEY_FRAMES:
            raise self._refused("torchcodec does not find its way in MPEG transport and program streams")
        packets, _ = scan(video, keep=0)
        table = tabulate(packets, video)
        if table is None:
            raise self._refused("its packets do not tell which frames there are, and torchcodec goes by them")
        return table

    def _described(self) -> VideoInfo:
        """By the first frame, as PyAV decodes it."""
        video = OpenVideo(self._path, 1)
        decoded = decode_opened(video)
        try:
            return self._described_by(next(decoded), video)
        finally:
            decoded.close()
            video.close()

    def _described_by(self, frame: av.video.frame.VideoFrame, video: OpenVideo) -> VideoInfo:
        if orientation(frame)[1]:
            raise self._refused("its frames are to be mirrored, which torchcodec does not do")
        return describe(self._path, video, frame, self.times)

    def _compare(self) -> None:
        """What torchcodec says of the file is what its packets say."""
        count, rotation = len(self._decoder), round(getattr(self._decoder.metadata, "rotation", None) or 0) % 360
        if count != len(self):
            raise self._refused(f"torchcodec finds {count} frames in it, and its packets are those of {len(self)}")
        if rotation != self._info.rotation:
            raise self._refused(f"torchcodec turns it by {rotation} degrees, and it says {self._info.rotation}")

    def _refused(self, reason: str) -> VideoError:
        return VideoError(self._path, f"{reason}; PyAV may read it ({VARIABLE}=pyav)")


def decode_all_by_torchcodec(path: Media) -> VideoInfo:
    """What `decode_all` is to PyAV: every frame of a file is decoded. Damage that FFmpeg conceals is not told."""
    video = OpenVideo(path, 1)
    try:
        packets, _ = scan(video, keep=0)
        refuse_if_cut(video, len(packets.pts))
    finally:
        video.close()
    with TorchcodecReader(path, threads=1) as reader:
        for _ in reader:
            pass
        return reader.info


def _said(error: Exception) -> str:
    """The first line of an error of torchcodec's, without the place in its source."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\w+, \S+:\d+, ", "", line).rstrip(". ")
