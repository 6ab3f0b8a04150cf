"""Reads a folder of numbered images as a video is read."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.video.file_slices import Media
from dualformer.video.frame_converter import FrameConverter
from dualformer.video.frame_patterns import frame_images, frame_size_error
from dualformer.video.frame_reader import FrameReader
from dualformer.video.sequential_decoding import VideoInfo, first_frame, video_info


class FrameFolderReader(FrameReader):
    """Gives the frames of a folder by number. Nothing stays open: each frame is a file of its own.

    ``pattern``: ``folder/img_%05d.jpg``. ``fps``: the rate at which the frames were taken; without it they have no
    times in seconds, and ``times`` counts frames. Raises ``FileNotFoundError`` and :class:`VideoError`.
    """

    def __init__(self, pattern: str | Media, *, fps: float | None = None) -> None:
        if fps is not None and not fps > 0:
            raise ValueError(f"fps must be positive, not {fps}")
        super().__init__(pattern)
        self._files: Sequence[Media] = frame_images(self._path)
        self._fps = fps
        self.times: NDArray[np.float64] = np.arange(len(self._files)) / (fps or 1.0)

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        first: tuple[int, int] | None = None
        for index in np.unique(self._check_numbers(indices)).tolist():
            file = self._files[index]
            # Not by a PyAVReader, whose table of packets takes longer than decoding an image.
            with first_frame(file) as (_, frame):
                size = (frame.height, frame.width)
                picture = FrameConverter(file, size, lambda size=size: size)(frame)
            size = (picture.shape[1], picture.shape[0])
            first = size if first is None else first
            if size != first:
                raise frame_size_error(self._path, file, size, first)
            yield index, picture

    def _describe(self) -> VideoInfo:
        with first_frame(self._files[0]) as (video, frame):
            first = video_info(self._files[0], video, frame, np.zeros(1))
        fps = self._fps or 0.0
        return replace(first, path=str(self._path), frames=len(self), fps=fps, duration=len(self) / fps if fps else 0.0)
