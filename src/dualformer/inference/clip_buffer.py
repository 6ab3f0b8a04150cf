"""The newest clip of a stream, handed from the thread that reads it to the one that runs the network.

It holds the samples of one clip. Where the network is slower than the source, the oldest are overwritten: a stream is
never further behind than the network takes for one clip.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from dualformer.inference.sliding_windows import Sample, window_of
from dualformer.video.container import VideoError
from dualformer.video.preprocessing import Preprocessing

_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Since the stream began."""

    frames: int = 0
    """That the source gave."""
    dropped: int = 0
    """Frames that no clip holds: the network or the decoder came too late, or they were damaged."""
    missed: int = 0
    """Labels that were due and not made, as the network was still at work."""
    reconnects: int = 0


class Taken(NamedTuple):
    """A clip for the network. ``views``: uint8 (crops, T, crop, crop, 3)."""

    views: Tensor
    seconds: float
    """Of its last frame, in the source's time."""
    arrived: float
    """When that frame came (`time.monotonic`)."""
    is_first: bool
    """Whether it does not follow on the clip that was taken before: the source was lost in between, or skipped."""
    counts: Counts


class _Held(NamedTuple):
    number: int
    sample: Sample
    arrived: float


class ClipBuffer:
    """Thread-safe. ``hop``: seconds between two clips, half a clip if None. ``waits``: whoever adds waits until a clip
    that is due is taken, and nothing is dropped."""

    def __init__(self, pre: Preprocessing, *, hop: float | None, waits: bool) -> None:
        self._length, self._hop, self.waits = pre.frames, hop, waits
        self._samples: deque[_Held] = deque(maxlen=pre.frames)
        self._changed = threading.Condition()
        self._number = 0
        self._seen = -1
        self._first: _Held | None = None
        self._due = 0
        self._counts = {"frames": 0, "dropped": 0, "missed": 0, "reconnects": 0}
        self._taken = 0
        self._closed = self._over = False
        self.error: VideoError | None = None
        """What ended the source for good."""
        self.last_frame = time.monotonic()
        """When the last frame came, or the stream began."""

    @property
    def counts(self) -> Counts:
        with self._changed:
            return Counts(**self._counts)

    @property
    def over(self) -> bool:
        """Whether the source has ended and no clip is left."""
        with self._changed:
            return self._over and not self._is_due()

    def count(self, name: str, number: int = 1) -> None:
        """Adds to one of the `Counts`."""
        with self._changed:
            self._counts[name] += number

    def add(self, sample: Sample, arrived: float) -> None:
        with self._changed:
            if len(self._samples) == self._length:
                self._drop(self._samples[0])
            self._samples.append(_Held(self._number, sample, arrived))
            self._number += 1
            self._changed.notify_all()
            while self.waits and self._is_due() and not self._closed:
                self._changed.wait()

    def reset(self) -> None:
        """What comes next does not follow on what was."""
        with self._changed:
            for held in self._samples:
                self._drop(held)
            self._samples.clear()
            self._first = None

    def finish(self, error: VideoError | None = None) -> None:
        """The source has ended. One that was shorter than a clip is filled up with its last frame."""
        with self._changed:
            if not self._taken and self._samples and error is None:
                newest = self._samples[-1]
                while len(self._samples) < self._length:
                    self._samples.append(newest)
            self._over, self.error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody takes any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, patience: float) -> Taken | None:
        """The newest clip, when one is due; None where none is for ``patience`` seconds, or the source has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_due() or self._over, patience)
            if not self._is_due():
                return None
            newest = self._samples[-1]
            is_first, self._seen = self._first is None, newest.number
            if self._first is None:
                self._first, self._due = newest, 1
            else:
                hops = self._hops(self._first, newest)
                self._counts["missed"] += hops - self._due
                self._due = hops + 1
            self._taken += 1
            window = window_of([held.sample for held in self._samples])
            taken = Taken(window.views, newest.sample.seconds, newest.arrived, is_first, Counts(**self._counts))
            self._changed.notify_all()
            return taken

    def _is_due(self) -> bool:
        if len(self._samples) < self._length:
            return False
        return self._first is None or self._hops(self._first, self._samples[-1]) >= self._due

    def _hops(self, first: _Held, newest: _Held) -> int:
        """How many hops the newest sample is behind the end of the first clip."""
        if self._hop is None:
            return (newest.number - first.number) // max(1, self._length // 2)
        return int((newest.sample.seconds - first.sample.seconds + _TOLERANCE) / self._hop)

    def _drop(self, held: _Held) -> None:
        if held.number > self._seen:
            self._counts["dropped"] += held.sample.frames
