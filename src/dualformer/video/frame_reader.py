"""The base class of the readers that give the frames of a video by number, and the reader of folders of images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.video.file_slices import Media
from dualformer.video.frame_converter import FrameConverter
from dualformer.video.frame_patterns import frame_images, frame_size_error
from dualformer.video.sequential_decoding import VideoInfo, first_frame, video_info

_Self = TypeVar("_Self", bound="FrameReader")


class FrameReader(ABC):
    """Gives the frames of one video by number and in order. A context manager, which closes what is open."""

    times: NDArray[np.float64]
    """Seconds from the first frame, of every frame; of a folder of frames without a rate, their numbers."""

    def __init__(self, path: str | Media) -> None:
        self._path = Path(path) if isinstance(path, str) else path
        self._info: VideoInfo | None = None

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 (a folder keeps nothing open)
        """Closes what is open. A second time, nothing happens."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the frames that were read so far: sizes that change, HDR."""
        return ()

    @property
    def recounted(self) -> bool:
        """Whether frames turned out not to be where the packets promise them, so that they were counted instead."""
        return False

    @property
    def divisible(self) -> bool:
        """Whether frames in its middle are found without those before them, and are numbered as in all of it."""
        return True

    @property
    def kept_bytes(self) -> int:
        """The memory that it takes while it is open, for packets and frames that it has read."""
        return 0

    @property
    def info(self) -> VideoInfo:
        """What the video holds. It may take decoding the first frame, the first time it is asked for."""
        if self._info is None:
            self._info = self._describe()
        return self._info

    @abstractmethod
    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        """Yields frames by number as (number, uint8 RGB (H, W, 3)), each once, in display order, one at a time.

        Raises ``ValueError`` for a number outside the video, :class:`VideoError` where a frame does not decode.
        """

    def lazy_frames(self, indices: ArrayLike) -> Iterator[tuple[int, Callable[[], Tensor]]]:
        """As `frames`, but frames are converted when they are called, where that is apart from decoding."""
        for index, frame in self.frames(indices):
            yield index, lambda frame=frame: frame

    def read(self, indices: ArrayLike) -> Tensor:
        """Returns frames by number as uint8 RGB (n, H, W, 3), in any order, with repeats. Raises as `frames`."""
        wanted = self._check_numbers(indices)
        unique = np.unique(wanted)
        frames = self._stack_frames(unique)
        if np.array_equal(unique, wanted):
            return frames
        return frames[torch.from_numpy(np.searchsorted(unique, wanted))]

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        """Yields every frame in display order as (seconds from the first, uint8 (H, W, 3)), in constant memory."""
        for index, frame in self.frames(np.arange(len(self))):
            yield float(self.times[index]), frame

    @abstractmethod
    def _describe(self) -> VideoInfo: ...

    def _check_numbers(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Returns ``indices`` as an array. Raises ``ValueError`` for what are no numbers of the video's frames."""
        wanted, count = np.asarray(indices), len(self)
        if wanted.size == 0:
            return np.zeros(0, dtype=np.int64)
        if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
            raise ValueError("frame indices must be a list of whole numbers")
        if wanted.min() < 0 or wanted.max() >= count:
            outside = int(wanted.min() if wanted.min() < 0 else wanted.max())
            raise ValueError(f"frame {outside} is outside {self._path}, which has {count} frames, counted from 0")
        return wanted.astype(np.int64)

    def _stack_frames(self, unique: NDArray[np.int64]) -> Tensor:
        """Returns the frames of sorted, distinct numbers (n, H, W, 3), without holding a second copy of them."""
        out: Tensor | None = None
        for i, (_, frame) in enumerate(self.frames(unique)):
            if out is None:
                out = torch.empty((len(unique), *frame.shape), dtype=torch.uint8)
            out[i] = frame
        return torch.empty((0, self.info.height, self.info.width, 3), dtype=torch.uint8) if out is None else out


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
