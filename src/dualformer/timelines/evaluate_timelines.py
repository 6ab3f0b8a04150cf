"""Reads the timelines of videos whose segments are known, and judges them.

recognizer = Recognizer.load("weights.safetensors")
evaluation = evaluate_timelines(recognizer, read_segments("segments.csv"))
evaluation.figures["f1_at"]["50"]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from dualformer._version import __version__
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.evaluation.label_matching import match_classes
from dualformer.inference.sliding_windows import VideoSummary
from dualformer.inference.timeline import Timeline, WindowScores, read_window_scores
from dualformer.inference.view_classifier import ViewClassifier
from dualformer.scoring.segment_summary import (
    ClassSegments,
    SegmentScoring,
    VideoFigures,
    class_segments,
    segment_summary,
    video_figures,
)
from dualformer.video.container import VideoError
from dualformer.video.file_slices import is_frame_folder
from dualformer.weights.segment_settings import SegmentSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredVideo:
    """A video with its true segments, and what the network says of every clip of it."""

    video: AnnotatedVideo
    """Its segments have the labels of the weights."""
    scores: WindowScores
    summary: VideoSummary

    def timeline(self, classifier: ViewClassifier, settings: SegmentSettings, *, step: int = 1) -> Timeline:
        """Returns the timeline of these settings. ``step``: only each ``step``-th clip is used."""
        scores, summary = self.scores.every(step, self.summary) if step > 1 else (self.scores, self.summary)
        return scores.timeline(classifier, summary, settings, source=str(self.video.path))

    def seconds(self, timeline: Timeline) -> float:
        """Returns the length of the video. Of one that breaks off it is the one that its file of segments says."""
        return max(timeline.seconds, self.video.seconds or 0.0) if timeline.error else timeline.seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedVideo:
    """A video with its true segments, its timeline, and how good it is."""

    video: AnnotatedVideo
    timeline: Timeline
    seconds: float
    figures: VideoFigures


@dataclass(frozen=True, kw_only=True, eq=False)
class TimelineEvaluation:
    """How good timelines are."""

    videos: tuple[JudgedVideo, ...]
    classes: tuple[ClassSegments, ...]
    settings: SegmentSettings
    scoring: SegmentScoring
    figures: dict[str, Any]
    """`segment_summary`, and how it was measured; ready for JSON."""


def evaluate_timelines(
    classifier: ViewClassifier,
    videos: Sequence[AnnotatedVideo],
    *,
    settings: SegmentSettings | None = None,
    scoring: SegmentScoring | None = None,
    label_map: Mapping[str, str] | None = None,
    source: str = "the data",
    on_video: Callable[[JudgedVideo, int, int], None] | None = None,
    progress: Callable[[float, float | None], None] | None = None,
) -> TimelineEvaluation:
    """Reads the timelines of ``videos`` and judges their segments.

    ``settings``: of timelines; those of the weights if not given. ``scoring``: how they are judged; its background is
    that of the settings if not given. ``label_map``: label of the segments → label of the weights, where their names
    differ. ``source``: where the videos come from, in words. ``on_video`` is called with each video that is judged,
    its number from 1, and how many there are; ``progress`` with the seconds read of the one at hand and its length.

    A video that breaks off is judged by what was read of it. Raises ``ClassMismatchError`` for true labels that the
    weights do not know, ``DatasetError`` for a video that cannot be read at all, and where no video has a segment.
    """
    settings = settings or classifier.card.segment_settings
    scoring = scoring or SegmentScoring(background=settings.background)
    settings.check_labels(classifier.labels)
    judged: list[JudgedVideo] = []
    for video in with_labels_of_weights(classifier, videos, scoring=scoring, label_map=label_map, source=source):
        scored = score_video(classifier, video, hop=settings.hop, progress=progress)
        judged.append(judge_video(classifier, scored, settings, scoring))
        if on_video is not None:
            on_video(judged[-1], len(judged), len(videos))
    return summarize_timelines(judged, settings, scoring, source=source)


def with_labels_of_weights(
    classifier: ViewClassifier,
    videos: Sequence[AnnotatedVideo],
    *,
    scoring: SegmentScoring,
    label_map: Mapping[str, str] | None = None,
    source: str = "the data",
) -> list[AnnotatedVideo]:
    """Returns the videos with the weights' labels on their segments. Labels that do not count as actions may be others.

    Errors: as `evaluate_timelines`.
    """
    labels = dict.fromkeys(each.label for video in videos for each in video.segments if each.label not in scoring.quiet)
    known = [name for name in classifier.labels if name in labels]  # an order that is told of nowhere
    acting = tuple(dict.fromkeys([*known, *labels]))
    if not acting:
        raise DatasetError(f"{source}: no video has a segment of something that happens")
    places = match_classes(acting, classifier.labels, source=source, label_map=label_map)
    names = {label: classifier.labels[place] for label, place in zip(acting, places.tolist(), strict=True)}
    return [
        replace(
            video, segments=tuple(replace(each, label=names.get(each.label, each.label)) for each in video.segments)
        )
        for video in videos
    ]


def score_video(
    classifier: ViewClassifier,
    video: AnnotatedVideo,
    *,
    hop: float | None = None,
    progress: Callable[[float, float | None], None] | None = None,
) -> ScoredVideo:
    """Returns what the network says of every clip of a video, ``hop`` seconds apart; None: half a clip.

    Raises ``DatasetError`` for a video that cannot be read.
    """
    rate = video.fps if is_frame_folder(video.path) else None  # files know the times of their frames
    try:
        scores, summary = read_window_scores(classifier, video.path, hop=hop, fps=rate, progress=progress)
    except (VideoError, FileNotFoundError) as error:
        where = f" ({video.lines[0]})" if video.lines else ""
        raise DatasetError(f"{error}{where}") from error
    return ScoredVideo(video=video, scores=scores, summary=summary)


def judge_video(
    classifier: ViewClassifier,
    scored: ScoredVideo,
    settings: SegmentSettings,
    scoring: SegmentScoring,
    *,
    step: int = 1,
) -> JudgedVideo:
    """Returns the timeline of a video, and how good it is. ``step``: see `ScoredVideo.timeline`."""
    timeline = scored.timeline(classifier, settings, step=step)
    seconds = scored.seconds(timeline)
    figures = video_figures(scored.video.segments, timeline.segments, seconds, scoring)
    return JudgedVideo(video=scored.video, timeline=timeline, seconds=seconds, figures=figures)


def summarize_timelines(
    judged: Sequence[JudgedVideo], settings: SegmentSettings, scoring: SegmentScoring, *, source: str = "the data"
) -> TimelineEvaluation:
    """Returns the figures of all videos together."""
    truth = [each.video.segments for each in judged]
    predicted = [each.timeline.segments for each in judged]
    summary = segment_summary(truth, predicted, [each.seconds for each in judged], scoring)
    measured = {
        "videos": len(judged),
        "seconds": round(sum(each.seconds for each in judged), 3),
        "source": source,
        "unread": sum(each.timeline.error is not None for each in judged),
        "timeline": settings.to_dict(),
        "scoring": {
            "background": list(scoring.background),
            "overlaps": list(scoring.overlaps),
            "protocol": scoring.protocol,
            "ambiguous": scoring.ambiguous,
            "frames_per_second": scoring.rate,
        },
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
    }
    return TimelineEvaluation(
        videos=tuple(judged),
        classes=tuple(class_segments(truth, predicted, scoring)),
        settings=settings,
        scoring=scoring,
        figures=summary | measured,
    )
