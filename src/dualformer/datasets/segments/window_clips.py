"""Clips from anywhere in long recordings, with what happens at every frame of each: for a head that answers at moments.

Legend: T frames of a clip, C classes.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.segment import BACKGROUND, Segment
from dualformer.video.augmentation import Augmentation
from dualformer.video.backend import decoder
from dualformer.video.clip_reader import make_training_clip, views_at
from dualformer.video.frame_reader import FrameReader
from dualformer.video.kept_readers import KeptReaders
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import covering_clips, random_clip
from dualformer.video.segment_reader import frames_within


def frame_labels(
    segments: Sequence[Segment],
    times: NDArray[np.float64],
    classes: Sequence[str],
    *,
    mirrored: Sequence[int] | None = None,
) -> Tensor:
    """Returns the share of each frame's time that each class is marked for, float32 (T, C), of a clip whose frames lie
    at ``times`` (T,), in seconds of the recording.

    A frame lasts until the next one of the clip. A moment in its time counts as all of it, and a frame that is shown
    again lasts no time and counts by when it is shown. `BACKGROUND` has what nothing is marked for, if it is one of
    the ``classes``. ``mirrored``: the label that each becomes, for mirrored clips.
    """
    apart = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    starts, ends = times, np.maximum(times, np.append(times[1:], times[-1] + apart))
    lengths = ends - starts
    shares = np.zeros((len(times), len(classes)))
    numbers = {name: number for number, name in enumerate(classes)}
    for segment in segments:
        label = numbers.get(segment.label)
        if label is None:  # a class of others of the data
            continue
        shared = np.clip(np.minimum(ends, segment.end) - np.maximum(starts, segment.start), 0, None)
        shown = (segment.start <= starts) & (starts < segment.end)
        moment = (segment.start == segment.end) & (starts <= segment.start) & (segment.start < ends)
        share = np.where(lengths > 0, shared / np.where(lengths > 0, lengths, 1), shown)
        shares[:, mirrored[label] if mirrored else label] += np.where(moment, 1.0, share)
    if (nothing := numbers.get(BACKGROUND)) is not None:
        shares[:, nothing] += np.clip(1 - shares.sum(axis=1), 0, None)
    return torch.from_numpy(shares.clip(max=1)).float()


class _Place(NamedTuple):
    """A part of a recording, in seconds, in which a clip is drawn."""

    video: int
    start: float
    end: float


class WindowClips(torch.utils.data.Dataset[dict[str, Any]]):
    """Randomly placed and augmented clips of recordings by key (epoch, number): ``dict(clip, moments, label, index)``.

    ``clip`` is uint8 (T, crop, crop, 3), ``moments`` are its `frame_labels`, ``label`` the longest of them, and
    ``index`` its recording. An epoch has `count_places` clips: the recordings are divided into as many stretches of
    equal length, and in each a clip begins somewhere, so that every part is seen. A clip depends on ``seed``, the epoch
    and its number alone, as of `TrainingClips`.

    ``videos`` have their ``seconds`` and ``fps``, see `measure_recordings`. ``mirrored``: as of `TrainingClips`.
    """

    def __init__(
        self,
        videos: Sequence[AnnotatedVideo],
        pre: Preprocessing,
        classes: Sequence[str],
        *,
        seed: int,
        augmentation: Augmentation,
        mirrored: Sequence[int] | None = None,
    ) -> None:
        decoder()  # raises here where it is missing, and not in every worker
        self.videos, self.pre, self.classes = tuple(videos), pre, tuple(classes)
        self.augmentation, self.mirrored = augmentation, mirrored
        self._seed, self._readers = seed, KeptReaders()
        self._places = _places(self.videos, pre)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, number = key
        place = self._places[number % len(self._places)]
        video = self.videos[place.video]
        near = [each for each in video.segments if each.start < place.end and each.end >= place.start]
        augmentation = self.augmentation.of_epoch(epoch)
        if self.mirrored is not None and any(self._unmirrored(each.label) for each in near):
            augmentation = replace(augmentation, flip=0.0)

        def read(reader: FrameReader) -> dict[str, Any]:
            rng = np.random.default_rng([self._seed, epoch, number])
            times = reader.times
            shown = frames_within(times, place.start, place.end)
            indices = shown.start + random_clip(times[shown], self.pre, rng)
            clip = make_training_clip(reader.frames(indices), indices, times, self.pre, rng, augmentation)
            mirrored = self.mirrored if clip.mirrored else None
            return {"clip": clip.frames, "index": place.video} | _truth(near, clip.times, self.classes, mirrored)

        return self._readers.read(video.path, read, fps=video.fps, clock=self.pre.fps is not None)

    def _unmirrored(self, label: str) -> bool:
        assert self.mirrored is not None
        return label in self.classes and self.mirrored[self.classes.index(label)] < 0


class WindowViews(torch.utils.data.Dataset[dict[str, Any]]):
    """Clips that cover recordings without gaps, by index: ``dict(views, moments, label, index)``, ``views`` uint8
    (1, T, crop, crop, 3) from the middle of the picture; the others as of `WindowClips`."""

    def __init__(self, videos: Sequence[AnnotatedVideo], pre: Preprocessing, classes: Sequence[str]) -> None:
        decoder()  # raises here where it is missing, and not in every worker
        self.videos, self.pre, self.classes = tuple(videos), pre, tuple(classes)
        self._readers = KeptReaders()
        self._clips = [
            self._readers.read(
                video.path, lambda reader: covering_clips(reader.times, pre), fps=video.fps, clock=pre.fps is not None
            )
            for video in self.videos
        ]
        self._ends = list(accumulate(map(len, self._clips)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} is outside 0 to {len(self) - 1}")
        number = bisect_right(self._ends, index)
        video, clips = self.videos[number], self._clips[number]
        indices = clips[index - self._ends[number]]

        def read(reader: FrameReader) -> dict[str, Any]:
            shown = np.minimum(indices, len(reader) - 1)  # its frames may have been counted since
            views = views_at(reader, shown[None], self.pre)
            return {"views": views, "index": number} | _truth(video.segments, reader.times[shown], self.classes)

        return self._readers.read(video.path, read, fps=video.fps, clock=self.pre.fps is not None)


def measure_recordings(videos: Sequence[AnnotatedVideo]) -> list[AnnotatedVideo]:
    """Returns the recordings with their seconds and frames a second, which are read from the files that do not say."""
    return [video if video.seconds and video.fps else _measured(video) for video in videos]


def _measured(video: AnnotatedVideo) -> AnnotatedVideo:
    with open_video(video.path, threads=1, fps=video.fps) as reader:
        times = reader.times
        apart = float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0
        return replace(video, seconds=float(times[-1] - times[0]) + apart, fps=video.fps or 1 / apart)


def count_places(videos: Sequence[AnnotatedVideo]) -> int:
    """Returns how many clips an epoch of `WindowClips` has: about as many as there are segments, and at least one of
    every recording."""
    return sum(_stretches(videos))


def _stretches(videos: Sequence[AnnotatedVideo]) -> list[int]:
    """Returns how many stretches each recording is divided into, so that all are about as long."""
    if unknown := [video.path for video in videos if not video.seconds or not video.fps]:
        raise ValueError(f"{unknown[0]}: how long it lasts at how many frames a second is not known: measure it")
    total = sum(video.seconds or 0.0 for video in videos)
    each = total / max(1, sum(len(video.segments) for video in videos))
    return [max(1, round((video.seconds or 0.0) / each)) for video in videos]


def _places(videos: Sequence[AnnotatedVideo], pre: Preprocessing) -> list[_Place]:
    """Returns the stretches in which clips begin, each with the clip's length after it."""
    found: list[_Place] = []
    for number, (video, count) in enumerate(zip(videos, _stretches(videos), strict=True)):
        assert video.seconds and video.fps
        clip = pre.frames * pre.stride / (pre.fps or video.fps)
        room = max(0.0, video.seconds - clip)
        found += [_Place(number, i * room / count, (i + 1) * room / count + clip) for i in range(count)]
    return found


def _truth(
    segments: Sequence[Segment],
    times: NDArray[np.float64],
    classes: Sequence[str],
    mirrored: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Returns ``moments`` and ``label`` of an item."""
    moments = frame_labels(segments, times, classes, mirrored=mirrored)
    return {"moments": moments, "label": int(moments.sum(dim=0).argmax())}
