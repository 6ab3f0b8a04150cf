"""Makes a class of what is not marked in recordings: the stretches between segments, cut to pieces as long as these."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dualformer.datasets.samples import BACKGROUND_SHARE, DatasetError, SegmentSample, VideoList
from dualformer.video.open_video import open_video
from dualformer.video.video_segment import VideoSegment

Interval = tuple[float, float]
_SHORTEST = 0.25
"""Of a gap that is a piece by itself, in lengths of a piece."""


def add_background(
    lists: Sequence[VideoList],
    marked: Mapping[Path, Iterable[Interval]],
    name: str,
    *,
    share: float = BACKGROUND_SHARE,
    seed: int = 0,
) -> list[VideoList]:
    """Returns the ``lists`` of segments with unmarked pieces of their videos as class ``name``, behind the others.

    ``marked``: all segments of each video, also those in no list. A piece lasts as long as the median segment of the
    first list, or is all of a gap that is shorter, but not below a quarter of it. ``share``: pieces in a list, as a
    multiple of its mean number of segments a class; which ones is drawn by ``seed``. A class of this name that is there
    already gets them, too.
    Raises ``ValueError`` for lists of anything but segments with one label each, `DatasetError` where nothing is left
    unmarked in the videos of the first list, and as `open_video`.
    """
    if any(videos.multi_label or (len(videos) and videos.kind != "segments") for videos in lists):
        raise ValueError("`background` is for segments with one label each: lists with columns start and end")
    classes = lists[0].classes if name in lists[0].classes else (*lists[0].classes, name)
    lasts = [each.segment.end - each.segment.start for each in lists[0].samples if isinstance(each, SegmentSample)]
    if not lasts:
        raise DatasetError(f"{lists[0].source}: no segment is left, between which there would be a background")
    length = float(np.median(lasts))
    if not length > 0:
        raise DatasetError(
            f"{lists[0].source}: most segments are moments, so that `background` has no length: give some"
        )
    found: list[VideoList] = []
    for number, videos in enumerate(lists):
        pieces = [
            SegmentSample(path=piece.path, label=classes.index(name), fps=fps, segment=piece)
            for piece, fps in _unmarked(videos, marked, length)
        ]
        wanted = max(1, round(share * len(videos) / len(videos.classes)))
        chosen = np.random.default_rng([seed, number]).permutation(len(pieces))[:wanted]
        samples = (*videos.samples, *(pieces[place] for place in sorted(chosen.tolist())))
        found.append(replace(videos, classes=classes, samples=samples))
    if len(found[0]) == len(lists[0]):
        raise DatasetError(
            f"{lists[0].source}: nothing in its videos is unmarked for {_SHORTEST * length:.3g} s, which "
            f"`background={name}` would be made of: leave it out"
        )
    return found


def _unmarked(
    videos: VideoList, marked: Mapping[Path, Iterable[Interval]], length: float
) -> list[tuple[VideoSegment, float | None]]:
    """Returns pieces of ``length`` seconds between the marked segments, and the rate of their folder of frames."""
    found: list[tuple[VideoSegment, float | None]] = []
    films = {sample.recording: sample for sample in videos.samples}
    for path, sample in films.items():
        with open_video(sample.media, threads=1, fps=sample.fps, clock=True) as reader:
            last = float(reader.times[-1])
        for start, end in gaps(marked.get(path, ()), last):
            count = int((end - start) / length + 1e-6)
            if not count and end - start < _SHORTEST * length:
                continue
            lasts = length if count else end - start
            margin = (end - start - max(1, count) * lasts) / 2
            for number in range(max(1, count)):
                begin = start + margin + number * lasts
                found.append((VideoSegment(file=sample.media, start=begin, end=begin + lasts), sample.fps))
    return found


def gaps(marked: Iterable[Interval], length: float) -> list[Interval]:
    """Returns what lies between intervals, which may overlap, from 0 to ``length``."""
    found: list[Interval] = []
    done = 0.0
    for start, end in sorted(marked):
        if start > done:
            found.append((done, min(start, length)))
        done = max(done, end)
    if done < length:
        found.append((done, length))
    return [(start, end) for start, end in found if start < end]
