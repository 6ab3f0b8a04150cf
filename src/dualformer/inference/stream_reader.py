"""The thread that reads a stream: opens and decodes it, skips frames to keep up, and reopens a lost source."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import av.error
import av.packet
import av.video.frame

from dualformer.inference.clip_buffer import ClipBuffer
from dualformer.inference.sliding_windows import FrameSampler
from dualformer.video.container import VideoError
from dualformer.video.frame_converter import FrameConverter
from dualformer.video.live_source import LiveVideo, StreamSource
from dualformer.video.preprocessing import Preprocessing

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0
"""Seconds before a lost source is opened again, doubled each time up to the second."""
_GAP = 1.0
"""Seconds without a frame after which a live source starts a new clip."""
_DAMAGED = 300
"""Consecutive packets that do not decode after which the source counts as lost."""


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    """The source was opened, or lost."""

    kind: str
    """``open`` or ``lost``."""
    reason: str = ""
    wait: float = 0.0
    """Seconds until it is tried again."""


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """How a source is read: clips of ``crops`` views by ``pre``, ``timeout`` in seconds, ``options`` for FFmpeg."""

    source: StreamSource
    pre: Preprocessing
    crops: int
    timeout: float
    realtime: bool
    """Whether to play no faster than the source's own clock."""
    drops: bool
    """Whether to drop frames where the network or decoding falls behind; of a recorded URL only with ``realtime``."""
    options: Mapping[str, str]


