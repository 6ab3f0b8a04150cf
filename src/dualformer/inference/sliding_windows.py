"""Clips cut out of frames as they come, as evaluation would cut them, holding no more than one clip.

A video that goes on is first thinned out to samples: every ``stride``-th frame, or the frame that is on the screen at
every ``stride``-th tick of a clock, as `dualformer.video.sampling` has it. Any ``frames`` samples in a row are a clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dualformer.video.playback import LazyFrame
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import crop_views

_TOLERANCE = 1e-3  # as in `dualformer.video.sampling`: containers round times to a millisecond


class Sample(NamedTuple):
    """One frame of a clip, resized and cut."""

    seconds: float
    """Of the frame, or of the tick at which it is seen."""
    views: Tensor
    """uint8 (crops, crop, crop, 3)."""
    frames: int
    """Frames of the video since the sample before."""


class Sampler:
    """Thins frames out, and resizes and cuts only those that are kept."""

    def __init__(self, pre: Preprocessing, crops: int = 1) -> None:
        self._pre, self._crops = pre, crops
        self._step = None if pre.fps is None else pre.stride / pre.fps
        self._count = self._since = 0
        self._first = 0.0
        self._ticks = 0
        self._waiting: LazyFrame | None = None

    def add(self, seconds: float, picture: LazyFrame) -> Iterator[Sample]:
        """The samples that are certain once this frame is there: without a clock itself or nothing, with a clock those
        at which the frame before was seen."""
        if self._step is None:
            self._since += 1
            if self._count % self._pre.stride == 0:
                yield self._sample(seconds, self._cut(picture))
            self._count += 1
            return
        if self._waiting is None:
            self._first = seconds
        else:
            yield from self._shown(self._waiting, before=seconds - _TOLERANCE)
        self._since += 1
        self._waiting, self._last = picture, seconds

    def finish(self) -> Iterator[Sample]:
        """What the last frame still shows."""
        if self._waiting is not None:
            yield from self._shown(self._waiting, before=self._last + _TOLERANCE)

    def _shown(self, picture: LazyFrame, *, before: float) -> Iterator[Sample]:
        assert self._step is not None
        views: Tensor | None = None
        while (tick := self._first + self._ticks * self._step) < before:
            views = self._cut(picture) if views is None else views
            self._ticks += 1
            yield self._sample(tick, views)

    def _sample(self, seconds: float, views: Tensor) -> Sample:
        since, self._since = self._since, 0
        return Sample(seconds, views, since)

    def _cut(self, picture: LazyFrame) -> Tensor:
        # A copy: a cut is a view of the resized frame, which would stay in memory with it.
        return crop_views(picture()[None], self._pre, self._crops)[:, 0].clone()


class Window(NamedTuple):
    """A clip and when it is. ``views``: uint8 (crops, T, crop, crop, 3)."""

    start: float
    end: float
    views: Tensor


class Windows:
    """Overlapping clips of samples as they come. One clip begins every ``hop`` seconds, or half a clip after the one
    before; the last one ends with the last sample."""

    def __init__(self, pre: Preprocessing, *, hop: float | None = None) -> None:
        if hop is not None and not hop > 0:
            raise ValueError(f"hop must be positive, not {hop}")
        self._length = pre.frames
        self._hop = hop
        self._samples: deque[Sample] = deque(maxlen=pre.frames)
        self._starts: deque[int] = deque()
        self._count = self._ended = 0
        self._due = 0.0
        self.starts: list[float] = []
        """When clips begin, also those that the video ends in."""

    def add(self, sample: Sample) -> Window | None:
        """The clip that this sample completes, if it does one."""
        if self._is_due(sample.seconds):
            self._starts.append(self._count)
            self.starts.append(sample.seconds)
        self._samples.append(sample)
        self._count += 1
        if self._starts and self._count - self._starts[0] == self._length:
            self._starts.popleft()
            is_first, window = not self._ended, self._window()
            if is_first and self._hop is not None and self._hop > window.end - window.start + _TOLERANCE:
                length = window.end - window.start
                raise ValueError(f"a hop of {self._hop:g} s leaves out what lies between clips of {length:.3g} s")
            return window
        return None

    def finish(self) -> Window | None:
        """A clip of what the others leave over, none if that is nothing. A video that is shorter than a clip repeats
        its last frame."""
        return self._window() if self._samples and self._ended < self._count else None

    def _is_due(self, seconds: float) -> bool:
        if self._hop is None:
            return self._count % max(1, self._length // 2) == 0
        first = self.starts[0] if self.starts else seconds
        if self.starts and seconds < self._due - _TOLERANCE:
            return False
        # A multiple of the hop: what a clip is late by, as samples are apart, is not passed on to the next.
        self._due = first + ((seconds - first + _TOLERANCE) // self._hop + 1) * self._hop
        return True

    def _window(self) -> Window:
        self._ended = self._count
        samples = list(self._samples)
        samples += samples[-1:] * (self._length - len(samples))
        return window_of(samples)


def window_of(samples: list[Sample]) -> Window:
    """A clip's samples as a clip. It ends when the next sample would come."""
    start, last = samples[0].seconds, samples[-1].seconds
    apart = (last - start) / (len(samples) - 1) if len(samples) > 1 else 0.0
    return Window(start, last + apart, torch.stack([sample.views for sample in samples], dim=1))
