"""All figures of predicted segments together, ready for JSON, and those of every class and every video."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualformer.scoring.intervals import bootstrap_interval
from dualformer.scoring.segment_metrics import (
    FrameCounts,
    SegmentCounts,
    actions,
    boundary_errors,
    edit_score,
    frame_counts,
    segment_counts,
)
from dualformer.scoring.temporal_detection import OVERLAPS, Protocol, mean_average_precision, rank_detections
from dualformer.segment import Segment

F1_OVERLAPS = (0.1, 0.25, 0.5)
_MATCHED = 0.5
"""The overlap from which on boundaries are compared, and of the F1 and precision of classes."""


@dataclass(frozen=True, kw_only=True)
class SegmentScoring:
    """How segments are judged."""

    background: tuple[str, ...] = ()
    """Labels that mean that nothing happens, in truth and prediction."""
    overlaps: tuple[float, ...] = OVERLAPS
    """Temporal overlaps over which average precision is averaged."""
    protocol: Protocol = "activitynet"
    """How predictions are matched for average precision: see `rank_detections`."""
    ambiguous: str | None = None
    """A true label that is no class; see `rank_detections`. For all other figures nothing happens there."""
    rate: float = 10.0
    """Frames a second, of accuracy by frame."""

    @property
    def quiet(self) -> tuple[str, ...]:
        """Labels that do not count as actions."""
        return self.background if self.ambiguous is None else (*self.background, self.ambiguous)


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFigures:
    """How good the segments of one video are."""

    counts: tuple[SegmentCounts, ...]
    """At each of `F1_OVERLAPS`."""
    edit: float
    frames: FrameCounts
    boundary_errors: NDArray[np.float64]
    """Seconds, signed; see `boundary_errors`."""
    unmatched: int

    @property
    def boundary_error(self) -> float | None:
        """Seconds by which boundaries are off in the median; None where none is matched."""
        return float(np.median(np.abs(self.boundary_errors))) if len(self.boundary_errors) else None


@dataclass(frozen=True, kw_only=True)
class ClassSegments:
    """How good the segments of one class are."""

    label: str
    segments: int
    predicted: int
    right: int
    """Predicted segments that match a true one at an overlap of one half."""
    f1: float
    average_precision: float | None
    """At an overlap of one half; None of a class without a true segment."""


def video_figures(
    truth: Sequence[Segment], predicted: Sequence[Segment], seconds: float, scoring: SegmentScoring
) -> VideoFigures:
    """Returns the figures of one video of ``seconds``."""
    quiet = scoring.quiet
    boundaries = boundary_errors(truth, predicted, overlap=_MATCHED, background=quiet)
    return VideoFigures(
        counts=tuple(segment_counts(truth, predicted, overlap=each, background=quiet) for each in F1_OVERLAPS),
        edit=edit_score(truth, predicted, background=quiet),
        frames=frame_counts(truth, predicted, seconds=seconds, rate=scoring.rate, background=quiet),
        boundary_errors=boundaries.errors,
        unmatched=boundaries.unmatched,
    )


def segment_summary(
    truth: Sequence[Sequence[Segment]],
    predicted: Sequence[Sequence[Segment]],
    seconds: Sequence[float],
    scoring: SegmentScoring = SegmentScoring(),
) -> dict[str, Any]:
    """Returns all figures of several videos, whose lengths are ``seconds``.

    ``mean_average_precision`` over classes and ``scoring.overlaps``, and ``average_precision_at`` each of them and at
    0.5; ``f1_at`` 10, 25 and 50 % of all videos together, ``edit`` the mean over videos, ``frame_accuracy`` of all
    frames and ``action_frame_accuracy`` of those in which something happens; ``boundary_error``: seconds by which
    starts and ends are off, in the median and on average, of true segments that are matched at an overlap of one half,
    with the number of these and of the others. ``intervals`` are 95 % by bootstrap over videos, None for fewer than
    five.

    Errors: ``ValueError`` where there is no true segment, or the numbers of videos differ.
    """
    if not len(truth) == len(predicted) == len(seconds):
        raise ValueError(
            f"truth, prediction and seconds are of {len(truth)}, {len(predicted)} and {len(seconds)} videos"
        )
    videos = [video_figures(*each, scoring) for each in zip(truth, predicted, seconds, strict=True)]
    overlaps = tuple(sorted({*scoring.overlaps, _MATCHED}))
    detections = rank_detections(
        _without(truth, scoring.background),
        _without(predicted, scoring.background),
        overlaps=overlaps,
        protocol=scoring.protocol,
        ambiguous=scoring.ambiguous,
    )
    averaged = [overlaps.index(each) for each in scoring.overlaps]
    precision = mean_average_precision(detections)
    errors = np.abs(np.concatenate([each.boundary_errors for each in videos]))
    total = sum((each.frames for each in videos), FrameCounts())
    f1 = {_percent(k): _total(videos, k).f1 for k in range(len(F1_OVERLAPS))}

    def interval(statistic: Callable[[NDArray[np.float64]], float], draws: int = 1000) -> list[float] | None:
        bounds = bootstrap_interval(statistic, len(videos), draws=draws)
        return None if bounds is None else list(bounds)

    right, wrong, missed = (
        np.array([getattr(each.counts[-1], name) for each in videos]) for name in ("right", "wrong", "missed")
    )
    good, frames = (np.array([getattr(each.frames, name) for each in videos]) for name in ("right", "frames"))
    edits = np.array([each.edit for each in videos])
    return {
        "mean_average_precision": float(precision[averaged].mean()),
        "average_precision_at": {f"{each:g}": float(p) for each, p in zip(overlaps, precision, strict=True)},
        "f1_at": f1,
        "edit": float(edits.mean()),
        "frame_accuracy": total.accuracy,
        "action_frame_accuracy": total.action_accuracy,
        "boundary_error": {
            "median": float(np.median(errors)) if len(errors) else None,
            "mean": float(errors.mean()) if len(errors) else None,
            "matched": len(errors) // 2,
            "unmatched": sum(each.unmatched for each in videos),
        },
        "segments": sum(len(actions(each, scoring.quiet)) for each in truth),
        "segments_predicted": sum(len(actions(each, scoring.quiet)) for each in predicted),
        "intervals": {
            "mean_average_precision": interval(
                lambda weights: float(mean_average_precision(detections, weights)[averaged].mean()), draws=200
            ),
            "f1_at_50": interval(
                lambda weights: float(
                    2 * weights @ right / max(1e-12, 2 * weights @ right + weights @ wrong + weights @ missed)
                )
            ),
            "edit": interval(lambda weights: float(weights @ edits / weights.sum())),
            "frame_accuracy": interval(lambda weights: float(weights @ good / (weights @ frames))),
        },
    }


def class_segments(
    truth: Sequence[Sequence[Segment]], predicted: Sequence[Sequence[Segment]], scoring: SegmentScoring
) -> list[ClassSegments]:
    """Returns the figures of every class of which there is a true or a predicted segment, by name."""
    detections = {
        each.label: float(each.average_precision()[0])
        for each in rank_detections(
            _without(truth, scoring.background),
            _without(predicted, scoring.background),
            overlaps=(_MATCHED,),
            protocol=scoring.protocol,
            ambiguous=scoring.ambiguous,
        )
    }
    labels = {each.label for videos in (truth, predicted) for video in videos for each in video} - set(scoring.quiet)
    rows: list[ClassSegments] = []
    for label in sorted(labels):
        own = [[[each for each in video if each.label == label] for video in videos] for videos in (truth, predicted)]
        counts = sum((segment_counts(*each, overlap=_MATCHED) for each in zip(*own, strict=True)), SegmentCounts())
        rows.append(
            ClassSegments(
                label=label,
                segments=counts.right + counts.missed,
                predicted=counts.right + counts.wrong,
                right=counts.right,
                f1=counts.f1,
                average_precision=detections.get(label),
            )
        )
    return rows


def _percent(place: int) -> str:
    return f"{F1_OVERLAPS[place]:.0%}".removesuffix("%")


def _total(videos: Sequence[VideoFigures], place: int) -> SegmentCounts:
    return sum((each.counts[place] for each in videos), SegmentCounts())


def _without(videos: Sequence[Sequence[Segment]], background: Collection[str]) -> list[list[Segment]]:
    return [[each for each in video if each.label not in background] for video in videos]