class StreamReader(threading.Thread):
    """Feeds ``buffer`` until ``stopped``, or until a source that ends has ended.

    ``on_event`` is called in this thread. `beat` is the time of its last activity: where a driver hangs for ever,
    another reader replaces this one, and `abandon` keeps it from adding frames.
    """

    def __init__(
        self,
        settings: ReaderSettings,
        buffer: ClipBuffer,
        stopped: threading.Event,
        on_event: Callable[[StreamEvent], None],
    ) -> None:
        super().__init__(name="receive", daemon=True)
        self._settings, self._buffer, self._stopped, self._on_event = settings, buffer, stopped, on_event
        self._abandoned = False
        self.beat = time.monotonic()

    def abandon(self) -> None:
        self._abandoned = True

    def run(self) -> None:
        source, wait = self._settings.source, _FIRST_WAIT
        opened = 0
        while not self._is_over():
            self.beat = time.monotonic()
            try:
                live = LiveVideo(
                    source, timeout=self._settings.timeout, stopped=self._is_over, options=self._settings.options
                )
            except VideoError as error:
                lost = error
            else:
                opened += 1
                if opened > 1:
                    self._buffer.count("reconnects")
                self._on_event(StreamEvent(kind="open"))
                player = _StreamDecoder(self._settings, live, self._buffer, self)
                try:
                    player.play()
                    lost = VideoError(str(source), "it ended")
                    ended = source.ends or live.is_finite
                except VideoError as error:
                    lost, ended = error, False
                finally:
                    live.close()
                if not ended:  # what was not sampled yet continues nothing
                    self._buffer.count("dropped", player.unsampled)
                if ended and not self._is_over():
                    self._buffer.finish()
                    return
                wait = _FIRST_WAIT if player.frames else wait
            if self._is_over():
                return
            if source.kind == "file":
                self._buffer.finish(lost)
                return
            self._buffer.reset()
            self._on_event(StreamEvent(kind="lost", reason=lost.reason, wait=wait))
            self._stopped.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def alive(self) -> bool:
        """Updates `beat`. Returns whether to continue."""
        self.beat = time.monotonic()
        return not self._is_over()

    def sleep(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _is_over(self) -> bool:
        return self._abandoned or self._stopped.is_set()


class _StreamDecoder:
    """One connection: decodes packets and samples frames, in step with time."""

    def __init__(self, settings: ReaderSettings, live: LiveVideo, buffer: ClipBuffer, reader: StreamReader) -> None:
        self._settings, self._live, self._buffer, self._reader = settings, live, buffer, reader
        self._step = 1 / live.rate
        self._sampler = FrameSampler(settings.pre, settings.crops)
        self._pictures: FrameConverter | None = None
        self._first: int | None = None
        self._seconds = -self._step
        self._base: float | None = None
        """When second 0 would have arrived, had all frames arrived with the smallest delay seen."""
        self._arrived = 0.0
        clip = settings.pre.frames * settings.pre.stride / (settings.pre.fps or live.rate)
        self._late = max(0.5, clip / 2)
        self._is_live = settings.source.kind != "file" and not live.is_finite
        self._drops = settings.drops and (self._is_live or settings.realtime)
        buffer.blocking = not self._drops
        self.frames = 0

    def play(self) -> None:
        skipping, damaged = False, 0
        asked = time.monotonic()
        for packet in self._live.packets():
            if not self._reader.alive():
                return
            now = time.monotonic()
            # A wait for the packet means that the backlog is empty.
            at_edge = now - asked > max(0.005, self._step / 2)
            if skipping and not (packet.is_keyframe and self._behind(packet, now) <= self._late / 2):
                if at_edge and self._is_live and not self._settings.realtime:
                    self._base = None
                self._buffer.count("frames")
                self._buffer.count("dropped")
                asked = time.monotonic()
                continue
            if skipping:
                skipping = False
                self._live.codec.flush_buffers()
            try:
                frames = self._live.codec.decode(packet)
                damaged = 0
            except av.error.FFmpegError as error:
                damaged += 1
                self._buffer.count("frames")
                self._buffer.count("dropped")
                if damaged >= _DAMAGED:
                    reason = f"{damaged} packets in a row do not decode ({error.strerror})"
                    raise VideoError(str(self._settings.source), reason) from error
                frames = []
            for frame in frames:
                behind = self._show(frame, at_edge=at_edge)
                if not self._reader.alive():
                    return
                if self._drops and behind > self._late:
                    skipping = True
            if skipping:
                self._start_over()
            asked = time.monotonic()
        for frame in self._rest():
            self._show(frame, at_edge=False)
        for sample in self._sampler.finish():
            self._buffer.add(sample, self._arrived)

    @property
    def unsampled(self) -> int:
        """Frames after the last one that was sampled."""
        return self._sampler.left

    def _rest(self) -> list[av.video.frame.VideoFrame]:
        try:
            return self._live.codec.decode(None)
        except av.error.FFmpegError:
            return []

    def _show(self, frame: av.video.frame.VideoFrame, *, at_edge: bool) -> float:
        """Samples a frame when it is due. Returns the seconds that it is late."""
        follows = self._time(frame.pts)
        if not follows:
            self._start_over()
        if not follows or not self._drops:  # a source that waits for the network is never late
            self._base = None
        now = time.monotonic()
        if self._base is None or (not self._settings.realtime and (at_edge or now - self._seconds < self._base)):
            self._base = now - self._seconds
        due = self._base + self._seconds
        if self._settings.realtime and now < due:
            self._reader.sleep(due - now)
            now = time.monotonic()
        if self._pictures is None:
            size = (frame.height, frame.width)
            self._pictures = FrameConverter(Path(self._settings.source.name), size, lambda: size)
        before, self._arrived = self._arrived, due
        pictures = self._pictures
        for sample in self._sampler.add(self._seconds, lambda: pictures(frame)):
            # With a clock, a frame yields the samples that show the frame before.
            self._buffer.add(sample, due if self._settings.pre.fps is None else before)
        self.frames += 1
        self._buffer.count("frames")
        self._buffer.last_frame = now
        return now - due

    def _time(self, pts: int | None) -> bool:
        """Advances to the next frame's time. Returns whether it continues the frame before."""
        last, tick = self._seconds, self._live.tick
        self._seconds += self._step
        if pts is None or tick <= 0:
            return True
        if self._first is None:
            self._first = pts
            self._seconds = 0.0
            return True
        seconds = (pts - self._first) * tick
        gap = max(_GAP, 5 * self._step)
        if seconds <= last or (self._is_live and seconds > last + gap):
            self._first = pts - round(self._seconds / tick)
            return False
        self._seconds = seconds
        return True

    def _behind(self, packet: av.packet.Packet, now: float) -> float:
        """Returns the seconds that a packet's frame would be behind."""
        if packet.pts is None or self._first is None or self._base is None:
            return 0.0
        return now - self._base - (packet.pts - self._first) * self._live.tick

    def _start_over(self) -> None:
        self._buffer.count("dropped", self._sampler.left)
        self._buffer.reset()
        self._sampler = FrameSampler(self._settings.pre, self._settings.crops)
