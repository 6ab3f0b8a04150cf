"""Converts decoded frames to RGB: upright, of one size for the whole video."""

import logging
import multiprocessing
from collections.abc import Callable
from typing import Any

import av
import av.video.frame
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from dualformer.video.container import VideoError, video_errors
from dualformer.video.file_slices import Media
from dualformer.video.hdr import has_wide_primaries, hdr_note, hdr_transfer, to_sdr
from dualformer.video.sequential_decoding import ORIENTATION_CHANGES, orientation, orientation_in, side_data

_log = logging.getLogger("dualformer")
_told_hdr = multiprocessing.Value("b", False)  # shared with loader workers that are forked

# From PyAV 17 the conversion starts a pool of threads unless told not to: 4 ms a frame where one thread takes 0.01, and
# pixels that are not the same every time.
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class FrameConverter:
    """Turns decoded frames of one video into uint8 RGB tensors (H, W, 3) in SDR, all of the size of its first frame.

    ``declared``: stored (height, width) according to the container; ``first``: asked for the true size where a frame
    says otherwise. Calling it raises :class:`VideoError` for a frame that has another size when upright.
    """

    def __init__(self, path: Media, declared: tuple[int, int], first: Callable[[], tuple[int, int]]) -> None:
        self._path = path
        self._declared = declared
        self._first = first
        self._size: tuple[int, int] | None = None
        self._resizes = False
        self._notes: dict[str, None] = {}
        self._rotation: int | None = None
        self._orientation = (0, False)
        self._shape: tuple[int, ...] | None = None
        # One for all frames: setting it up costs more than converting a small frame.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.video.frame.VideoFrame) -> Tensor:
        height, width = frame.height, frame.width
        if self._size is None:
            self._size = self._declared if self._declared == (height, width) else self._first()
        if self._size != (height, width):
            if not self._resizes:
                self._resizes = True
                first = f"{self._size[1]}x{self._size[0]}"
                self._say(f"frame size changes from {first} to {width}x{height}; frames are scaled to the first")
            height, width = self._size
        with video_errors(self._path, "a frame of it cannot be converted to RGB"):
            picture = self._rgb(frame, height, width)
            return torch.from_numpy(np.ascontiguousarray(self._upright(picture, frame)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the frames so far."""
        return tuple(self._notes)

    def _rgb(self, frame: av.video.frame.VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
        """Returns a frame as it is stored, of 8 bits and in SDR."""
        transfer = hdr_transfer(frame)
        form, dtype, size = ("rgb24", np.uint8, 3) if transfer is None else ("rgb48le", "<u2", 6)
        rgb = self._reformatter.reformat(frame, width=width, height=height, format=form, **ONE_THREAD)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)[:height, : width * size]
        if transfer is None:
            return rows.reshape(height, width, 3)
        self._say(hdr_note(transfer), once=_told_hdr)
        codes = np.ascontiguousarray(rows).view(dtype).reshape(height, width, 3)
        return to_sdr(codes, transfer, wide=has_wide_primaries(frame))

    def _say(self, note: str, *, once: Any = None) -> None:
        """Notes and logs it, once for this video, or with ``once`` for all videos of a run."""
        if note in self._notes:
            return
        self._notes[note] = None
        if once is not None:
            with once.get_lock():
                if once.value:
                    return
                once.value = True
        _log.warning("%s: %s (said once)", self._path, note)

    def _upright(self, picture: NDArray[np.uint8], frame: av.video.frame.VideoFrame) -> NDArray[np.uint8]:
        turns, mirrored = self._orientation_of(frame)
        if mirrored:
            picture = picture[:, ::-1]
        picture = np.rot90(picture, turns) if turns else picture
        self._shape = self._shape or picture.shape
        if picture.shape != self._shape:
            raise VideoError(self._path, ORIENTATION_CHANGES)
        return picture

    def _orientation_of(self, frame: av.video.frame.VideoFrame) -> tuple[int, bool]:
        """Returns the orientation of the frame itself, so that the order of reading does not matter."""
        before, self._rotation = self._rotation, frame.rotation
        try:
            self._orientation = orientation_in(side_data(frame))
        except ValueError:
            # Looking past what this PyAV does not know takes longer than decoding many a frame, so it is done where the
            # angle changes, which says nothing of mirroring up and down.
            if self._rotation != before:
                self._orientation = orientation(frame)
        return self._orientation
