"""Writes how good timelines are into a folder: figures, tables of videos, classes and segments, and a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.segment_csv import write_segment_csv
from dualformer.files import lock_for_writing, write_csv, write_json
from dualformer.scoring.segment_summary import F1_OVERLAPS
from dualformer.timelines.evaluate_timelines import JudgedVideo, TimelineEvaluation
from dualformer.timelines.timeline_picture import draw_timelines

FIGURES = "timelines.json"


@dataclass(frozen=True, kw_only=True)
class TimelineFiles:
    """The files that `write_timeline_evaluation` writes."""

    figures: Path
    """Everything that is one number, as JSON."""
    videos: Path
    """One line per video, CSV: path, seconds, numbers of true and predicted segments and of those that are right, F1
    at 10, 25 and 50 %, edit score, accuracy by frame, seconds by which boundaries are off in the median, and why the
    video could not be read to its end."""
    classes: Path
    """One line per class, CSV."""
    segments: Path
    """One line per predicted segment, CSV: path, start, end (seconds), label, probability; a path alone for a video in
    which nothing was found."""
    picture: Path
    """The true segments above the predicted ones, of the videos with the lowest F1."""


def write_timeline_evaluation(
    folder: Path, evaluation: TimelineEvaluation, *, extra: Mapping[str, Any] | None = None
) -> TimelineFiles:
    """Writes the files of an evaluation into ``folder``, made if needed; each file appears whole or not at all.

    ``extra``: more entries for timelines.json, such as where the weights come from. Raises ``ValueError`` for an extra
    figure that exists already, `FileWriteError` if a file cannot be written, `InUseError` while another process writes
    to the folder.
    """
    if twice := sorted(set(extra or {}) & set(evaluation.figures)):
        raise ValueError(f"figures would be overwritten: {', '.join(twice)}")
    files = TimelineFiles(
        figures=folder / FIGURES,
        videos=folder / "timelines.csv",
        classes=folder / "timelines_per_class.csv",
        segments=folder / "predicted_segments.csv",
        picture=folder / "timelines.png",
    )
    with lock_for_writing(folder, folder=True):
        write_json(files.figures, {**evaluation.figures, **(extra or {})})
        write_csv(files.videos, _VIDEO_COLUMNS, map(_video_row, evaluation.videos))
        write_csv(
            files.classes,
            ["class", "segments", "predicted", "right", "f1", "average_precision"],
            ([_cell(value) for value in vars(each).values()] for each in evaluation.classes),
        )
        write_segment_csv([_predicted(judged) for judged in evaluation.videos], files.segments)
        draw_timelines(files.picture, evaluation)
    return files


_VIDEO_COLUMNS = [
    *("path", "seconds", "segments", "predicted", "right"),
    *(f"f1_{overlap:.0%}".removesuffix("%") for overlap in F1_OVERLAPS),
    *("edit", "frame_accuracy", "boundary_error", "error"),
]


def _video_row(judged: JudgedVideo) -> list[str]:
    figures, half = judged.figures, judged.figures.counts[-1]
    numbers = [
        *(half.right + half.missed, half.right + half.wrong, half.right),
        *(counts.f1 for counts in figures.counts),
        *(figures.edit, figures.frames.accuracy, figures.boundary_error),
    ]
    path, error = str(judged.video.path), judged.timeline.error or ""
    return [path, f"{judged.seconds:.3f}", *map(_cell, numbers), error]


def _predicted(judged: JudgedVideo) -> AnnotatedVideo:
    segments = judged.timeline.segments
    lines = tuple(str(judged.video.path) for _ in segments)
    return AnnotatedVideo(path=judged.video.path, segments=segments, lines=lines, fps=judged.video.fps)


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)
