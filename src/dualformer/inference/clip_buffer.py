"""Hands the newest clip of a stream from the thread that reads it to the one that runs the network.

The buffer holds the frames of one clip. Where the network is slower than the source, the oldest are overwritten: the
latency is never more than the network takes for one clip.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from dualformer.inference.sliding_windows import SampledFrame, clip_window
from dualformer.video.container import VideoError
from dualformer.video.preprocessing import Preprocessing

_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class StreamCounts:
    """Counts since the stream began."""

    frames: int = 0
    """Frames that the source gave."""
    dropped: int = 0
    """Frames in no clip: the network or the decoder was too slow, or they were damaged."""
    missed: int = 0
    """Labels that were due and skipped, as the network was busy."""
    reconnects: int = 0


class StreamClip(NamedTuple):
    """A clip for the network. ``views``: uint8 (crops, T, crop, crop, 3)."""

    views: Tensor
    seconds: float
    """Of its last frame, in the source's time."""
    arrived: float
    """When that frame came (`time.monotonic`)."""
    is_first: bool
    """Whether it does not continue the clip before: the source was lost in between, or frames were skipped."""
    counts: StreamCounts


class _BufferedFrame(NamedTuple):
    number: int
    frame: SampledFrame
    arrived: float


class ClipBuffer:
    """A thread-safe buffer of one clip. ``hop``: seconds between two clips, half a clip if None. ``blocking``: `add`
    waits until a clip that is due is taken, and nothing is dropped."""

    def __init__(self, pre: Preprocessing, *, hop: float | None, blocking: bool) -> None:
        self._length, self._hop, self.blocking = pre.frames, hop, blocking
        self._frames: deque[_BufferedFrame] = deque(maxlen=pre.frames)
        self._changed = threading.Condition()
        self._number = 0
        self._seen = -1
        self._first: _BufferedFrame | None = None
        self._due = 0
        self._counts = {"frames": 0, "dropped": 0, "missed": 0, "reconnects": 0}
        self._closed = self._over = False
        self.error: VideoError | None = None
        """The error that ended the source."""
        self.last_frame = time.monotonic()
        """When the last frame came, or the stream began."""

    @property
    def counts(self) -> StreamCounts:
        with self._changed:
            return StreamCounts(**self._counts)

    @property
    def over(self) -> bool:
        """Whether the source has ended and no clip is left."""
        with self._changed:
            return self._over and not self._is_due()

    def count(self, name: str, number: int = 1) -> None:
        """Adds to the field ``name`` of `StreamCounts`."""
        with self._changed:
            self._counts[name] += number

    def add(self, frame: SampledFrame, arrived: float) -> None:
        with self._changed:
            if len(self._frames) == self._length:
                self._drop(self._frames[0])
            self._frames.append(_BufferedFrame(self._number, frame, arrived))
            self._number += 1
            self._changed.notify_all()
            while self.blocking and self._is_due() and not self._closed:
                self._changed.wait()

    def reset(self) -> None:
        """Drops all frames, as the next one does not continue them."""
        with self._changed:
            for held in self._frames:
                self._drop(held)
            self._frames.clear()
            self._first = None

    def finish(self, error: VideoError | None = None) -> None:
        """Ends the source. Its last frames are in one more clip, which ends with the last one, whatever the hop; if
        there are fewer than a clip has, the last one is repeated. After an ``error`` they count as dropped."""
        with self._changed:
            if error is not None and not self._is_due():
                for held in self._frames:
                    self._drop(held)
                self._frames.clear()
            elif error is None and self._frames and self._frames[-1].number > self._seen:
                newest = self._frames[-1]
                while len(self._frames) < self._length:
                    self._frames.append(newest)
            self._over, self.error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the waiting of `add`: no clips are taken from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, timeout: float) -> StreamClip | None:
        """Returns the newest clip when one is due; None after ``timeout`` seconds, or where the source has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_due() or self._over, timeout)
            if not self._is_due():
                return None
            newest = self._frames[-1]
            is_first, self._seen = self._first is None, newest.number
            if self._first is None:
                self._first, self._due = newest, 1
            else:
                hops = self._hops(self._first, newest)
                self._counts["missed"] += max(0, hops - self._due)  # the last clip of a source may not be due
                self._due = hops + 1
            window = clip_window([held.frame for held in self._frames])
            taken = StreamClip(
                window.views, newest.frame.seconds, newest.arrived, is_first, StreamCounts(**self._counts)
            )
            self._changed.notify_all()
            return taken

    def _is_due(self) -> bool:
        if len(self._frames) < self._length:
            return False
        if self._over and self._frames[-1].number > self._seen:
            return True
        return self._first is None or self._hops(self._first, self._frames[-1]) >= self._due

    def _hops(self, first: _BufferedFrame, newest: _BufferedFrame) -> int:
        """Returns how many hops the newest frame is behind the end of the first clip."""
        if self._hop is None:
            return (newest.number - first.number) // max(1, self._length // 2)
        return int((newest.frame.seconds - first.frame.seconds + _TOLERANCE) / self._hop)

    def _drop(self, held: _BufferedFrame) -> None:
        if held.number > self._seen:
            self._counts["dropped"] += held.frame.frames
