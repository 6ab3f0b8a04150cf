"""Reads the clip that is explained: the view for the network, and the whole frames around it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.remote_paths import RemotePath
from dualformer.video.clip_reader import warn_if_short
from dualformer.video.container import FrameCountError
from dualformer.video.file_slices import is_frame_folder
from dualformer.video.frame_reader import FrameReader
from dualformer.video.memory_frames import MemoryFrames
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import clip_at, even_clips
from dualformer.video.transforms import crop_views, cut_long, pad_to_square, resize, resize_frames
from dualformer.video.video_segment import Footage, VideoSegment
from dualformer.video.video_source import resolve_source

SHOWN_SIDE, SHOWN_MOST = 288, 640
"""Short side in pixels at which frames are drawn, small ones enlarged to be readable, and the longest other side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownClip:
    """One clip of a video: the view that goes into the network, and the frames to draw."""

    view: Tensor
    """uint8 (T, crop, crop, 3): what goes into the network."""
    frames: NDArray[np.uint8]
    """(T, H, W, 3): the same frames whole, at a size to be drawn at."""
    box: tuple[int, int, int, int]
    """Top, left, height and width of the view within ``frames``."""
    numbers: NDArray[np.int64]
    """(T,): which frames of the video these are; the last one repeats where the video is too short."""
    times: NDArray[np.float64] | None
    """(T,): seconds from the first frame of the video; None where the rate is not known."""


@dataclass(frozen=True, kw_only=True)
class ClipChoice:
    """Which clip of a video: the one in the middle, clip ``number`` (from 0) of ``count`` even ones, or the one whose
    middle is nearest to ``seconds``. Errors: ``ValueError`` for two of these at once and for a number out of range."""

    number: int | None = None
    count: int = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.number is not None and self.seconds is not None:
            raise ValueError("clip and at both choose a clip: give one of them")
        if self.number is not None and not 0 <= self.number < self.count:
            raise ValueError(f"clip {self.number} is none of the {self.count} that are looked at, counted from 0")

    def choose(self, times: NDArray[np.float64], pre: Preprocessing) -> NDArray[np.int64]:
        """Returns frame indices (T,)."""
        if self.seconds is not None:
            return clip_at(times, pre, self.seconds)
        return even_clips(times, pre, 1)[0] if self.number is None else even_clips(times, pre, self.count)[self.number]


def read_shown_clip(
    path: str | Footage | MemoryFrames, pre: Preprocessing, choice: ClipChoice, *, fps: float | None = None
) -> ShownClip:
    """Reads the clip of a video, decoded as `read_views` does. ``path`` and ``fps`` are those of `open_video`.

    Errors: those of opening and decoding it; ``ValueError`` where seconds are needed and the rate is not known.
    """
    path = resolve_source(path) if isinstance(path, (str, RemotePath)) else path
    if isinstance(path, MemoryFrames):
        counted = path.fps is None
        if counted and (pre.fps is not None or choice.seconds is not None):
            raise ValueError("say with fps= how many frames a second these are: the weights, or at=, count in seconds")
    else:
        # A folder of frames does not tell when they were taken.
        counted = fps is None and not isinstance(path, VideoSegment) and is_frame_folder(path)
    if counted and choice.seconds is not None:
        raise ValueError(f"{path}: a folder of frames has no seconds, which at= needs: choose a clip by its number")
    with open_video(path, fps=fps, clock=pre.fps is not None) as reader:
        try:
            return _cut(path, reader, pre, choice, timed=not counted)
        except FrameCountError:
            return _cut(path, reader, pre, choice, timed=not counted)  # the reader has counted its frames meanwhile


def _cut(
    path: Footage | MemoryFrames, reader: FrameReader, pre: Preprocessing, choice: ClipChoice, *, timed: bool
) -> ShownClip:
    warn_if_short(path, reader.times, pre)
    numbers = choice.choose(reader.times, pre)
    unique, places = np.unique(numbers, return_inverse=True)
    small, shown = [], []
    for _, frame in reader.frames(unique):  # one by one: the frames of a large video do not lie in memory together
        small.append(resize_frames(frame[None], pre)[0])
        shown.append(_drawing_size(frame[None], pre)[0])
    order = torch.from_numpy(places.reshape(-1))
    times = reader.times if timed else None
    return _clip(torch.stack(small)[order], torch.stack(shown)[order], pre, numbers, times)


def _clip(
    small: Tensor, shown: Tensor, pre: Preprocessing, numbers: NDArray[np.int64], times: NDArray[np.float64] | None
) -> ShownClip:
    view = crop_views(small, pre)[0]
    # The centre crop of crop_views, in the pixels of the frames as they are drawn.
    height, width = small.shape[1:3]
    top, left = (height - pre.crop) // 2, (width - pre.crop) // 2
    down, across = shown.shape[1] / height, shown.shape[2] / width
    row, column = round(top * down), round(left * across)
    end_row, end_column = round((top + pre.crop) * down), round((left + pre.crop) * across)
    return ShownClip(
        view=view,
        frames=shown.numpy(),
        box=(row, column, end_row - row, end_column - column),
        numbers=numbers,
        times=None if times is None else times[numbers],
    )


def _drawing_size(frames: Tensor, pre: Preprocessing) -> Tensor:
    """Resizes frames (n, H, W, 3) to the size at which they are drawn, padded where the network sees them so."""
    frames = cut_long(frames)
    if pre.crop_mode == "pad":
        frames = pad_to_square(frames, pre)
    height, width = frames.shape[1:3]
    scale = min(SHOWN_SIDE / min(height, width), SHOWN_MOST / max(height, width))
    return resize(frames, max(1, round(height * scale)), max(1, round(width * scale)))
