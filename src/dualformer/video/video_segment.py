"""The part of a video between two times, read where it lies: a film of hours is not cut to files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.timestamps import parse_time
from dualformer.video.container import FrameCountError, VideoError
from dualformer.video.file_slices import Media, is_frame_folder, media_path
from dualformer.video.frame_reader import FrameReader
from dualformer.video.sequential_decoding import VideoInfo

_FRAGMENT = re.compile(r"(?P<film>.+)#t=(?P<start>[0-9:.]*),(?P<end>[0-9:.]+)", re.DOTALL)
_TOLERANCE = 1e-3  # as in `dualformer.video.sampling`: containers round times to a millisecond


@dataclass(frozen=True, kw_only=True)
class VideoSegment:
    """The frames of a video that are shown from ``start`` on and before ``end``, in seconds from its first frame.

    Where no frame begins between them, it is the one that is on the screen at ``start``.
    Raises ``ValueError`` for times that are negative or reversed.
    """

    file: Media
    """The video, or the pattern of a folder of frames whose rate is known."""
    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"{self}: a segment does not begin before 0, nor end before it begins")

    @property
    def path(self) -> Path:
        """Its name, after the W3C's media fragments: ``film.mp4#t=1.5,3.2``."""
        video = media_path(self.file)
        return video.with_name(f"{video.name}{self.times}")

    @property
    def times(self) -> str:
        """``#t=1.5,3.2``."""
        return f"#t={seconds_text(self.start)},{seconds_text(self.end)}"

    def __str__(self) -> str:
        return f"{self.file}{self.times}"


Footage = Media | VideoSegment
"""What a clip is read from: a file, a slice of one, or a part of its time."""


def parse_segment(path: str | Path) -> VideoSegment | None:
    """Returns the segment that ``film.mp4#t=1:05,72.5`` names; None where the end of the text is not like that, where a
    file has this very name, and where there is no such film.

    Raises ``ValueError`` for a segment that ends before it begins.
    """
    found = _FRAGMENT.fullmatch(str(path))
    if found is None or Path(path).exists():
        return None
    film = Path(found["film"])
    if not (film.is_file() or is_frame_folder(film)):
        return None
    try:
        return VideoSegment(file=film, start=parse_time(found["start"] or "0"), end=parse_time(found["end"]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def seconds_text(seconds: float) -> str:
    """Returns seconds with at most six decimals, and without zeros that say nothing."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


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
                segment.file, f"a segment begins at {seconds_text(segment.start)} s, and it lasts {length} s"
            )
        shown = frames_within(times, segment.start, segment.end)
        self._first = shown.start
        self.times: NDArray[np.float64] = times[shown] - times[shown.start]
        self._info = None

    def _describe(self) -> VideoInfo:
        film = self._film.info
        duration = len(self) / film.fps if film.fps else 0.0
        return replace(film, path=str(self._path), frames=len(self), duration=duration)
