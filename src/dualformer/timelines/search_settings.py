"""Finds the settings of timelines that do best on videos whose segments are known.

The network sees each clip once: all settings are tried on the same probabilities. What they are good for is seen on
other videos than those that they were found on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.inference.timeline import Timeline
from dualformer.inference.view_classifier import ViewClassifier
from dualformer.scoring.segment_metrics import FrameCounts, SegmentCounts, frame_counts, segment_counts
from dualformer.scoring.segment_summary import SegmentScoring
from dualformer.timelines.evaluate_timelines import ScoredVideo, score_video
from dualformer.video.container import VideoError
from dualformer.video.playback import Playback
from dualformer.weights.segment_settings import SegmentSettings

Objective = Literal["f1", "frame_accuracy"]
"""What settings are searched for: segmental F1 at an overlap of one half, or the share of frames that are right."""

_FEWEST_FRAMES = 4
"""Of a clip that has quarters."""


@dataclass(frozen=True, kw_only=True)
class SearchGrid:
    """The values that are tried, those that are taken by default first: of equally good ones the first is taken."""

    hops: tuple[int, ...] = (2, 1, 3)
    """Quarters of a clip. Networks of fewer than four frames look at every one."""
    windows: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0, 3.0, 4.0)
    """Clips."""
    thresholds: tuple[float, ...] = (
        0.5,
        *(round(0.05 * i, 2) for i in (9, 11, 8, 12, 7, 13, 6, 14, 5, 15)),
        0.2,
        0.8,
        0.15,
        0.85,
        0.1,
        0.9,
        0.05,
        0.95,
        0.0,
    )
    shortest: tuple[float, ...] = (0.75, 0.5, 1.0, 0.25, 1.5, 0.0, 2.0, 3.0)
    """Clips."""

    @classmethod
    def for_steps(cls, steps: int) -> "SearchGrid":
        """Returns the grid for weights that answer at so many steps in time of a clip; 1: once for all of it."""
        if steps == 1:
            return cls()
        return cls(windows=(1 / steps, *cls.windows), shortest=(0.5, *(each for each in cls.shortest if each != 0.5)))


@dataclass(frozen=True, kw_only=True)
class FoundSettings:
    """The best settings of a search."""

    settings: SegmentSettings
    step: int
    """How many of the hops that were read make up its hop."""
    objective: Objective
    score: float
    before: float
    """The score of the default settings on the same videos."""
    tried: int


def search_settings(
    classifier: ViewClassifier,
    scored: Sequence[ScoredVideo],
    *,
    objective: Objective = "f1",
    scoring: SegmentScoring | None = None,
    grid: SearchGrid | None = None,
    progress: Callable[[int], None] | None = None,
) -> FoundSettings:
    """Returns the settings with the best ``objective`` over the videos ``scored``, which `score_for_search` returned.

    Window, threshold and shortest segment are tried in all combinations at one hop, then other hops with the best of
    them, and so on until nothing is better any more. The background is that of ``scoring``, as far as the weights know
    it. ``grid``: `SearchGrid.for_steps` if not given. ``progress`` is called with how many settings were tried. Raises
    ``ValueError`` without videos.
    """
    if not scored:
        raise ValueError("settings of timelines need a video to be found on")
    grid = grid or SearchGrid.for_steps(len(scored[0].scores.rows[0]))
    search = _Search(classifier, scored, objective, scoring or SegmentScoring())
    hops = grid.hops if classifier.preprocessing.frames >= _FEWEST_FRAMES else (1,)
    hop, window, threshold, shortest = hops[0], grid.windows[0], grid.thresholds[0], grid.shortest[0]
    before = best = search.score(hop, window, threshold, shortest)
    while True:
        start = best
        for three in product(grid.windows, grid.thresholds, grid.shortest):
            if (score := search.score(hop, *three)) > best + 1e-9:
                best, (window, threshold, shortest) = score, three
            if progress is not None:
                progress(search.tried)
        for other in hops:
            if (score := search.score(other, window, threshold, shortest)) > best + 1e-9:
                best, hop = score, other
        if best == start:
            break
    return FoundSettings(
        settings=search.settings(hop, window, threshold, shortest),
        step=hop,
        objective=objective,
        score=best,
        before=before,
        tried=search.tried,
    )


def score_for_search(
    classifier: ViewClassifier,
    videos: Sequence[AnnotatedVideo],
    *,
    on_video: Callable[[ScoredVideo, int, int], None] | None = None,
    progress: Callable[[float, float | None], None] | None = None,
) -> list[ScoredVideo]:
    """Reads videos with the smallest hop that `search_settings` tries, a quarter of a clip of the first one.

    ``on_video`` and ``progress``: see `evaluate_timelines`. Raises ``DatasetError`` for a video that cannot be read.
    """
    scored: list[ScoredVideo] = []
    hop = None
    if videos and classifier.preprocessing.frames >= _FEWEST_FRAMES:
        hop = clip_seconds(classifier, videos[0]) / 4
    for video in videos:
        scored.append(score_video(classifier, video, hop=hop, progress=progress))
        if on_video is not None:
            on_video(scored[-1], len(scored), len(videos))
    return scored


def clip_seconds(classifier: ViewClassifier, video: AnnotatedVideo) -> float:
    """Returns how long a clip lasts: by the clock of the preprocessing, or else by the frame rate of ``video``.

    Raises ``DatasetError`` where that cannot be read.
    """
    pre = classifier.preprocessing
    if pre.fps is not None:
        return pre.frames * pre.stride / pre.fps
    try:
        with Playback(video.path, fps=video.fps) as playing:
            rate = playing.rate
    except (VideoError, FileNotFoundError) as error:
        raise DatasetError(str(error)) from error
    if not rate:
        raise DatasetError(f"{video.path}: its frame rate is not known, and so not how long a clip of it is")
    return pre.frames * pre.stride / rate


class _Search:
    """Scores settings, each once. Times are in the units of `SearchGrid`."""

    def __init__(
        self,
        classifier: ViewClassifier,
        scored: Sequence[ScoredVideo],
        objective: Objective,
        scoring: SegmentScoring,
    ) -> None:
        self._classifier, self._scored, self._objective, self._scoring = classifier, scored, objective, scoring
        self._clip = clip_seconds(classifier, scored[0].video)
        self._background = tuple(name for name in scoring.background if name in classifier.labels)
        self._known: dict[tuple[int, float, float, float], float] = {}
        self._timelines: dict[tuple[int, float], list[Timeline]] = {}

    @property
    def tried(self) -> int:
        return len(self._known)

    def settings(self, hop: int, window: float, threshold: float, shortest: float) -> SegmentSettings:
        return SegmentSettings(
            hop=None if self._classifier.preprocessing.frames < _FEWEST_FRAMES else round(hop * self._clip / 4, 6),
            window=round(window * self._clip, 6),
            threshold=threshold,
            shortest=round(shortest * self._clip, 6),
            background=self._background,
        )

    def score(self, hop: int, window: float, threshold: float, shortest: float) -> float:
        key = hop, window, threshold, shortest
        if key not in self._known:
            self._known[key] = self._score(self.settings(*key), self._smoothed(hop, window))
        return self._known[key]

    def _smoothed(self, hop: int, window: float) -> list[Timeline]:
        """Returns the timelines whose probabilities are those of a hop and a window."""
        if (hop, window) not in self._timelines:
            settings = self.settings(hop, window, 0.5, 0.0)
            self._timelines[hop, window] = [
                each.timeline(self._classifier, settings, step=hop) for each in self._scored
            ]
        return self._timelines[hop, window]

    def _score(self, settings: SegmentSettings, timelines: Sequence[Timeline]) -> float:
        quiet, counts, frames = self._scoring.quiet, SegmentCounts(), FrameCounts()
        for each, timeline in zip(self._scored, timelines, strict=True):
            found = timeline.segments_with(threshold=settings.threshold, shortest=settings.shortest)
            truth = each.video.segments
            if self._objective == "f1":
                counts += segment_counts(truth, found, overlap=0.5, background=quiet)
            else:
                seconds, rate = each.seconds(timeline), self._scoring.rate
                frames += frame_counts(truth, found, seconds=seconds, rate=rate, background=quiet)
        return counts.f1 if self._objective == "f1" else frames.accuracy
