"""Reads the frames of a video file by number and in order with torchcodec, which uses the FFmpeg of the machine.

torchcodec finds a frame by the times that it reads off the packets. Where those lead astray, as in transport streams
and behind some edit lists, it gives another frame: so each frame must come with the time that the table of packets has
for its number, or that is an error. Files whose packets do not tell their frames are refused. PyAV reads all of these.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.errors import DualFormerError
from dualformer.video.backend import DECODER_VARIABLE, import_torchcodec
from dualformer.video.container import OpenVideo, VideoError
from dualformer.video.file_slices import Media
from dualformer.video.frame_reader import FrameReader
from dualformer.video.frame_table import FrameTable, read_packets
from dualformer.video.hdr import hdr_transfer
from dualformer.video.packet_index import list_frames
from dualformer.video.sequential_decoding import VideoInfo, check_complete, first_frame, orientation, video_info

_SEEKS_BEHIND_KEY_FRAMES = {"mpegts", "mpeg"}  # and what then decodes may be garbage with the right time


class TorchcodecReader(FrameReader):
    """Gives the frames of one file as `PyAVReader` does.

    ``threads``: decoding threads, chosen as for `PyAVReader`. Raises ``FileNotFoundError``, `DecoderMissingError`
    where torchcodec cannot be imported, and :class:`VideoError` for what is no decodable video, and for what
    torchcodec does not read right: frames that it cannot number, that are mirrored, or that change in size.
    """

    def __init__(self, path: str | Media, *, threads: int | None = None) -> None:
        torchcodec = import_torchcodec()
        super().__init__(path)
        self._file: BinaryIO | None = None
        self._decoder: Any = None
        # PyAV opens it first: it refuses formats that name other files, and says what is wrong in the same words.
        video = OpenVideo(self._path, threads)
        try:
            table = self._frame_table(video)
            stream, threads = video.stream.index, video.threads
        finally:
            video.close()
        self.times: NDArray[np.float64] = table.times
        self._size = self.info.height, self.info.width
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
            self._check_agreement()
        except DualFormerError:
            self.close()
            raise
        except (RuntimeError, ValueError) as error:
            self.close()
            raise self._error(f"torchcodec does not open it ({_first_line(error)})") from error

    def close(self) -> None:
        self._decoder = None
        if self._file is not None:
            self._file.close()

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        """As `FrameReader.frames`; :class:`VideoError` also where torchcodec gives another frame."""
        for index in np.unique(self._check_numbers(indices)).tolist():
            yield index, self._frame(index)

    def _frame(self, index: int) -> Tensor:
        try:
            frame = self._decoder.get_frame_at(index)
        except DualFormerError:  # of what the file is read from
            raise
        except (RuntimeError, ValueError) as error:
            raise self._error(f"torchcodec does not decode frame {index} ({_first_line(error)})") from error
        if abs(frame.pts_seconds - self._seconds[index]) > self._near:
            at, due = frame.pts_seconds - self._seconds[0], self.times[index]
            raise self._error(f"torchcodec gives the frame at {at:.3f} s for frame {index}, which is at {due:.3f} s")
        if frame.data.shape[:2] != self._size:
            size, first = ("{1}x{0}".format(*sides) for sides in (frame.data.shape, self._size))
            raise self._error(f"its frame size changes from {first} to {size}, and torchcodec does not scale it")
        return frame.data

    def _frame_table(self, video: OpenVideo) -> FrameTable:
        if video.is_image:
            raise VideoError(self._path, "it is an image with the name of a video: name it as what it is")
        if video.container.format.name in _SEEKS_BEHIND_KEY_FRAMES:
            raise self._error("torchcodec does not find its way in MPEG transport and program streams")
        table = list_frames(video, keep=0).frames
        if table is None:
            raise self._error("its packets do not tell which frames there are, and torchcodec goes by them")
        return table

    def _describe(self) -> VideoInfo:
        """Describes the file by its first frame, as PyAV decodes it."""
        with first_frame(self._path) as (video, frame):
            if orientation(frame)[1]:
                raise self._error("its frames are to be mirrored, which torchcodec does not do")
            if transfer := hdr_transfer(frame):
                raise self._error(f"its frames are HDR ({transfer}), which torchcodec does not convert to SDR")
            return video_info(self._path, video, frame, self.times)

    def _check_agreement(self) -> None:
        """Raises :class:`VideoError` where torchcodec says something else of the file than its packets do."""
        count, rotation = len(self._decoder), round(getattr(self._decoder.metadata, "rotation", None) or 0) % 360
        if count != len(self):
            raise self._error(f"torchcodec finds {count} frames in it, and its packets are those of {len(self)}")
        if rotation != self.info.rotation:
            raise self._error(f"torchcodec turns it by {rotation} degrees, and it says {self.info.rotation}")

    def _error(self, reason: str) -> VideoError:
        return VideoError(self._path, f"{reason}; PyAV may read it ({DECODER_VARIABLE}=pyav)")


def decode_all_by_torchcodec(path: Media) -> VideoInfo:
    """Decodes every frame of a file by torchcodec, as `decode_all` does by PyAV. FFmpeg may conceal damage."""
    video = OpenVideo(path, 1)
    try:
        packets, _ = read_packets(video, keep=0)
        check_complete(video, len(packets.pts))
    finally:
        video.close()
    with TorchcodecReader(path, threads=1) as reader:
        for _ in reader:
            pass
        return reader.info


def _first_line(error: Exception) -> str:
    """Returns the first line of an error of torchcodec's, without the place in its source."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\w+, \S+:\d+, ", "", line).rstrip(". ")
