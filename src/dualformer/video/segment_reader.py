"""Reads the frames of a segment of a video from a reader of the whole."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.video.container import FrameCountError, VideoError
from dualformer.video.frame_reader import FrameReader
from dualformer.video.sequential_decoding import VideoInfo
from dualformer.video.video_segment import VideoSegment, seconds_text

_TOLERANCE = 1e-3  # as in `dualformer.video.sampling`: containers round times to a millisecond


def frames_within(times: NDArray[np.float64], start: float, end: float) -> slice:
    """Returns which frames, at ``times`` in seconds, are shown from ``start`` on and before ``end``; at least one."""
    first = int(np.searchsorted(times, start - _TOLERANCE))
    last = int(np.searchsorted(times, end - _TOLERANCE))
    if first < last:
        return slice(first, last)
    shown = max(0, int(np.searchsorted(times, start + _TOLERANCE, side="right")) - 1)
    return slice(shown, shown + 1)


class SegmentReader(FrameReader):
    """Gives the frames of a segment by number, counted from its first; their times begin at 0.

    ``film``: a reader of the whole video, which is closed with this one.
    Raises :class:`VideoError` for a segment that begins behind the last frame.
    """

    def __init__(self, segment: VideoSegment, film: FrameReader) -> None:
        super().__init__(segment.path)
        self._segment, self._film = segment, film
        try:
            self._find_frames()
        except BaseException:
            film.close()
            raise

    def close(self) -> None:
        self._film.close()

    @property
    def notes(self) -> tuple[str, ...]:
        return self._film.notes

    @property
    def recounted(self) -> bool:
        return self._film.recounted

    @property
    def divisible(self) -> bool:
        return self._film.divisible

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        """As `FrameReader.frames`. Raises ``FrameCountError`` as `PyAVReader.frames`."""
        first = self._first
        try:
            for index, frame in self._film.frames(self._check_numbers(indices) + first):
                yield index - first, frame
        except FrameCountError:
            self._find_frames()
            raise

    def _find_frames(self) -> None:
        times, segment = self._film.times, self._segment
        last = float(times[-1])
        apart = last / (len(times) - 1) if len(times) > 1 else 0.0
        if segment.start > last + apart + _TOLERANCE:
            length = seconds_text(round(last + apart, 3))
            raise VideoError(
                segment.file, f"a segment begins at {seconds_text(segment.start)} s, and the video lasts {length} s"
            )
        shown = frames_within(times, segment.start, segment.end)
        self._first = shown.start
        self.times: NDArray[np.float64] = times[shown] - times[shown.start]
        self._info = None

    def _describe(self) -> VideoInfo:
        film = self._film.info
        duration = len(self) / film.fps if film.fps else 0.0
        return replace(film, path=str(self._path), frames=len(self), duration=duration)
