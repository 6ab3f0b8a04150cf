"""What every reader of frames is, whatever decodes and wherever the frames lie."""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.video.file_pieces import Media
from dualformer.video.sequential import VideoInfo


class Reader(Protocol):
    """The frames of one video by number. A context manager."""

    times: NDArray[np.float64]
    """Seconds from the first frame, of every frame; of a folder of frames without a rate, their numbers."""

    def __enter__(self) -> "Reader": ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __len__(self) -> int: ...

    @property
    def info(self) -> VideoInfo: ...

    def read(self, indices: ArrayLike) -> Tensor:
        """Frames by number as uint8 RGB (n, H, W, 3), in any order, with repeats."""
        ...

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        """The same one by one: (number, uint8 (H, W, 3)), each once, in display order."""
        ...


def checked_numbers(indices: ArrayLike, count: int, path: str | Media) -> NDArray[np.int64]:
    """``indices`` as an array; ``ValueError`` for what are no numbers of a video's ``count`` frames."""
    wanted = np.asarray(indices)
    if wanted.size == 0:
        return np.zeros(0, dtype=np.int64)
    if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
        raise ValueError("frame indices must be a list of whole numbers")
    if wanted.min() < 0 or wanted.max() >= count:
        outside = int(wanted.min() if wanted.min() < 0 else wanted.max())
        raise ValueError(f"frame {outside} is outside {path}, which has {count} frames, counted from 0")
    return wanted.astype(np.int64)


def stacked(frames: Iterator[tuple[int, Tensor]], count: int) -> Tensor | None:
    """``count`` frames one behind the other (n, H, W, 3), holding no second copy of them; None of none."""
    out: Tensor | None = None
    for i, (_, frame) in enumerate(frames):
        if out is None:
            out = torch.empty((count, *frame.shape), dtype=torch.uint8)
        out[i] = frame
    return out


def as_asked(frames: Tensor, unique: NDArray[np.int64], wanted: NDArray[np.int64]) -> Tensor:
    """The frames of the sorted numbers ``unique`` in the order of ``wanted``, with its repeats."""
    if np.array_equal(unique, wanted):
        return frames
    return frames[torch.from_numpy(np.searchsorted(unique, wanted))]
