"""Chooses the frames of a video that make a clip, by their times alone.

Two modes, told apart by ``Preprocessing.fps``. None: a clip is every ``stride``-th frame of the file. A number: a clock
ticks at ``fps``, a clip is every ``stride``-th tick, and a tick shows the frame that is on the screen at that moment.
With ``Preprocessing.sampling`` "segments", a video of at most twice a clip's length is cut into T equal parts, and a
clip has a frame of each (as in TSN, ECCV 2016), so that it shows an action whole, however long that takes.

A clip that is longer than its video starts at 0. Its last frame is repeated, or the video is shown again from its start
where ``Preprocessing.short_video`` is "loop".
"""

from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualformer.video.preprocessing import Preprocessing

# Containers such as Matroska round times to a millisecond: a frame that is due within it counts as shown.
_TOLERANCE = 1e-3


def is_short(times: ArrayLike, pre: Preprocessing) -> bool:
    """Returns whether the video is shorter than a clip, so that frames of it are repeated."""
    times = _checked(times)
    return not _shown_whole(times, pre) and _room(times, pre) < 0


def random_clip(times: ArrayLike, pre: Preprocessing, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns frame indices (T,) of a clip whose start is uniform over all places where a clip fits, or with a frame
    drawn from each segment.

    ``times``: seconds of every frame, increasing.
    """
    times = _checked(times)
    if _shown_whole(times, pre):
        return _of_segments(times, rng.random(pre.frames))
    room = _room(times, pre)
    if pre.fps is None:
        start = int(rng.integers(int(room) + 1)) if room >= 0 else 0
        return _indices(times, pre, float(start))
    # The last frame stays on the screen for one more interval, so a start may fall inside it as inside any other.
    # The tolerance is added to every tick later.
    start = float(rng.uniform(0, room + _interval(times))) - _TOLERANCE if room >= 0 else 0.0
    return _indices(times, pre, start)


def even_clips(times: ArrayLike, pre: Preprocessing, clips: int) -> NDArray[np.int64]:
    """Returns frame indices (clips, T) of clips spread evenly over the places where a clip fits.

    Clip i of n starts at i/(n-1) of the way from the first to the last place, rounded to the nearest frame with halves
    up; a single clip lies in the centre, rounded down. The clips differ from one another whenever there are at least
    that many places. With ``Preprocessing.placement`` "middles" it starts at (i + 1/2)/n of the way, rounded down. Of
    segments, clip i takes what is (i + 1/2)/n through each.
    """
    if clips < 1:
        raise ValueError(f"clips must be at least 1, not {clips}")
    times = _checked(times)
    if _shown_whole(times, pre):
        return np.stack([_of_segments(times, np.full(pre.frames, (i + 0.5) / clips)) for i in range(clips)])
    if pre.placement == "middles":
        places = _places(times, pre)
        starts = [(i + 0.5) * places / clips for i in range(clips)]
        return np.stack([_indices(times, pre, start) for start in starts])
    room = max(0, _room(times, pre))
    if pre.fps is None:
        if clips == 1:
            starts = [room // 2]
        else:
            starts = [(2 * i * int(room) + clips - 1) // (2 * (clips - 1)) for i in range(clips)]
    else:
        starts = [room / 2] if clips == 1 else [i * room / (clips - 1) for i in range(clips)]
    return np.stack([_indices(times, pre, float(start)) for start in starts])


def clip_at(times: ArrayLike, pre: Preprocessing, seconds: float) -> NDArray[np.int64]:
    """Returns frame indices (T,) of the clip whose middle is nearest to ``seconds`` from the first frame.

    Near the ends of the video it is the first or the last clip that fits; of segments it shows the whole video. Raises
    ``ValueError`` outside the video.
    """
    times = _checked(times)
    length = float(times[-1] - times[0]) + _interval(times)
    if not 0 <= seconds <= length + _TOLERANCE:
        raise ValueError(f"second {seconds:g} is outside the video, which lasts {length:.2f} s")
    if _shown_whole(times, pre):
        return _of_segments(times, np.full(pre.frames, 0.5))
    steps = (pre.frames - 1) * pre.stride
    if pre.fps is None:
        shown = int(np.searchsorted(times, times[0] + seconds + _TOLERANCE, side="right")) - 1
        start = float(shown - steps // 2)
    else:
        start = seconds - steps / pre.fps / 2
    return _indices(times, pre, min(max(0.0, start), max(0.0, _room(times, pre))))


def covering_clips(times: ArrayLike, pre: Preprocessing) -> NDArray[np.int64]:
    """Returns frame indices (clips, T) of the fewest evenly spread clips that cover the video.

    Gaps between clips and at the ends are no longer than the interval between two frames of a clip.
    """
    times = _checked(times)
    if _shown_whole(times, pre):
        return even_clips(times, pre, 1)
    step = pre.stride / (pre.fps or 1)
    room = _room(times, pre)
    return even_clips(times, replace(pre, placement="ends"), 1 if room < step else 1 + ceil(room / (pre.frames * step)))


def filled(numbers: ArrayLike, count: int, pre: Preprocessing) -> NDArray[np.int64]:
    """Returns frame numbers (T,) from 0, of which those from ``count`` on, the end of the video, are made others: the
    last frame, or where ``pre`` loops short videos the video's from its start."""
    numbers = np.asarray(numbers, dtype=np.int64)
    return numbers % count if pre.short_video == "loop" else np.minimum(numbers, count - 1)


def _checked(times: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(times, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError("times must be a list of at least one frame time in seconds")
    return array


def _shown_whole(times: NDArray[np.float64], pre: Preprocessing) -> bool:
    """Returns whether the clips of a video have a frame of each of its segments."""
    if pre.sampling != "segments":
        return False
    longest = 2 * pre.frames * pre.stride
    if pre.fps is None:
        return len(times) <= longest
    return float(times[-1] - times[0]) + _interval(times) <= longest / pre.fps + _TOLERANCE


def _of_segments(times: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns frame indices (T,): what is shown at ``positions`` (T,), from 0 to 1, in as many equal parts."""
    length = float(times[-1] - times[0]) + _interval(times)
    moments = times[0] + (np.arange(len(positions)) + positions) * length / len(positions)
    return np.clip(np.searchsorted(times, moments + _TOLERANCE, side="right") - 1, 0, len(times) - 1).astype(np.int64)


def _room(times: NDArray[np.float64], pre: Preprocessing) -> float:
    """Returns how far a clip can be shifted: in frames, or in seconds with ``fps``. Negative: it does not fit."""
    steps = (pre.frames - 1) * pre.stride
    if pre.fps is None:
        return len(times) - 1 - steps
    room = float(times[-1] - times[0]) - steps / pre.fps
    return 0.0 if abs(room) <= _TOLERANCE else room


def _places(times: NDArray[np.float64], pre: Preprocessing) -> float:
    """Returns how many places a clip has, in frames, or in seconds with ``fps``; 0 where it does not fit. As in the
    release, the clip lasts until the frame after its last one would be taken."""
    if pre.fps is None:
        return max(0, len(times) - pre.frames * pre.stride + 1)
    return max(0.0, float(times[-1] - times[0]) + _interval(times) - pre.frames * pre.stride / pre.fps)


def _interval(times: NDArray[np.float64]) -> float:
    return float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0


def _indices(times: NDArray[np.float64], pre: Preprocessing, start: float) -> NDArray[np.int64]:
    steps = np.arange(pre.frames) * pre.stride
    if pre.fps is None:
        return filled(int(start) + steps, len(times), pre)
    ticks = start + steps / pre.fps + _TOLERANCE
    if pre.short_video == "loop" and (length := float(times[-1] - times[0]) + _interval(times)):
        ticks = ticks % length
    shown = np.searchsorted(times, times[0] + ticks, side="right") - 1
    return filled(np.maximum(shown, 0), len(times), pre)
