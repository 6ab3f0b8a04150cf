"""Samples the frames of a video in order, and cuts overlapping clips from them, as evaluation does.

Every ``stride``-th frame is sampled, or the frame that is on the screen at every ``stride``-th tick of a clock, as
`dualformer.video.sampling` has it. Any ``frames`` sampled frames in a row are a clip; no more than one is in memory.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from dualformer.video.container import VideoError
from dualformer.video.playback import LazyFrame, last_interval
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import filled
from dualformer.video.transforms import crop_views

_TOLERANCE = 1e-3  # as in `dualformer.video.sampling`: containers round times to a millisecond


class SampledFrame(NamedTuple):
    """One frame of a clip, resized and cropped."""

    seconds: float
    """Of the frame, or of the tick at which it is seen."""
    views: Tensor
    """uint8 (crops, crop, crop, 3)."""
    frames: int
    """Frames of the video since the frame that was sampled before."""


def crop_frame(picture: LazyFrame, pre: Preprocessing, crops: int) -> Tensor:
    """Returns a frame resized and cropped, uint8 (crops, crop, crop, 3)."""
    # A copy: a crop is a view of the resized frame, which would stay in memory with it.
    return crop_views(picture()[None], pre, crops)[:, 0].clone()


class FrameSampler:
    """Samples frames at the stride and clock of ``pre``; only those that are kept are resized and cropped.

    ``crop``: what makes the views of a frame, `crop_frame` if not given.
    """

    def __init__(
        self, pre: Preprocessing, crops: int = 1, *, crop: Callable[[LazyFrame], Tensor] | None = None
    ) -> None:
        self._pre, self._crop = pre, crop or partial(crop_frame, pre=pre, crops=crops)
        self._step = None if pre.fps is None else pre.stride / pre.fps
        self._count = self._since = 0
        self._first = 0.0
        self._ticks = 0
        self._waiting: LazyFrame | None = None

    def add(self, seconds: float, picture: LazyFrame) -> Iterator[SampledFrame]:
        """Yields the samples that are known now: without a clock this frame or none, with a clock the frame before at
        each tick at which it was on the screen."""
        if self._step is None:
            self._since += 1
            if self._count % self._pre.stride == 0:
                yield self._sample(seconds, self._crop(picture))
            self._count += 1
            return
        if self._waiting is None:
            self._first = seconds
        else:
            yield from self._shown(self._waiting, before=seconds - _TOLERANCE)
        self._since += 1
        self._waiting, self._last = picture, seconds

    @property
    def left(self) -> int:
        """Frames since the last one that was sampled."""
        return self._since

    def finish(self) -> Iterator[SampledFrame]:
        """Yields the last frame at the ticks that are left."""
        if self._waiting is not None:
            yield from self._shown(self._waiting, before=self._last + _TOLERANCE)

    def _shown(self, picture: LazyFrame, *, before: float) -> Iterator[SampledFrame]:
        assert self._step is not None
        views: Tensor | None = None
        while (tick := self._first + self._ticks * self._step) < before:
            views = self._crop(picture) if views is None else views
            self._ticks += 1
            yield self._sample(tick, views)

    def _sample(self, seconds: float, views: Tensor) -> SampledFrame:
        since, self._since = self._since, 0
        return SampledFrame(seconds, views, since)


class Window(NamedTuple):
    """A clip with its start and end in seconds. ``views``: uint8 (crops, T, crop, crop, 3)."""

    start: float
    end: float
    views: Tensor
    lasts: float = 0.0
    """Seconds of all its frames, those included that a short video does not have."""


class SlidingWindow:
    """Cuts overlapping clips. One begins every ``hop`` seconds, or half a clip after the one before; the last one ends
    with the last frame."""

    def __init__(self, pre: Preprocessing, *, hop: float | None = None) -> None:
        if hop is not None and not hop > 0:
            raise ValueError(f"hop must be positive, not {hop}")
        self._pre, self._length = pre, pre.frames
        self._hop = hop
        self._samples: deque[SampledFrame] = deque(maxlen=pre.frames)
        self._starts: deque[int] = deque()
        self._count = self._ended = 0
        self._due = 0.0
        self.starts: list[float] = []
        """The starts of clips, also of those that the end of the video cuts."""

    def add(self, sample: SampledFrame) -> Window | None:
        """Returns the clip that this frame completes, if it does one."""
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
        """Returns the clip that ends with the last frame, if there was none yet. A video shorter than a clip repeats
        its last frame, or its sampled frames from the first where ``pre.short_video`` is "loop"."""
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
        window = clip_window(samples + samples[-1:] * (self._length - len(samples)))
        shown = filled(range(self._length), len(samples), self._pre)
        views = torch.stack([samples[number].views for number in shown], dim=1)
        return window._replace(views=views, lasts=_interval(samples) * self._length)


def clip_window(samples: list[SampledFrame]) -> Window:
    """Returns the clip of its frames. It ends when the next frame would be sampled."""
    start, last, apart = samples[0].seconds, samples[-1].seconds, _interval(samples)
    views = torch.stack([sample.views for sample in samples], dim=1)
    return Window(start, last + apart, views, apart * len(samples))


def _interval(samples: list[SampledFrame]) -> float:
    """Returns the seconds between two sampled frames."""
    return (samples[-1].seconds - samples[0].seconds) / (len(samples) - 1) if len(samples) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class VideoSummary:
    """How much of a video was read."""

    frames: int
    end: float
    """Seconds from the first frame to the end of the last."""
    starts: tuple[float, ...]
    """Seconds of the starts of clips, also of those that the end of the video cuts."""
    error: str | None = None
    """Why it could not be read to its end, if so."""


class WindowReader:
    """Yields the clips of a video, once. What stopped it early is in ``error``.

    ``playing``: the seconds of all frames with the frames. ``crop``: as of `FrameSampler`.
    """

    def __init__(
        self,
        playing: Iterable[tuple[float, LazyFrame]],
        pre: Preprocessing,
        *,
        crops: int = 1,
        hop: float | None = None,
        crop: Callable[[LazyFrame], Tensor] | None = None,
    ) -> None:
        self._playing, self._windows = playing, SlidingWindow(pre, hop=hop)
        self._sampler = FrameSampler(pre, crops, crop=crop)
        self._frames = 0
        self._first = self._last = 0.0
        self.error: VideoError | None = None

    def __iter__(self) -> Iterator[Window]:
        try:
            for seconds, picture in self._playing:
                self._first = seconds if self._frames == 0 else self._first
                self._frames, self._last = self._frames + 1, seconds
                for sample in self._sampler.add(seconds, picture):
                    if window := self._windows.add(sample):
                        yield window
        except VideoError as error:
            self.error = error
        for sample in self._sampler.finish():
            if window := self._windows.add(sample):
                yield window
        if window := self._windows.finish():
            yield window

    def summary(self) -> VideoSummary:
        """Returns the summary of the frames so far."""
        return VideoSummary(
            frames=self._frames,
            end=self._last + last_interval(self._first, self._last, self._frames),
            starts=tuple(self._windows.starts),
            error=None if self.error is None else self.error.reason,
        )
