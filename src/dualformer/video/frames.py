"""A folder of numbered images, read as a video is; and what opens either."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.video.backend import Backend, chosen_backend
from dualformer.video.container import OpenVideo, VideoError
from dualformer.video.decode import VideoReader
from dualformer.video.file_pieces import Media, are_frames, path_of
from dualformer.video.formats import is_image
from dualformer.video.frame_reader_base import Reader, as_asked, checked_numbers, stacked
from dualformer.video.numbered_frames import frames_of, size_changes
from dualformer.video.pixels import Pictures
from dualformer.video.sequential import VideoInfo, decode_opened
from dualformer.video.torchcodec import TorchcodecReader


class FrameReader:
    """The frames of a folder by number, as `VideoReader` gives those of a file.

    ``pattern``: ``folder/img_%05d.jpg``. ``fps``: the rate at which the frames were taken; without it they have no
    times in seconds, and ``times`` counts frames. Raises ``FileNotFoundError`` and :class:`VideoError`.
    """

    def __init__(self, pattern: str | Media, *, fps: float | None = None) -> None:
        if fps is not None and not fps > 0:
            raise ValueError(f"fps must be positive, not {fps}")
        self._pattern = Path(pattern) if isinstance(pattern, str) else pattern
        self._files: Sequence[Media] = frames_of(self._pattern)
        self._fps = fps
        self._first: VideoInfo | None = None
        self.times: NDArray[np.float64] = np.arange(len(self._files)) / (fps or 1.0)

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open: each frame is a file of its own."""

    def __len__(self) -> int:
        return len(self._files)

    @property
    def info(self) -> VideoInfo:
        """Decodes the first frame, the first time it is asked for."""
        if self._first is None:
            with VideoReader(self._files[0], threads=1) as reader:
                self._first = reader.info
        first, fps = self._first, self._fps or 0.0
        return VideoInfo(
            path=str(self._pattern),
            frames=len(self),
            fps=fps,
            width=first.width,
            height=first.height,
            duration=len(self) / fps if fps else 0.0,
            codec=first.codec,
            pixel_format=first.pixel_format,
            rotation=first.rotation,
        )

    def read(self, indices: ArrayLike) -> Tensor:
        """Frames by number as uint8 RGB (n, H, W, 3), in any order, with repeats; each image is decoded once."""
        wanted = checked_numbers(indices, len(self), self._pattern)
        unique = np.unique(wanted)
        out = stacked(self.frames(unique), len(unique))
        if out is None:
            return torch.empty((0, self.info.height, self.info.width, 3), dtype=torch.uint8)
        return as_asked(out, unique, wanted)

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        """The same one by one: (number, uint8 (H, W, 3)), each once, in order, holding one frame at a time."""
        first: tuple[int, int] | None = None
        for index in np.unique(checked_numbers(indices, len(self), self._pattern)).tolist():
            file = self._files[index]
            # Not by a VideoReader, whose table of packets takes longer than decoding an image.
            video = OpenVideo(file, 1)
            decoded = decode_opened(video)
            try:
                frame = next(decoded)
                size = (frame.height, frame.width)
                picture = Pictures(file, size, lambda size=size: size)(frame)
            finally:
                decoded.close()
                video.close()
            size = (picture.shape[1], picture.shape[0])
            first = size if first is None else first
            if size != first:
                raise size_changes(self._pattern, file, size, first)
            yield index, picture


def open_video(
    path: str | Media,
    *,
    threads: int | None = None,
    fps: float | None = None,
    clock: bool = False,
    backend: Backend | None = None,
) -> Reader:
    """A reader of a video or image file, or of a folder of frames where ``path`` is a pattern.

    ``fps``: the rate of a folder of frames. ``clock``: times in seconds are needed; :class:`VideoError` where a folder
    of frames has no rate. ``backend``: what decodes videos, None for what ``DUALFORMER_DECODER`` says; images are read
    by PyAV whatever it is.
    """
    backend = backend or chosen_backend()
    path = Path(path) if isinstance(path, str) else path
    if are_frames(path):
        if clock and fps is None:
            reason = "a folder of frames does not tell its rate, which --fps needs: say it with the data, as fps=25"
            raise VideoError(path, reason)
        return FrameReader(path, fps=fps)
    if backend == "pyav" or is_image(path_of(path)):
        return VideoReader(path, threads=threads)
    return TorchcodecReader(path, threads=threads)
