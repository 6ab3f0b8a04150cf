"""Reads several numbers of views of a video in one pass: a sweep over views costs little more than one of them."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.video.clip_reader import Views, notes_of, read_noted_views, warn_if_short
from dualformer.video.container import FrameCountError
from dualformer.video.frame_reader import FrameReader
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import Placement, Preprocessing
from dualformer.video.sampling import even_clips
from dualformer.video.transforms import crop_views, resize_frames
from dualformer.video.video_segment import Footage


class ViewSweep(NamedTuple):
    """The views of one video."""

    views: Tensor
    """uint8 (V, T, crop, crop, 3): every view that is needed, once."""
    places: tuple[NDArray[np.int64], ...]
    """For each of the numbers of views, which of ``views`` they are, in the order of `read_views`."""
    notes: tuple[str, ...] = ()
    """As those of `NotedViews`."""


def read_view_sweep(
    path: str | Footage, pre: Preprocessing, views: Sequence[Views], *, fps: float | None = None
) -> ViewSweep:
    """Reads what `read_views` gives for each of ``views``, to the bit, in one pass over the file."""
    if len(views) == 1:
        read, notes = read_noted_views(path, pre, views[0], fps=fps)
        return ViewSweep(read, (np.arange(len(read)),), notes)
    with open_video(path, fps=fps, clock=pre.fps is not None) as reader:
        try:
            return _read(path, reader, pre, views)
        except FrameCountError:
            return _read(path, reader, pre, views)  # the reader has counted its frames meanwhile


def needed_views(views: Iterable[Views], placement: Placement = "ends") -> int:
    """Returns how many views of a long video all of ``views`` take together; of a short one more coincide.

    Clips coincide that lie equally far along the video: from end to end those of 2x1 are the first and the last of 4x1,
    in the middles of segments that of 1x1 is the second of 3x1. From end to end the single clip has a rule of its own.
    """
    return len(
        {(place, crop) for each in views for place in _places_along(each.clips, placement) for crop in _crops(each)}
    )


def cheap_views(views: Views, placement: Placement = "ends") -> tuple[Views, ...]:
    """Returns ``views`` and those with fewer clips that lie within them, and the single clip, which take few more."""
    own = set(_places_along(views.clips, placement))
    nested = [count for count in range(2, views.clips) if own.issuperset(_places_along(count, placement))]
    crops = (1, views.crops) if views.crops > 1 else (1,)
    return tuple(Views(clips, crop) for crop in crops for clips in sorted({1, *nested, views.clips}))


def _read(path: str | Footage, reader: FrameReader, pre: Preprocessing, views: Sequence[Views]) -> ViewSweep:
    warn_if_short(path, reader.times, pre)
    clips = {count: even_clips(reader.times, pre, count) for count in {each.clips for each in views}}
    numbers = np.unique(np.concatenate([each.reshape(-1) for each in clips.values()]))
    # One by one: the frames of a large video do not lie in memory together.
    small = torch.cat([resize_frames(frame[None], pre) for _, frame in reader.frames(numbers)])
    most = max(each.crops for each in views)
    squares = crop_views(small, pre, most)  # crops, frames, crop, crop, 3
    found: dict[tuple[tuple[int, ...], int], int] = {}
    places: list[NDArray[np.int64]] = []
    for each in views:
        keys = [(tuple(clip), crop) for clip in clips[each.clips].tolist() for crop in _crops(each)]
        places.append(np.array([found.setdefault(key, len(found)) for key in keys]))
    cut = [squares[crop if most > 1 else 0, np.searchsorted(numbers, clip)] for clip, crop in found]
    return ViewSweep(torch.stack(cut), tuple(places), notes_of(reader, pre))


def _places_along(clips: int, placement: Placement) -> list[Fraction | None]:
    """Returns how far along the way from the first to the last place each clip lies; None for one with its own rule."""
    if placement == "middles":
        return [Fraction(2 * clip + 1, 2 * clips) for clip in range(clips)]
    return [Fraction(clip, clips - 1) for clip in range(clips)] if clips > 1 else [None]


def _crops(views: Views) -> tuple[int, ...]:
    """Returns which of three crops; a single one is that in the centre."""
    return (1,) if views.crops == 1 else (0, 1, 2)
