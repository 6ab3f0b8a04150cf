"""Timelines of long videos: what happens when, from one pass over the file; and their tables and subtitles.

    timeline = Recognizer.load("weights.safetensors").timeline("film.mp4")
    for segment in timeline.segments: ...

Overlapping clips go through the network in batches as the file is decoded. What is kept in memory is one clip, the
batch, and the probabilities (S, C) of each clip. Legend: n stretches of time between the starts of clips, or of their
steps where the weights have a head that answers at every moment, C classes, S steps of a clip, 1 for other weights.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.files import csv_text, write_text
from dualformer.inference.segments import find_segments
from dualformer.inference.sliding_windows import VideoSummary, Window, WindowReader
from dualformer.inference.view_classifier import ViewClassifier, ahead
from dualformer.scoring.view_scores import average_views
from dualformer.segment import BACKGROUND, Segment
from dualformer.subtitles import sub_rip, web_vtt
from dualformer.text_encoding import json_text
from dualformer.video.memory_frames import ChannelOrder
from dualformer.video.playback import Playback
from dualformer.video.video_source import VideoSource, resolve_source, source_name
from dualformer.weights.segment_settings import SegmentSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """The probabilities and segments of a video over time."""

    source: str
    labels: tuple[str, ...]
    bounds: NDArray[np.float64]
    """(n + 1,): seconds from the first frame at which stretches begin, and the end of the video."""
    probabilities: NDArray[np.float32]
    """(n, C): of each stretch the mean over the clips, or their steps, around it."""
    segments: tuple[Segment, ...]
    settings: SegmentSettings
    window: float
    """Seconds over which clips, or their steps, are averaged, by their centres."""
    clip: float
    """Seconds of a clip."""
    frames: int
    """The number of frames of the video."""
    clips: int
    """The number of clips that went through the network."""
    multi_label: bool = False
    error: str | None = None
    """Why the video could not be read to its end, if so."""

    @property
    def seconds(self) -> float:
        """The length of the video."""
        return float(self.bounds[-1])

    def segments_with(self, *, threshold: float, shortest: float | None) -> list[Segment]:
        """Returns the segments that the same probabilities have with this threshold and shortest segment."""
        return find_segments(
            self.bounds,
            self.probabilities,
            self.labels,
            replace(self.settings, threshold=threshold, shortest=shortest),
            multi_label=self.multi_label,
        )


def read_timeline(
    classifier: ViewClassifier,
    video: VideoSource,
    *,
    window: float | None = None,
    hop: float | None = None,
    threshold: float | None = None,
    shortest: float | None = None,
    background: tuple[str, ...] | None = None,
    fps: float | None = None,
    channel_order: ChannelOrder = "rgb",
    progress: Callable[[float, float | None], None] | None = None,
) -> Timeline:
    """Returns what happens when in a video, which may be anything that `VideoSource` lists.

    ``hop``, ``window``, ``threshold``, ``shortest`` and ``background``: see `SegmentSettings`; what is not given is as
    the card of the weights says, or as it is there. ``fps``: the rate of a folder of frames or of frames in memory;
    without it their times are their numbers. ``channel_order``: of arrays. ``progress`` is called with the seconds that
    are done and those there are, if the file says so. Three crops are taken where the classifier's views have three;
    the number of clips in its views does not matter here.

    Of a video that cannot be read to its end, it covers what was read, and has an ``error``. Raises
    ``FileNotFoundError``, ``VideoError`` where no frame can be read, ``ValueError`` for settings that do not fit.
    """
    settings = timeline_settings(
        classifier, hop=hop, window=window, threshold=threshold, shortest=shortest, background=background
    )
    scores, summary = read_window_scores(
        classifier, video, hop=settings.hop, fps=fps, channel_order=channel_order, progress=progress
    )
    timeline = scores.timeline(classifier, summary, settings, source=source_name(video))
    if progress is not None:
        progress(timeline.seconds, timeline.seconds)
    return timeline


def timeline_settings(classifier: ViewClassifier, **given: Any) -> SegmentSettings:
    """Returns the settings of the card with those that are ``given`` and not None. Raises ``ValueError`` for background
    that is none of the classes."""
    settings = classifier.card.segment_settings.but(**given)
    settings.check_labels(classifier.labels)
    return settings


def read_window_scores(
    classifier: ViewClassifier,
    video: VideoSource,
    *,
    hop: float | None = None,
    fps: float | None = None,
    channel_order: ChannelOrder = "rgb",
    progress: Callable[[float, float | None], None] | None = None,
) -> tuple["WindowScores", VideoSummary]:
    """Returns the probabilities of every clip of a video, which timelines of any settings but ``hop`` are made of.

    Arguments and errors are those of `read_timeline`.
    """
    pre, crops = classifier.preprocessing, classifier.views.crops
    scores, batch_size = WindowScores.of(classifier), clips_per_batch(classifier)
    source = resolve_source(video, fps=fps, channel_order=channel_order)
    with Playback(source, fps=fps, clock=pre.fps is not None) as playing:
        reader = WindowReader(playing, pre, crops=crops, hop=hop)

        def tell(done: float) -> None:
            if progress is not None:
                progress(done, playing.duration)

        with closing(ahead(iter(reader), depth=batch_size)) as windows:
            scores.add(windows, batch_size, tell)
    if reader.error is not None and not scores.rows:
        raise reader.error
    return scores, reader.summary()


def clips_per_batch(classifier: ViewClassifier) -> int:
    """Returns how many clips, with all their crops, go through the network together."""
    return max(1, classifier.views_per_batch // classifier.views.crops)


class WindowScores:
    """Collects the probabilities of every clip. ``predict``: views (n, T, h, w, 3) → probabilities (n, C), or of the
    steps in time of each view (n, S, C)."""

    def __init__(self, predict: Callable[[Tensor], NDArray[np.float32]]) -> None:
        self._predict = predict
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._lasts: list[float] = []
        self.rows: list[NDArray[np.float32]] = []
        """(S, C) of each clip: the mean over its crops."""

    @classmethod
    def of(cls, classifier: ViewClassifier) -> "WindowScores":
        """Returns a collection that ``classifier`` fills, at every step where it answers so."""
        return cls(classifier.predict_steps if classifier.answers_steps else classifier.predict_views)

    def add(self, windows: Iterator[Window], batch_size: int, progress: Callable[[float], None] | None = None) -> None:
        """Predicts clips, ``batch_size`` at a time. ``progress`` is called with the seconds that are done."""
        while batch := list(islice(windows, batch_size)):
            probabilities = self._predict(torch.cat([window.views for window in batch]))
            rows = average_views(probabilities.reshape(len(batch), len(batch[0].views), -1))
            self.take(batch, rows.reshape(len(batch), -1, probabilities.shape[-1]))
            if progress is not None:
                progress(self._ends[-1])

    def take(self, windows: Iterable[Window], rows: Iterable[NDArray[np.float32]]) -> None:
        """Takes the probabilities (S, C) that clips have; of these the ``views`` do not matter."""
        for window, row in zip(windows, rows, strict=True):
            self._starts.append(window.start)
            self._ends.append(window.end)
            self._lasts.append(window.lasts)
            self.rows.append(row)

    def every(self, step: int, video: VideoSummary) -> tuple["WindowScores", VideoSummary]:
        """Returns what is read with a hop of ``step`` times the hop: each ``step``-th clip, and the last one."""
        starts = video.starts[::step]
        kept = {*starts, self._starts[-1]}
        some = WindowScores(self._predict)
        for start, end, lasts, row in zip(self._starts, self._ends, self._lasts, self.rows, strict=True):
            if start in kept:
                some._starts.append(start)
                some._ends.append(end)
                some._lasts.append(lasts)
                some.rows.append(row)
        return some, replace(video, starts=starts)

    @property
    def clip_seconds(self) -> float:
        """How long a clip lasts, on average."""
        return float(np.mean(np.subtract(self._ends, self._starts)))

    def timeline(
        self, classifier: ViewClassifier, video: VideoSummary, settings: SegmentSettings, *, source: str
    ) -> Timeline:
        """Returns the timeline of the ``video`` that the clips are of. There is at least one."""
        clip, steps = self.clip_seconds, len(self.rows[0])
        window = clip / steps if settings.window is None else settings.window
        shortest = (0.75 if steps == 1 else _SHORTEST_OF_STEPS) * clip
        settings = replace(settings, shortest=shortest if settings.shortest is None else settings.shortest)
        labels, multi_label = classifier.labels, classifier.card.multi_label
        if classifier.card.config.head == "temporal" and BACKGROUND in labels:
            settings = replace(settings, background=tuple(dict.fromkeys((*settings.background, BACKGROUND))))
        bounds = _bounds(video) if steps == 1 else _step_bounds(self._step_edges()[:, :-1].ravel(), video, window / 4)
        timeline = Timeline(
            source=source,
            labels=labels,
            bounds=bounds,
            probabilities=self._smoothed(bounds, window),
            segments=(),
            settings=settings,
            window=window,
            clip=clip,
            frames=video.frames,
            clips=len(self.rows),
            multi_label=multi_label,
            error=video.error,
        )
        found = timeline.segments_with(threshold=settings.threshold, shortest=settings.shortest)
        return replace(timeline, segments=tuple(found))

    def _step_edges(self) -> NDArray[np.float64]:
        """Returns (clips, S + 1): the seconds at which the steps of each clip begin, and the last one ends."""
        return np.linspace(self._starts, np.add(self._starts, self._lasts), len(self.rows[0]) + 1, axis=1)

    def _smoothed(self, bounds: NDArray[np.float64], window: float) -> NDArray[np.float32]:
        """Returns (n, C): for each stretch the mean over the clips, or their steps, whose centres are within half of
        ``window`` of its own; the nearest one where there is none."""
        if len(self.rows[0]) == 1:
            centres = (np.array(self._starts) + np.array(self._ends)) / 2
        else:
            edges = self._step_edges()
            centres = ((edges[:, :-1] + edges[:, 1:]) / 2).ravel()
        rows = np.concatenate(self.rows)
        order = np.argsort(centres, kind="stable")
        centres = centres[order]
        middles = (bounds[:-1] + bounds[1:]) / 2
        low = np.searchsorted(centres, middles - window / 2 - 1e-6)
        high = np.searchsorted(centres, middles + window / 2 + 1e-6, side="right")
        out = np.empty((len(middles), rows.shape[1]), dtype=np.float32)
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            chosen = order[a:b] if b > a else order[[int(np.abs(centres - middles[i]).argmin())]]
            out[i] = np.mean(rows[chosen], axis=0)
        return out


_SHORTEST_OF_STEPS = 0.5
"""The part of a clip that a segment lasts at least, where the weights answer at every step."""


def _step_bounds(starts: NDArray[np.float64], video: VideoSummary, apart: float) -> NDArray[np.float64]:
    """Returns the starts of steps that are at least ``apart`` seconds from one another, and the end."""
    kept: list[float] = []
    for start in np.sort(starts).tolist():
        if not kept or (start < video.end and start - kept[-1] >= apart):
            kept.append(start)
    return np.array([*kept, video.end if video.end else kept[-1] + 1.0])


def _bounds(video: VideoSummary) -> NDArray[np.float64]:
    """Returns the starts of stretches, and the end. An image counts as one second."""
    starts, end = video.starts, video.end
    return np.array([*(start for start in starts if start < end or start == starts[0]), end if end else 1.0])


_BEST = 3
"""Classes in the table for every stretch of time."""


def format_time(seconds: float, *, digits: int = 1) -> str:
    """Returns seconds as ``1:02:03.4``; hours only where there are any."""
    units = round(max(0.0, seconds) * 10**digits)
    whole, part = divmod(units, 10**digits)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest:02d}" + (f".{part:0{digits}d}" if digits else "")


def segments_csv(segments: Iterable[Segment]) -> str:
    """Returns a CSV table with columns start, end (seconds), label, probability."""
    rows = ([f"{s.start:.3f}", f"{s.end:.3f}", s.label, f"{s.probability:.6f}"] for s in segments)
    return csv_text(["start", "end", "label", "probability"], rows)


def windows_csv(timeline: Timeline) -> str:
    """Returns a CSV table of the smoothed probabilities of the likeliest classes of every stretch of time."""
    best = min(_BEST, len(timeline.labels))
    header = ["start", "end"]
    for place in range(1, best + 1):
        header += ["label", "probability"] if place == 1 else [f"label_{place}", f"probability_{place}"]

    def rows() -> Iterable[list[str]]:
        for i, row in enumerate(timeline.probabilities):
            order = np.argsort(-row, kind="stable")[:best].tolist()
            answers = [text for c in order for text in (timeline.labels[c], f"{row[c]:.6f}")]
            yield [f"{timeline.bounds[i]:.3f}", f"{timeline.bounds[i + 1]:.3f}", *answers]

    return csv_text(header, rows())


def timeline_json(timeline: Timeline) -> dict[str, object]:
    """Returns the segments and how they were found, without the probabilities of every stretch."""
    return {
        "source": timeline.source,
        "seconds": round(timeline.seconds, 3),
        "frames": timeline.frames,
        "clips": timeline.clips,
        "clip_seconds": round(timeline.clip, 3),
        "window_seconds": round(timeline.window, 3),
        "threshold": timeline.settings.threshold,
        "shortest_seconds": round(timeline.settings.shortest or 0.0, 3),
        "background": list(timeline.settings.background),
        "multi_label": timeline.multi_label,
        "error": timeline.error,
        "segments": [
            asdict(s) | {"start": round(s.start, 3), "end": round(s.end, 3), "probability": round(s.probability, 6)}
            for s in timeline.segments
        ],
    }


TIMELINE_ENDINGS = (".csv", ".json", ".windows.csv", ".vtt", ".srt", ".png", ".labels.mp4")
"""Of the files of a timeline, those of its picture and film included."""


def clashing_timelines(stems: Sequence[str]) -> tuple[str, str] | None:
    """Returns two videos whose timelines would be written to one file, such as ``x`` and ``x.windows``, if any are.

    ``stems``: the names of the videos without extension.
    """
    taken: dict[str, int] = {}
    for place, stem in enumerate(stems):
        for ending in TIMELINE_ENDINGS:
            if (before := taken.setdefault(f"{stem}{ending}", place)) != place:
                return stems[before], stem
    return None


def write_timeline_files(timeline: Timeline, folder: Path, stem: str) -> list[Path]:
    """Writes ``STEM.csv``, ``STEM.json``, ``STEM.windows.csv``, ``STEM.vtt`` and ``STEM.srt``, whole or not at all."""
    texts = {
        ".csv": segments_csv(timeline.segments),
        ".json": json_text(timeline_json(timeline), indent=2) + "\n",
        ".windows.csv": windows_csv(timeline),
        ".vtt": web_vtt(timeline.segments),
        ".srt": sub_rip(timeline.segments),
    }
    for ending, text in texts.items():
        write_text(folder / f"{stem}{ending}", text)
    return [folder / f"{stem}{ending}" for ending in texts]
