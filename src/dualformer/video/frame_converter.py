"""Converts decoded frames to RGB: upright, of one size for the whole video."""

import logging
from collections.abc import Callable

import av
import av.video.frame
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from dualformer.video.container import VideoError, video_errors
from dualformer.video.file_slices import Media
from dualformer.video.sequential_decoding import ORIENTATION_CHANGES, orientation, orientation_in, side_data

_log = logging.getLogger("dualformer")

# From PyAV 17 the conversion starts a pool of threads unless told not to: 4 ms a frame where one thread takes 0.01, and
# pixels that are not the same every time.
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class FrameConverter:
    """Turns decoded frames of one video into uint8 RGB tensors (H, W, 3), all of the size of its first frame.

    ``declared``: stored (height, width) according to the container; ``first``: asked for the true size where a frame
    says otherwise. Calling it raises :class:`VideoError` for a frame that has another size when upright.
    """

    def __init__(self, path: Media, declared: tuple[int, int], first: Callable[[], tuple[int, int]]) -> None:
        self._path = path
        self._declared = declared
        self._first = first
        self._size: tuple[int, int] | None = None
        self._told = False
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
            if not self._told:
                self._told = True
                _log.warning(
                    "%s: frame size changes from %dx%d to %dx%d; frames are scaled to the first (said once)",
                    self._path, self._size[1], self._size[0], width, height,
                )  # fmt: skip
            height, width = self._size
        with video_errors(self._path, "a frame of it cannot be converted to RGB"):
            rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", **ONE_THREAD)
            plane = rgb.planes[0]
            rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
            return torch.from_numpy(np.ascontiguousarray(self._upright(rows.reshape(height, width, 3), frame)))

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
