"""The page on timelines: what stands in it, that names are no markup, and in a browser that it plays and fits."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualformer.report.timeline_page import error_clips, render_timeline_page
from dualformer.segment import Segment
from dualformer.timelines.evaluate_timelines import TimelineEvaluation, evaluate_timelines
from dualformer.timelines.timeline_errors import error_stretches
from dualformer.video.container import VideoError
from dualformer.weights.segment_settings import SegmentSettings
from made_films import colour_recognizer, made_video

PHASES = [[("red", 30), ("green", 41), ("black", 50), ("blue", 33)] * 5, [("black", 60), ("green", 50), ("red", 40)]]
NAMES = ("long <b>film.mp4", "short.mp4")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> TimelineEvaluation:
    folder = tmp_path_factory.mktemp("films")
    films = [made_video(folder / name, phases) for name, phases in zip(NAMES, PHASES, strict=True)]
    recognizer = colour_recognizer()
    recognizer.labels = ("red", "<script>green", "blue", "black")
    names = {"red": "red", "green": "<script>green", "blue": "blue"}
    return evaluate_timelines(recognizer, films, settings=SegmentSettings(threshold=0.3), label_map=names)


@pytest.fixture(scope="module")
def page(evaluation: TimelineEvaluation) -> str:
    figures = {**evaluation.figures, "weights": "runs/train/best.safetensors", "data": "segments.csv"}
    errors = error_stretches(evaluation)
    return render_timeline_page(evaluation, figures, error_clips(errors, most=3), wrong=len(errors))


def test_bars_have_every_segment_and_its_words(page: str, evaluation: TimelineEvaluation) -> None:
    # One line holds 14 segments: of the long film's 20 predicted ones there are two lines, of the short one's 3 one.
    assert page.count("<svg") == 3
    boxes = re.findall(r'<g class="s\d"><title>(.*?)</title><rect', page)
    assert len(boxes) >= sum(len(each.video.segments) + len(each.timeline.segments) for each in evaluation.videos)
    assert "red, 0:00.0 to 0:01.2" in boxes
    assert page.count(">true</text>") == page.count(">predicted</text>") == 3
    headings = re.findall(r"<h3>(.*?)</h3>", page)
    f1 = [each.figures.counts[-1].f1 for each in evaluation.videos]
    assert headings == (
        ["long &lt;b&gt;film.mp4", "short.mp4"] if f1[0] <= f1[1] else ["short.mp4", "long &lt;b&gt;film.mp4"]
    )


def test_it_holds_its_figures_and_no_foreign_markup(page: str, evaluation: TimelineEvaluation) -> None:
    [figures] = re.findall(r'id="figures">(.*?)</script>', page, flags=re.DOTALL)
    assert json.loads(figures)["f1_at"] == evaluation.figures["f1_at"]
    assert "<b>film" not in page and "<script>green" not in page
    assert f"{evaluation.figures['f1_at']['50']:.1%}" in page
    assert "8 of" not in page and re.search(r"3 of \d+ stretches of time", page)


def test_the_longest_errors_come_first(evaluation: TimelineEvaluation) -> None:
    clips = error_clips(error_stretches(evaluation), most=4)
    lengths = [each.end - each.start for each in clips]
    assert lengths == sorted(lengths, reverse=True) and len(clips) == 4
    assert (clips[0].true, clips[0].said) == ("nothing", "black")
    assert all(each.video is not None and b"ftyp" in each.video[:32] for each in clips)
    assert error_clips(error_stretches(evaluation), most=0) == []
    with pytest.raises(ValueError, match="must be 0 or more"):
        error_clips(error_stretches(evaluation), most=-1)


def test_without_errors(evaluation: TimelineEvaluation) -> None:
    perfect = replace(
        evaluation,
        videos=tuple(
            replace(each, timeline=replace(each.timeline, segments=each.video.segments)) for each in evaluation.videos
        ),
    )
    figures = {**perfect.figures, "weights": "w", "data": "d"}
    assert "There are none." in render_timeline_page(perfect, figures, [], wrong=len(error_stretches(perfect)))


def test_errors_behind_where_a_video_breaks_off_have_no_clip(evaluation: TimelineEvaluation) -> None:
    judged = evaluation.videos[1]
    long = Segment(label="red", start=60, end=90)
    broken = replace(
        judged,
        video=replace(judged.video, segments=(*judged.video.segments, long), lines=(*judged.video.lines, "made:9")),
        timeline=replace(judged.timeline, error="the rest is missing"),
        seconds=90.0,
    )
    partly = replace(evaluation, videos=(broken,))
    [first, second] = error_clips(error_stretches(partly), most=2)
    assert (first.start, first.end, first.video) == (60, 90, None) and second.video is not None
    figures = {**partly.figures, "weights": "w", "data": "d"}
    assert "the video breaks off before it" in render_timeline_page(partly, figures, [first], wrong=2)
    with pytest.raises(VideoError, match="a segment begins at"):
        whole = replace(partly, videos=(replace(broken, timeline=judged.timeline),))
        error_clips(error_stretches(whole), most=1)


@pytest.mark.parametrize("width", [400, 1100])
def test_in_a_browser(browser: Any, page: str, tmp_path: Path, width: int) -> None:
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    shown = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.goto((tmp_path / "report.html").as_uri())
    shown.wait_for_function("[...document.querySelectorAll('video')].every(video => video.readyState > 0)")
    assert shown.evaluate("[...document.querySelectorAll('video')].map(video => video.videoWidth)") == [224] * 3
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert complaints == []
    # No label runs out of its box.
    assert shown.evaluate(
        """[...document.querySelectorAll('.bars g')].every((group) => {
            const [box, text] = [group.querySelector('rect'), group.querySelector('text')];
            return !text || text.getBoundingClientRect().width <= box.getBoundingClientRect().width + 1;
        })"""
    )
    shown.close()
