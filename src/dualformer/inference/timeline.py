"""Long videos: what happens when, from one pass over the file.

    timeline = Recognizer.load("weights.safetensors").timeline("film.mp4")
    for segment in timeline.segments: ...

Frames are thinned out, resized and cut as they are decoded; overlapping clips of them go through the network in
batches. What is kept in memory is one clip, the batch, and the answers: a number for each class and clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dualformer.inference.ahead import ahead
from dualformer.inference.segments import Rules, Segment, find_segments
from dualformer.inference.windows import Sampler, Window, Windows
from dualformer.video.container import VideoError
from dualformer.video.play import Playing, last_interval

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
    if unknown := [name for name in background if name not in recognizer.labels]:
        raise ValueError(f"background: {unknown[0]!r} is none of the classes that the weights know")
    if window is not None and not window > 0:
        raise ValueError(f"window must be positive, not {window}")
    rules = Rules(threshold=threshold, shortest=shortest or 0.0, background=background)
    pre, crops = recognizer.preprocessing, recognizer.views.crops
    answers = _Answers(len(recognizer.labels))
    at_once = max(1, recognizer.views_per_batch // crops)
    with Playing(path, fps=fps, clock=pre.fps is not None) as playing:
        cutter = _Cutter(playing, Sampler(pre, crops), Windows(pre, hop=hop))
        batch: list[Window] = []
        for each in ahead(iter(cutter), depth=at_once):
            batch.append(each)
            if len(batch) == at_once:
                answers.add(recognizer, batch)
                batch = []
                if progress is not None:
                    progress(answers.ends[-1], playing.duration)
        if batch:
            answers.add(recognizer, batch)
    if cutter.error is not None and not answers.rows:
        raise cutter.error
    end = cutter.last + last_interval(cutter.first, cutter.last, cutter.frames)
    clip = float(np.mean(np.subtract(answers.ends, answers.starts)))
    window = clip if window is None else window
    if shortest is None:
        rules = Rules(threshold=threshold, shortest=0.75 * clip, background=background)
    bounds = _bounds(cutter.windows.starts, end)
    probabilities = answers.smoothed(bounds, window)
    if progress is not None:
        progress(end, end)
    return Timeline(
        source=str(path),
        labels=recognizer.labels,
        bounds=bounds,
        probabilities=probabilities,
        segments=tuple(
            find_segments(bounds, probabilities, recognizer.labels, rules, multi_label=recognizer.card.multi_label)
        ),
        rules=rules,
        clip=clip,
        window=window,
        frames=cutter.frames,
        clips=len(answers.rows),
        multi_label=recognizer.card.multi_label,
        error=None if cutter.error is None else cutter.error.reason,
    )


def _bounds(starts: list[float], end: float) -> NDArray[np.float64]:
    """Where stretches begin, and the end. A picture has one stretch of no length: a second is written for it."""
    return np.array([*(start for start in starts if start < end or start == starts[0]), end if end else 1.0])


class _Cutter:
    """Iterates over the clips of a video. What stopped it early is in ``error``."""

    def __init__(self, playing: Playing, sampler: Sampler, windows: Windows) -> None:
        self._playing, self._sampler, self.windows = playing, sampler, windows
        self.frames = 0
        self.first = self.last = 0.0
        self.error: VideoError | None = None

    def __iter__(self) -> Iterator[Window]:
        try:
            for seconds, picture in self._playing:
                self.first = seconds if self.frames == 0 else self.first
                self.frames, self.last = self.frames + 1, seconds
                for sample in self._sampler.add(seconds, picture):
                    if window := self.windows.add(sample):
                        yield window
        except VideoError as error:
            self.error = error
        for sample in self._sampler.finish():
            if window := self.windows.add(sample):
                yield window
        if window := self.windows.finish():
            yield window


class _Answers:
    """What the network said of every clip."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.rows: list[NDArray[np.float32]] = []

    def add(self, recognizer: Recognizer, batch: list[Window]) -> None:
        crops = len(batch[0].views)
        probabilities = recognizer.predict_views(torch.cat([window.views for window in batch]))
        self.rows += list(probabilities.reshape(len(batch), crops, self._classes).mean(axis=1))
        self.starts += [window.start for window in batch]
        self.ends += [window.end for window in batch]

    def smoothed(self, bounds: NDArray[np.float64], window: float) -> NDArray[np.float32]:
        """(n, C): for each stretch the mean over the clips whose centres are no further from its own than half of
        ``window``; the nearest clip where there is none."""
        centres = (np.array(self.starts) + np.array(self.ends)) / 2
        order = np.argsort(centres, kind="stable")
        centres = centres[order]
        middles = (bounds[:-1] + bounds[1:]) / 2
        low = np.searchsorted(centres, middles - window / 2 - 1e-6)
        high = np.searchsorted(centres, middles + window / 2 + 1e-6, side="right")
        out = np.empty((len(middles), self._classes), dtype=np.float32)
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            chosen = order[a:b] if b > a else order[[int(np.abs(centres - middles[i]).argmin())]]
            out[i] = np.mean([self.rows[number] for number in chosen.tolist()], axis=0)
        return out
