"""Renders how good timelines are as one HTML page: bars of truth and prediction, and clips of the longest errors."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray

from dualformer.inference.timeline import format_time
from dualformer.report.mistake_clips import MOST_BYTES, MOST_BYTES_EACH, encode_small_video
from dualformer.report.page import as_json, page_policy, page_style_and_script, template_environment
from dualformer.scoring.plots import short_text
from dualformer.segment import Segment
from dualformer.text_encoding import without_surrogates
from dualformer.timelines.evaluate_timelines import JudgedVideo, TimelineEvaluation
from dualformer.timelines.timeline_errors import ErrorStretch
from dualformer.timelines.timeline_picture import worst_first
from dualformer.timelines.timeline_text import settings_text
from dualformer.video.container import VideoError
from dualformer.video.open_video import open_video
from dualformer.video.transforms import resize_short_side
from dualformer.video.video_segment import VideoSegment

_WIDTH = 1000
"""Of the bars, in units of their drawing."""
_LETTER = 6.5
_FEWEST_LETTERS = 5
"""Of a label that is shortened; of fewer letters nothing can be told."""
_IN_A_LINE = 14
"""Segments in one line of a video; of more it has several."""
_MOST_LINES = 30
_COLOURS = 6
_CLIP_SECONDS = 6.0
"""The most of an error that is shown, from its middle."""
_SIDE = 224
_MOST_FRAMES = 64
_NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class ErrorClip:
    """A stretch of time in which a timeline is wrong, with what is to be seen then."""

    path: str
    start: float
    """Seconds."""
    end: float
    true: str
    """The labels that are true, or ``nothing``."""
    said: str
    video: bytes | None
    """MP4; None where even the worst quality was too large, and where the video breaks off before."""


def error_clips(
    errors: Sequence[ErrorStretch], *, most: int = 8, progress: Callable[[int, int], None] | None = None
) -> list[ErrorClip]:
    """Returns the first ``most`` of the ``errors`` with at most 6 seconds of each as a clip.

    Raises ``ValueError`` for a negative number, ``VideoError`` for a video that could be read and no longer can.
    """
    if most < 0:
        raise ValueError(f"the number of errors to show must be 0 or more, not {most}")
    chosen = errors[:most]
    clips: list[ErrorClip] = []
    for number, error in enumerate(chosen, 1):
        clips.append(_clip_of(error, min(MOST_BYTES_EACH, MOST_BYTES // len(chosen))))
        if progress is not None:
            progress(number, len(chosen))
    return clips


def render_timeline_page(
    evaluation: TimelineEvaluation,
    figures: Mapping[str, Any],
    errors: Sequence[ErrorClip],
    *,
    wrong: int,
    editor: str | None = None,
) -> str:
    """Returns the text of the page. ``figures``: what stands in timelines.json, with ``weights`` and ``data``.
    ``errors``: those that are shown, of ``wrong`` stretches of time. ``editor``: the URL of the page on which the same
    videos are corrected, if there is one."""
    labels = {each.label for judged in evaluation.videos for each in _shown(judged, evaluation)}
    colours = {label: number % _COLOURS for number, label in enumerate(sorted(labels))}
    style, script = page_style_and_script()
    page = (
        template_environment()
        .get_template("timeline_page.html.jinja")
        .render(
            figures=figures,
            title="/".join(Path(figures["weights"]).parts[-2:]),
            policy=page_policy(style, script),
            style=Markup(style),
            script=Markup(script),
            figures_json=as_json(figures),
            settings=settings_text(evaluation.settings),
            videos=[_bars(judged, evaluation, colours) for judged in worst_first(evaluation)],
            classes=sorted(evaluation.classes, key=lambda each: each.f1),
            errors=[(each, each.video and b64encode(each.video).decode()) for each in errors],
            wrong=wrong,
            editor=editor,
            time=lambda seconds: format_time(seconds, digits=1),
        )
    )
    return without_surrogates(page)


def _shown(judged: JudgedVideo, evaluation: TimelineEvaluation) -> list[Segment]:
    both = (*judged.video.segments, *judged.timeline.segments)
    return [each for each in both if each.label not in evaluation.scoring.quiet]


def _bars(judged: JudgedVideo, evaluation: TimelineEvaluation, colours: Mapping[str, int]) -> dict[str, Any]:
    """Returns what the template draws of a video: lines of two bars each, so many that labels have room."""
    counts = judged.figures.counts[-1]
    count = min(_MOST_LINES, ceil(max(counts.right + counts.missed, counts.right + counts.wrong, 1) / _IN_A_LINE))
    long = judged.seconds / count
    return {
        "name": judged.video.path.name,
        "seconds": format_time(judged.seconds, digits=0),
        "true": counts.right + counts.missed,
        "said": counts.right + counts.wrong,
        "right": counts.right,
        "f1": counts.f1,
        "frames": judged.figures.frames.accuracy,
        "error": judged.timeline.error,
        "lines": [_line(judged, evaluation, colours, number * long, (number + 1) * long) for number in range(count)],
    }


def _line(
    judged: JudgedVideo, evaluation: TimelineEvaluation, colours: Mapping[str, int], start: float, end: float
) -> dict[str, Any]:
    """Returns two rows of boxes, and ticks of time, of what happens between two times in seconds."""
    scale = _WIDTH / (end - start)
    rows: list[list[dict[str, Any]]] = []
    for segments in (judged.video.segments, judged.timeline.segments):
        row: list[dict[str, Any]] = []
        for each in segments:
            before = each.start < start and each.end <= start
            if each.label in evaluation.scoring.quiet or before or each.start >= end:
                continue
            left, right = ((min(max(at, start), end) - start) * scale for at in (each.start, each.end))
            room = int((right - left) / _LETTER)
            fits = len(each.label) <= room
            times = f"{format_time(each.start)} to {format_time(each.end)}"
            sure = f" ({each.probability:.0%})" if segments is judged.timeline.segments else ""
            row.append(
                {
                    "x": round(left, 2),
                    "width": round(max(right - left, 0.5), 2),
                    "middle": round((left + right) / 2, 2),
                    "colour": colours[each.label],
                    "text": each.label if fits else short_text(each.label, room) if room >= _FEWEST_LETTERS else "",
                    "about": f"{each.label}, {times}{sure}",
                }
            )
        rows.append(row)
    ticks = [(round((at - start) * scale, 2), format_time(at, digits=0)) for at in _ticks(start, end)]
    return {"rows": rows, "ticks": ticks}


def _ticks(start: float, end: float) -> list[float]:
    steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]
    step = next((each for each in steps if (end - start) / each <= 10), steps[-1])
    return [float(number * step) for number in range(ceil(start / step), ceil(end / step))]


def _clip_of(error: ErrorStretch, most_bytes: int) -> ErrorClip:
    middle, half = (error.start + error.end) / 2, min(error.seconds, _CLIP_SECONDS) / 2
    video = error.video.video
    segment = VideoSegment(file=video.path, start=max(0.0, middle - half), end=middle + half)
    encoded = None
    try:
        film = _frames_of(segment, video.fps)
        rate = len(film) / max(2 * half, 1 / 30)
        encoded = encode_small_video(film, float(np.clip(rate, 1, 60)), most_bytes)
    except VideoError:
        if error.video.timeline.error is None:
            raise
    return ErrorClip(
        path=str(video.path),
        start=error.start,
        end=error.end,
        true=", ".join(error.true) or _NOTHING,
        said=", ".join(error.said) or _NOTHING,
        video=encoded,
    )


def _frames_of(segment: VideoSegment, fps: float | None) -> NDArray[np.uint8]:
    """Returns (T, h, w, 3): some frames of a segment, small, of even height and width."""
    with open_video(segment, fps=fps, clock=True) as reader:
        numbers = np.arange(len(reader))[:: max(1, len(reader) // _MOST_FRAMES)]
        film = torch.cat([resize_short_side(frame[None], _SIDE) for _, frame in reader.frames(numbers)])
    return film[:, : film.shape[1] // 2 * 2, : film.shape[2] // 2 * 2].numpy()
