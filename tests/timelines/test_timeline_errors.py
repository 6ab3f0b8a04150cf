"""Where timelines are wrong: by a naive look at many moments; and what is said of them."""

from pathlib import Path

import numpy as np
import pytest

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.inference.timeline import Timeline
from dualformer.scoring.segment_summary import SegmentScoring, video_figures
from dualformer.segment import Segment
from dualformer.timelines.evaluate_timelines import JudgedVideo, TimelineEvaluation, evaluate_timelines
from dualformer.timelines.search_settings import FoundSettings
from dualformer.timelines.timeline_errors import error_stretches
from dualformer.timelines.timeline_text import found_text, settings_text, timelines_text, video_text
from dualformer.weights.segment_settings import SegmentSettings
from made_films import colour_recognizer


def drawn(rng: np.random.Generator, end: int) -> tuple[Segment, ...]:
    starts = rng.integers(0, end, size=rng.integers(0, 6))
    return tuple(
        Segment(label=str(rng.choice(["a", "b", "x"])), start=float(start), end=float(rng.integers(start, end + 1)))
        for start in starts
    )


@pytest.mark.parametrize("seed", range(30))
def test_stretches_are_where_labels_differ(seed: int) -> None:
    rng, end = np.random.default_rng(seed), 12
    truth, said = drawn(rng, end), drawn(rng, end)
    settings, scoring = SegmentSettings(), SegmentScoring(background=("x",))
    timeline = Timeline(
        source="v",
        labels=("a", "b", "x"),
        bounds=np.array([0.0, end]),
        probabilities=np.zeros((1, 3), dtype=np.float32),
        segments=said,
        settings=settings,
        window=1.0,
        clip=1.0,
        frames=1,
        clips=1,
    )
    judged = JudgedVideo(
        video=AnnotatedVideo(path=Path("v.mp4"), segments=truth, lines=("",) * len(truth)),
        timeline=timeline,
        seconds=float(end),
        figures=video_figures(truth, said, end, scoring),
    )
    evaluation = TimelineEvaluation(videos=(judged,), classes=(), settings=settings, scoring=scoring, figures={})
    found = error_stretches(evaluation)
    assert [each.seconds for each in found] == sorted((each.seconds for each in found), reverse=True)
    for moment in np.arange(0.5, end):
        labels = [
            tuple(sorted({each.label for each in each_of if each.start <= moment < each.end and each.label != "x"}))
            for each_of in (truth, said)
        ]
        at = [each for each in found if each.start <= moment < each.end]
        assert [(each.true, each.said) for each in at] == ([tuple(labels)] if labels[0] != labels[1] else [])


def test_text(films: list[AnnotatedVideo]) -> None:
    settings = SegmentSettings(background=("black",), threshold=0.25, hop=0.32)
    evaluation = evaluate_timelines(colour_recognizer(), films, settings=settings)
    assert video_text(evaluation.videos[0]).startswith(
        "0.mp4: 0:11; 3 true segments, 3 predicted, 3 right at 50 % overlap; "
    )
    lines = timelines_text(evaluation)
    assert lines[0] == "mAP at an overlap of 0.5          100.0%"
    assert lines[2].startswith("F1 at 10, 25, 50 %") and lines[2].endswith("100.0%, 100.0%, 100.0%")
    assert lines[-1].endswith("(7 segments found, 0 not)")
    assert settings_text(settings) == "hop 0.32, threshold 0.25, background black"
    found = FoundSettings(settings=settings, step=2, objective="f1", score=0.5, before=0.25, tried=7)
    assert found_text(found) == (
        "found: hop 0.32, threshold 0.25, background black: F1 at 50 % 50.0% in place of 25.0% (7 tried)"
    )
    never = evaluate_timelines(colour_recognizer(), films, settings=SegmentSettings(threshold=1.0, shortest=100))
    assert "boundaries off by                 not known (0 segments found, 7 not)" in timelines_text(never)
    assert timelines_text(never)[-1] == "lowest F1 at 50 %: blue 0%, green 0%, red 0%"
