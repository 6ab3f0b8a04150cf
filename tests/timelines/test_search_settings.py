"""Settings of timelines are found on films of colours: they do as well in timelines as in the search."""

from dataclasses import replace

import numpy as np
import pytest

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.inference import timeline as timeline_module
from dualformer.inference.recognizer import Recognizer
from dualformer.scoring.segment_summary import SegmentScoring
from dualformer.timelines.evaluate_timelines import evaluate_timelines
from dualformer.timelines.search_settings import (
    Objective,
    SearchGrid,
    clip_seconds,
    score_for_search,
    search_settings,
)
from dualformer.weights.segment_settings import SegmentSettings
from made_films import colour_recognizer

BLACK = SegmentScoring(background=("black",))


def unsure_recognizer() -> Recognizer:
    """What it says of a colour is a third of the truth: nothing reaches one half."""
    recognizer = colour_recognizer(multi_label=True)
    network = recognizer.network
    recognizer.network = lambda clips: (network(clips).sigmoid() / 3).logit()  # type: ignore[assignment]
    return recognizer


@pytest.mark.parametrize("objective", ["f1", "frame_accuracy"])
def test_what_is_found_holds_in_timelines(films: list[AnnotatedVideo], objective: Objective) -> None:
    recognizer = unsure_recognizer()
    scored = score_for_search(recognizer, films)
    found = search_settings(recognizer, scored, objective=objective, scoring=BLACK)
    assert (found.score > 0.9, found.settings.threshold < 1 / 3, found.settings.background) == (True, True, ("black",))
    assert found.before == pytest.approx(0 if objective == "f1" else 150 / 649, abs=0.01)

    def score(settings: object) -> float:
        figures = evaluate_timelines(recognizer, films, settings=settings, scoring=BLACK).figures  # type: ignore[arg-type]
        return figures["f1_at"]["50"] if objective == "f1" else figures["frame_accuracy"]

    assert score(found.settings) == pytest.approx(found.score)
    assert score(replace(found.settings, threshold=0.5, hop=None, window=None, shortest=None)) == found.before
    assert found.settings.hop == pytest.approx(found.step * clip_seconds(recognizer, films[0]) / 4)
    assert found.tried > 100


@pytest.mark.parametrize("objective", ["f1", "frame_accuracy"])
def test_weights_that_answer_at_steps_are_searched_as_their_timelines_are_read(
    films: list[AnnotatedVideo], objective: Objective
) -> None:
    recognizer = colour_recognizer(head="temporal", labels=("red", "green", "blue", "background"))
    scored = score_for_search(recognizer, films)
    found = search_settings(recognizer, scored, objective=objective)

    def score(settings: SegmentSettings) -> float:
        figures = evaluate_timelines(recognizer, films, settings=settings).figures
        return figures["f1_at"]["50"] if objective == "f1" else figures["frame_accuracy"]

    assert found.before == score(SegmentSettings())
    assert found.score == pytest.approx(score(found.settings)) and found.score > 0.95
    assert found.settings.background == ()  # that of the head is learnt, and needs no setting


def test_a_full_search_is_no_better_here(films: list[AnnotatedVideo]) -> None:
    """The search does not try all combinations; on a small grid that can be done."""
    recognizer = unsure_recognizer()
    scored = score_for_search(recognizer, films)
    grid = SearchGrid(hops=(2, 1), windows=(1.0, 2.0), thresholds=(0.5, 0.25, 0.1), shortest=(0.75, 0.0, 3.0))
    found = search_settings(recognizer, scored, objective="frame_accuracy", scoring=BLACK, grid=grid)
    every = [
        search_settings(
            recognizer,
            scored,
            objective="frame_accuracy",
            scoring=BLACK,
            grid=SearchGrid(hops=(hop,), windows=(window,), thresholds=(threshold,), shortest=(shortest,)),
        ).score
        for hop in grid.hops
        for window in grid.windows
        for threshold in grid.thresholds
        for shortest in grid.shortest
    ]
    assert found.score == max(every)
    assert found.tried <= len(every)


def test_where_nothing_is_better_the_defaults_stay(films: list[AnnotatedVideo]) -> None:
    recognizer = colour_recognizer()
    scored = score_for_search(recognizer, films)
    found = search_settings(recognizer, scored, scoring=BLACK)
    assert found.score == found.before == 1
    assert (found.step, found.settings.threshold) == (2, 0.5)
    assert found.settings.window == pytest.approx(16 / 25)


def test_each_clip_goes_through_the_network_once(films: list[AnnotatedVideo], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[object] = []
    reader = timeline_module.WindowReader

    def counted(*arguments: object, **settings: object) -> object:
        reads.append(settings["hop"])
        return reader(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(timeline_module, "WindowReader", counted)
    recognizer = colour_recognizer()
    told: list[int] = []
    scored = score_for_search(recognizer, films, on_video=lambda _, number, count: told.append(number * 10 + count))
    search_settings(recognizer, scored, scoring=BLACK, progress=told.append)
    assert reads == [pytest.approx(0.16)] * 3
    assert told[:3] == [13, 23, 33] and told[3:] == sorted(told[3:])


def test_networks_of_few_frames_look_at_every_one(films: list[AnnotatedVideo]) -> None:
    recognizer = colour_recognizer(frames=1, stride=1)
    found = search_settings(recognizer, score_for_search(recognizer, films), scoring=BLACK)
    assert (found.settings.hop, found.step) == (None, 1)
    evaluation = evaluate_timelines(recognizer, films, settings=found.settings, scoring=BLACK)
    assert evaluation.figures["f1_at"]["50"] == pytest.approx(found.score)


def test_the_clock_of_the_preprocessing_says_how_long_clips_are(films: list[AnnotatedVideo]) -> None:
    assert clip_seconds(colour_recognizer(frames=4, stride=2, fps=10.0), films[0]) == 0.8
    assert clip_seconds(colour_recognizer(), films[0]) == pytest.approx(16 / 25)


def test_what_cannot_be_searched(films: list[AnnotatedVideo], tmp_path: object) -> None:
    with pytest.raises(ValueError, match="need a video"):
        search_settings(colour_recognizer(), [])
    with pytest.raises(DatasetError, match=r"absent.mp4"):
        score_for_search(colour_recognizer(), [replace(films[0], path=films[0].path.with_name("absent.mp4"))])
    assert np.isfinite(search_settings(colour_recognizer(), score_for_search(colour_recognizer(), films[:1])).score)
