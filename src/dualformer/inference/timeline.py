"""Long videos: what happens when, from one pass over the file.

    timeline = Recognizer.load("weights.safetensors").timeline("film.mp4")
    for segment in timeline.segments: ...

Frames are thinned out, resized and cut as they are decoded; overlapping clips of them go through the network in
batches. What is kept in memory is one clip, the batch, and the answers: a number for each class and clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.inference.prefetch import ahead
from dualformer.inference.segments import Rules, Segment, find_segments
from dualformer.inference.sliding_windows import Sampler, Window, Windows
from dualformer.scoring.view_scores import average_views
from dualformer.video.container import VideoError
from dualformer.video.playback import Playback, last_interval

if TYPE_CHECKING:
    from dualformer.inference.recognizer import Recognizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """What the network says of a video over time. n stretches of time, C classes."""

    source: str
    labels: tuple[str, ...]
    bounds: NDArray[np.float64]
    """(n + 1,): seconds from the first frame at which stretches begin, and the end of the video."""
    probabilities: NDArray[np.float32]
    """(n, C): smoothed, so that they are those of every clip around a stretch, averaged."""
    segments: tuple[Segment, ...]
    rules: Rules
    clip: float
    """Seconds of a clip."""
    window: float
    """Seconds of the clips' centres that are averaged."""
    frames: int
    """Of the video."""
    clips: int
    """That went through the network."""
    multi_label: bool = False
    error: str | None = None
    """Why the video could not be read to its end; None where it was."""

    @property
    def seconds(self) -> float:
        """Of the video."""
        return float(self.bounds[-1])


