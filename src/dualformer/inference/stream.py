"""Labels live video: a camera, a URL, a pipe or a file.

    for label in recognizer.stream("rtsp://camera/live"):
        print(label.label, label.probability, label.latency)

A thread reads the source and keeps its newest clip; the network takes that clip whenever it is free and a hop has
passed. So the latency is that of one clip, however slow the network is, and skipped frames are counted.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dualformer.inference.clip_buffer import ClipBuffer, StreamCounts
from dualformer.inference.stream_reader import ReaderSettings, StreamEvent, StreamReader
from dualformer.inference.view_classifier import Prediction, ViewClassifier
from dualformer.scoring.view_scores import average_views
from dualformer.video.container import VideoError
from dualformer.video.live_source import StreamSource

__all__ = ["Stream", "StreamCounts", "StreamEvent", "StreamLabel"]

_POLL = 0.1
"""Seconds between checks of the main thread whether to stop."""
_GRACE = 10.0
"""Seconds beyond all time limits after which a thread that reads counts as hanging."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamLabel:
    """The prediction for the newest clip."""

    prediction: Prediction
    seconds: float
    """Of the clip's last frame, in the source's time: from the first frame since it was opened."""
    latency: float
    """Seconds from the arrival of that frame to this label."""
    counts: StreamCounts

    @property
    def label(self) -> str:
        return self.prediction.label

    @property
    def probability(self) -> float:
        return self.prediction.probability


class Stream:
    """Iterates over labels, once, until the source ends, `stop` is called or ``seconds`` are over.

    ``source``: ``camera:0``, ``/dev/video0``, a URL (RTSP, HTTP, …), ``-`` for standard input, a named pipe, a file.
    ``hop``: seconds between two labels, half a clip if not given. ``smoothing``: how much of the label before is kept,
    0 to less than 1. ``realtime``: play a file at its own speed, and drop frames where the
    network is slower; otherwise a file, or a recorded video at a URL, is read as fast as the network works, with no
    frame dropped.
    ``timeout``: seconds of silence after which a source counts as lost. ``give_up``: seconds without a frame after
    which `VideoError` is raised, None for never. ``options``: for FFmpeg. ``on_event`` is called, between two labels,
    when the source was opened or lost.

    A lost source is opened again, after half a second and then twice as long each time, up to ten. Raises
    ``FileNotFoundError``, ``ValueError`` for settings that do not fit, ``VideoError`` for a file that is no video.
    """

    def __init__(
        self,
        classifier: ViewClassifier,
        source: str | Path,
        *,
        hop: float | None = None,
        smoothing: float = 0.5,
        realtime: bool = False,
        seconds: float | None = None,
        timeout: float = 10.0,
        give_up: float | None = 60.0,
        options: Mapping[str, str] | None = None,
        on_event: Callable[[StreamEvent], None] | None = None,
    ) -> None:
        for name, value in (("hop", hop), ("seconds", seconds), ("timeout", timeout), ("give_up", give_up)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and less than 1, not {smoothing}")
        self._classifier = classifier
        self.source = StreamSource.parse(source)
        pre = classifier.preprocessing
        drops = realtime or self.source.kind != "file"
        self._settings = ReaderSettings(
            source=self.source,
            pre=pre,
            crops=classifier.views.crops,
            timeout=timeout,
            realtime=realtime,
            drops=drops,
            options=options or {},
        )
        self._buffer = ClipBuffer(pre, hop=hop, blocking=not drops)
        self._smoothing, self._seconds, self._give_up = smoothing, seconds, give_up
        self._on_event = on_event
        self._events: deque[StreamEvent] = deque(maxlen=100)
        self._stopped = threading.Event()
        self._reader: StreamReader | None = None

    @property
    def counts(self) -> StreamCounts:
        """Frames, dropped frames, missed labels and reconnects so far."""
        return self._buffer.counts

    def stop(self) -> None:
        """Ends the iteration; from any thread or signal handler."""
        self._stopped.set()

    def __iter__(self) -> Iterator[StreamLabel]:
        if self._reader is not None:
            raise ValueError("a stream is iterated over once: make another")
        self._reader = self._start()
        begun = time.monotonic()
        mean: NDArray[np.float32] | None = None
        try:
            while not self._stopped.is_set():
                clip = self._buffer.take(_POLL)
                self._pass_events_on()
                if self._seconds is not None and time.monotonic() - begun >= self._seconds:
                    return
                if clip is None:
                    if self._buffer.over:
                        if self._buffer.error is not None:
                            raise self._buffer.error
                        return
                    self._watch()
                    continue
                now = self._predict(clip.views)
                old = now if mean is None or clip.is_first else mean
                mean = np.asarray(self._smoothing * old + (1 - self._smoothing) * now, dtype=np.float32)
                yield StreamLabel(
                    prediction=self._classifier.prediction_of(str(self.source), mean),
                    seconds=clip.seconds,
                    latency=time.monotonic() - clip.arrived,
                    counts=self._buffer.counts,
                )
        finally:
            self._stopped.set()
            self._buffer.close()
            self._reader.join(timeout=2)

    def _predict(self, views: Tensor) -> NDArray[np.float32]:
        """Returns the probabilities (C,) of the newest clip: of all of it, or where the weights answer at every step in
        time of its newer half, which is what the clip half a clip before did not show."""
        if not self._classifier.answers_steps:
            return average_views(self._classifier.predict_views(views))
        steps = self._classifier.predict_steps(views)
        newer = steps[:, steps.shape[1] // 2 :]
        return average_views(newer.reshape(-1, newer.shape[-1]))

    def _start(self) -> StreamReader:
        reader = StreamReader(self._settings, self._buffer, self._stopped, self._events.append)
        reader.start()
        return reader

    def _pass_events_on(self) -> None:
        while self._events:
            event = self._events.popleft()
            if self._on_event is not None:
                self._on_event(event)

    def _watch(self) -> None:
        """Raises where no frame has come for too long, and replaces a reader that hangs."""
        assert self._reader is not None
        now = time.monotonic()
        if self._give_up is not None and now - self._buffer.last_frame > self._give_up:
            reason = f"no frame has come for {self._give_up:g} s (`give_up` says how long to wait)"
            raise VideoError(str(self.source), reason)
        may_hang = self.source.kind in ("camera", "url")  # pipes are asked, files do not wait
        if may_hang and now - self._reader.beat > 2 * self._settings.timeout + _GRACE:
            self._reader.abandon()
            self._buffer.reset()
            self._buffer.count("reconnects")
            self._events.append(StreamEvent(kind="lost", reason="it does not answer"))
            self._reader = self._start()
