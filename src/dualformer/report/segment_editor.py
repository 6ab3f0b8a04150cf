"""Renders a page that shows films above their timelines, of which a person corrects one and saves it as CSV.

The page is one file. It plays the films where they lie, or from wherever a person loads them, and asks no network.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from dualformer._version import __version__
from dualformer.moved_files import absolute
from dualformer.pages import ELEMENT, PALETTE
from dualformer.report.page import as_json, page_policy, read_page_files, template_environment
from dualformer.segment import Segment
from dualformer.text_encoding import without_surrogates
from dualformer.timelines.evaluate_timelines import TimelineEvaluation
from dualformer.timelines.timeline_picture import worst_first
from dualformer.urls import url_of
from dualformer.video.file_slices import is_frame_folder

EDITOR = "timelines.html"
_SCRIPTS = (ELEMENT, "edited_segments.js", "segment_track.js", "segment_editor.js")


@dataclass(frozen=True, kw_only=True)
class EditorVideo:
    """A video with what was predicted, and what is true if that is known."""

    path: Path
    """The page's CSV names the video by it: from the root on, or as it is where there is a ``url``."""
    seconds: float
    predicted: Sequence[Segment]
    true: Sequence[Segment] | None = None
    fps: float | None = None
    """Frames a second: edges are drawn from frame to frame."""
    error: str | None = None
    """Why the video could not be read to its end, if so."""
    url: str | None = None
    """Where the page finds the video, if not by the way to its path."""


def videos_to_correct(evaluation: TimelineEvaluation) -> list[EditorVideo]:
    """Returns the videos of an evaluation, that with the lowest F1 first, without segments in which nothing happens."""
    quiet = evaluation.scoring.quiet
    return [
        EditorVideo(
            path=judged.video.path,
            seconds=judged.seconds,
            predicted=[each for each in judged.timeline.segments if each.label not in quiet],
            true=[each for each in judged.video.segments if each.label not in quiet],
            fps=judged.timeline.frames / judged.timeline.seconds if judged.timeline.frames > 1 else None,
            error=judged.timeline.error,
        )
        for judged in worst_first(evaluation)
    ]


def render_segment_editor(videos: Sequence[EditorVideo], labels: Sequence[str], *, folder: Path, title: str) -> str:
    """Returns the text of the page. ``labels``: classes to choose from. ``folder``: where the page will lie; it finds
    the videos by their paths from there, so that both can be moved together. It does not ask for videos at URLs."""
    names = _names([absolute(video.path) for video in videos])
    films = [_film(video, name) for video, name in zip(videos, names, strict=True)]
    data: dict[str, Any] = {"labels": list(labels), "films": films}
    data["id"] = sha256(as_json(data, indent=None).encode()).hexdigest()[:16]
    for film, video in zip(films, videos, strict=True):
        film["source"] = video.url or _address(video.path, folder)
    style = read_page_files(PALETTE, "page.css", "segment_editor.css")
    script = read_page_files(*_SCRIPTS)
    page = (
        template_environment()
        .get_template("segment_editor.html.jinja")
        .render(
            title=title,
            count=len(videos),
            version=__version__,
            policy=page_policy(style, script, media="'self' file: blob:"),
            style=Markup(style),
            script=Markup(script),
            data=as_json(data, indent=None),
        )
    )
    return without_surrogates(page)


def _names(paths: Sequence[Path]) -> list[str]:
    """Returns what videos are called: as much of the ends of their paths as tells them apart."""
    names: list[str] = []
    for count in range(1, 1 + max((len(each.parts) for each in paths), default=0)):
        names = [Path(*each.parts[-count:]).as_posix() for each in paths]
        if len(set(names)) == len(names):
            break
    return names


def _film(video: EditorVideo, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "path": (video.path if video.url else absolute(video.path)).as_posix(),
        "seconds": round(video.seconds, 3),
        "rate": video.fps and round(video.fps, 6),
        "error": video.error,
        "true": None if video.true is None else _in_order(video.true, sure=True),
        "predicted": _in_order(video.predicted),
    }


def _in_order(segments: Sequence[Segment], *, sure: bool = False) -> list[dict[str, Any]]:
    found = sorted(segments, key=lambda each: (each.start, each.end))
    return [
        {"start": round(each.start, 3), "end": round(each.end, 3), "label": each.label}
        | ({} if sure else {"probability": round(each.probability, 4)})
        for each in found
    ]


def _address(video: Path, folder: Path) -> str | None:
    """Returns the URL of a video relative to ``folder``, from the root on where there is no way between them; none of a
    folder of frames and of a video at a URL."""
    if is_frame_folder(video) or url_of(video):
        return None
    try:
        return quote(os.fsencode(Path(os.path.relpath(absolute(video), absolute(folder))).as_posix()))
    except ValueError:  # they lie on two drives
        return absolute(video).as_uri()