def read_timeline(
    recognizer: Recognizer,
    path: str | Path,
    *,
    window: float | None = None,
    hop: float | None = None,
    threshold: float = 0.5,
    shortest: float | None = None,
    background: tuple[str, ...] = (),
    fps: float | None = None,
    progress: Callable[[float, float | None], None] | None = None,
) -> Timeline:
    """What happens when in a video file.

    ``hop``: seconds between the starts of two clips, half a clip if not given. ``window``: probabilities are averaged
    over clips whose centres lie within so many seconds, those of one clip if not given. ``shortest``: seconds that a
    segment lasts at least, three quarters of a clip if not given. ``threshold`` and ``background``: see `Rules`.
    ``fps``: the rate of a folder of frames. ``progress`` is called with the seconds that are done and those there are,
    if the file says so. Three crops are taken where the recogniser's views have three; the number of clips in its
    views does not matter here.

    A video that cannot be read to its end gives what was there, and says so in ``error``. Raises ``FileNotFoundError``,
    ``VideoError`` where not one frame can be read, ``ValueError`` for settings that do not go together.
    """
    smoothing = Smoothing(window=window, threshold=threshold, shortest=shortest, background=background)
    smoothing.check(recognizer.labels)
    pre, crops = recognizer.preprocessing, recognizer.views.crops
    answers = Answers(recognizer.predict_views)
    at_once = max(1, recognizer.views_per_batch // crops)
    with Playback(path, fps=fps, clock=pre.fps is not None) as playing:
        cutter = Cutter(playing, Sampler(pre, crops), Windows(pre, hop=hop))

        def told(done: float) -> None:
            if progress is not None:
                progress(done, playing.duration)

        with closing(ahead(iter(cutter), depth=at_once)) as clips:
            answers.add(clips, at_once, told)
    if cutter.error is not None and not answers.rows:
        raise cutter.error
    timeline = answers.timeline(recognizer, cutter.footage(), smoothing, source=str(path))
    if progress is not None:
        progress(timeline.seconds, timeline.seconds)
    return timeline


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How answers become segments: see `read_timeline`. ``ValueError`` for a window that is not positive."""

    window: float | None = None
    threshold: float = 0.5
    shortest: float | None = None
    background: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.window is not None and not self.window > 0:
            raise ValueError(f"window must be positive, not {self.window}")
        self.rules(1.0)

    def check(self, labels: tuple[str, ...]) -> None:
        """``ValueError`` for a background that is no class."""
        if unknown := [name for name in self.background if name not in labels]:
            raise ValueError(f"background: {unknown[0]!r} is none of the classes that the weights know")

    def rules(self, clip: float) -> Rules:
        """Those for clips of so many seconds."""
        shortest = 0.75 * clip if self.shortest is None else self.shortest
        return Rules(threshold=self.threshold, shortest=shortest, background=self.background)


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What there was of a video that has been cut into clips."""

    frames: int
    end: float
    """Seconds from the first frame to the end of the last."""
    starts: tuple[float, ...]
    """Seconds at which clips begin, also those that the video ends in."""
    error: str | None = None
    """Why it could not be read to its end; None where it was."""


def _bounds(footage: Footage) -> NDArray[np.float64]:
    """Where stretches begin, and the end. A picture has one stretch of no length: a second is written for it."""
    starts, end = footage.starts, footage.end
    return np.array([*(start for start in starts if start < end or start == starts[0]), end if end else 1.0])


class Cutter:
    """Iterates over the clips of a video, once. What stopped it early is in ``error``."""

    def __init__(self, playing: Playback, sampler: Sampler, windows: Windows) -> None:
        self._playing, self._sampler, self._windows = playing, sampler, windows
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

    def footage(self) -> Footage:
        """Of what has been iterated over."""
        return Footage(
            frames=self._frames,
            end=self._last + last_interval(self._first, self._last, self._frames),
            starts=tuple(self._windows.starts),
            error=None if self.error is None else self.error.reason,
        )


class Answers:
    """What the network said of every clip. ``predict``: views (n, T, h, w, 3) → probabilities (n, C)."""

    def __init__(self, predict: Callable[[Tensor], NDArray[np.float32]]) -> None:
        self._predict = predict
        self._starts: list[float] = []
        self._ends: list[float] = []
        self.rows: list[NDArray[np.float32]] = []
        """(C,) of each clip: the mean over its crops."""

    def add(self, clips: Iterator[Window], at_once: int, progress: Callable[[float], None] | None = None) -> None:
        """Asks about clips, ``at_once`` of them together. ``progress`` is called with the seconds that are done."""
        while batch := list(islice(clips, at_once)):
            probabilities = self._predict(torch.cat([window.views for window in batch]))
            self.rows += list(average_views(probabilities.reshape(len(batch), len(batch[0].views), -1)))
            self._starts += [window.start for window in batch]
            self._ends += [window.end for window in batch]
            if progress is not None:
                progress(self._ends[-1])

    def timeline(self, recognizer: Recognizer, footage: Footage, smoothing: Smoothing, *, source: str) -> Timeline:
        """What they say of the video that the clips are of. There is at least one."""
        clip = float(np.mean(np.subtract(self._ends, self._starts)))
        window = clip if smoothing.window is None else smoothing.window
        bounds, rules = _bounds(footage), smoothing.rules(clip)
        probabilities = self._smoothed(bounds, window)
        labels, several = recognizer.labels, recognizer.card.multi_label
        return Timeline(
            source=source,
            labels=labels,
            bounds=bounds,
            probabilities=probabilities,
            segments=tuple(find_segments(bounds, probabilities, labels, rules, multi_label=several)),
            rules=rules,
            clip=clip,
            window=window,
            frames=footage.frames,
            clips=len(self.rows),
            multi_label=several,
            error=footage.error,
        )

    def _smoothed(self, bounds: NDArray[np.float64], window: float) -> NDArray[np.float32]:
        """(n, C): for each stretch the mean over the clips whose centres are no further from its own than half of
        ``window``; the nearest clip where there is none."""
        centres = (np.array(self._starts) + np.array(self._ends)) / 2
        order = np.argsort(centres, kind="stable")
        centres = centres[order]
        middles = (bounds[:-1] + bounds[1:]) / 2
        low = np.searchsorted(centres, middles - window / 2 - 1e-6)
        high = np.searchsorted(centres, middles + window / 2 + 1e-6, side="right")
        out = np.empty((len(middles), len(self.rows[0])), dtype=np.float32)
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            chosen = order[a:b] if b > a else order[[int(np.abs(centres - middles[i]).argmin())]]
            out[i] = np.mean([self.rows[number] for number in chosen.tolist()], axis=0)
        return out
