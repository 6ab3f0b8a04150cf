"""Plays a video from its first frame to its last, once, in constant memory: for long videos.

`PyAVReader` lists all packets before it decodes a frame. `Playback` gives the same frames and times without the list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from torch import Tensor

from dualformer.remote_paths import RemotePath
from dualformer.video.backend import chosen_backend
from dualformer.video.container import OpenVideo
from dualformer.video.file_formats import is_image
from dualformer.video.file_slices import is_frame_folder, media_path
from dualformer.video.frame_converter import FrameConverter
from dualformer.video.memory_frames import MemoryFrames
from dualformer.video.open_video import open_video
from dualformer.video.sequential_decoding import decode_frames, first_frame_size
from dualformer.video.video_segment import Footage, VideoSegment
from dualformer.video.video_source import resolve_source

LazyFrame = Callable[[], Tensor]
"""Converts a decoded frame to uint8 RGB (H, W, 3) when it is called."""

_USUAL_RATE = 25.0


class FrameClock:
    """Gives the seconds of frames in order: by their own times as long as those rise, from then on by the frame rate.

    ``tick``: seconds of a unit of ``pts``. ``rate``: frames a second, 0 where it is not known.
    """

    def __init__(self, tick: float, rate: float) -> None:
        self._tick, self._step = tick, 1 / (rate or _USUAL_RATE)
        self._first: int | None = None
        self._last: int | None = None
        self._counting = tick <= 0
        self.seconds = -self._step
        """Seconds from the first frame to the last one that was given."""

    def __call__(self, pts: int | None) -> float:
        """Returns the seconds of the next frame."""
        self._counting = self._counting or pts is None or (self._last is not None and pts <= self._last)
        if self._counting or pts is None:
            self.seconds += self._step
        else:
            self._first = pts if self._first is None else self._first
            self._last = pts
            self.seconds = (pts - self._first) * self._tick
        return self.seconds


class Playback:
    """Iterates over the frames of what `open_video` takes. A context manager.

    ``fps``: the rate of a folder of frames; ``clock``: times in seconds are needed, as in `open_video`.
    Raises ``FileNotFoundError``, and ``VideoError`` for what is no video; iterating raises ``VideoError`` where a frame
    does not decode, after those before it.
    """

    def __init__(self, path: str | Footage | MemoryFrames, *, fps: float | None = None, clock: bool = False) -> None:
        path = resolve_source(path) if isinstance(path, (str, RemotePath)) else path
        self._video: OpenVideo | None = None
        self._reader = None
        if (
            isinstance(path, (MemoryFrames, VideoSegment))
            or is_frame_folder(path)
            or (chosen_backend() != "pyav" and not is_image(media_path(path)))
        ):
            self._reader = open_video(path, fps=fps, clock=clock)
            self.duration: float | None = float(self._reader.times[-1])
            self.rate = (len(self._reader) - 1) / self.duration if self.duration else 0.0
            return
        self._path = path
        self._video = OpenVideo(path, None)
        length = self._video.container.duration
        self.duration = length / 1e6 if length else None
        """Approximate seconds, for progress displays; None where the file does not say."""
        stream = self._video.stream
        self.rate = 0.0 if self._video.is_image else float(stream.average_rate or stream.guessed_rate or 0)
        """Frames a second, as the file says; 0 where it does not."""

    def __enter__(self) -> Playback:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._video is not None:
            self._video.close()

    def __iter__(self) -> Iterator[tuple[float, LazyFrame]]:
        """Yields (seconds from the first frame, `LazyFrame`) of every frame in display order, once."""
        if self._reader is not None:
            for index, frame in self._reader.frames(np.arange(len(self._reader))):
                yield float(self._reader.times[index]), lambda frame=frame: frame
            return
        assert self._video is not None
        video = self._video
        pictures = FrameConverter(self._path, video.declared_size, partial(first_frame_size, self._path))
        # AVI stores no display times: those of reordered frames are made up.
        made_up = video.container.format.name == "avi" and video.codec.has_b_frames
        clock = FrameClock(0.0 if made_up else float(video.stream.time_base or 0), self.rate)
        for frame in decode_frames(video):
            yield clock(frame.pts), partial(pictures, frame)


def last_interval(first: float, last: float, frames: int) -> float:
    """Returns the seconds for which the last of ``frames`` frames is shown: the mean of the others."""
    return (last - first) / (frames - 1) if frames > 1 and math.isfinite(last) else 0.0
