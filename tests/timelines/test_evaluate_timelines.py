"""Timelines of films of known colours are judged, file by file and together."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.evaluation.label_matching import ClassMismatchError
from dualformer.inference.timeline import read_timeline
from dualformer.scoring.segment_summary import SegmentScoring, segment_summary
from dualformer.segment import Segment
from dualformer.timelines.evaluate_timelines import JudgedVideo, TimelineEvaluation, evaluate_timelines
from dualformer.timelines.timeline_folder import write_timeline_evaluation
from dualformer.timelines.timeline_picture import draw_timelines
from dualformer.weights.segment_settings import SegmentSettings
from made_films import colour_recognizer

QUIET = SegmentSettings(background=("black",))


@pytest.fixture(scope="module")
def evaluation(films: list[AnnotatedVideo]) -> TimelineEvaluation:
    return evaluate_timelines(colour_recognizer(), films, settings=QUIET, source="three films")


def test_colours_are_found(evaluation: TimelineEvaluation) -> None:
    figures = evaluation.figures
    assert figures["average_precision_at"]["0.5"] == figures["f1_at"]["50"] == figures["edit"] == 1
    assert figures["boundary_error"]["median"] < 8 / 25  # half a clip
    assert (figures["boundary_error"]["matched"], figures["boundary_error"]["unmatched"]) == (7, 0)
    assert 0.9 < figures["frame_accuracy"] < 1
    assert (figures["videos"], figures["source"], figures["unread"]) == (3, "three films", 0)
    assert figures["seconds"] == pytest.approx(sum(each.seconds for each in evaluation.videos)) == 649 / 25


def test_predictions_are_those_of_read_timeline(evaluation: TimelineEvaluation, films: list[AnnotatedVideo]) -> None:
    timelines = [read_timeline(colour_recognizer(), film.path, background=("black",)) for film in films]
    assert [each.timeline.segments for each in evaluation.videos] == [timeline.segments for timeline in timelines]
    summary = segment_summary(
        [film.segments for film in films],
        [timeline.segments for timeline in timelines],
        [timeline.seconds for timeline in timelines],
        SegmentScoring(background=("black",)),
    )
    assert summary.items() <= evaluation.figures.items()


def test_each_video_is_told_of_as_it_is_judged(films: list[AnnotatedVideo]) -> None:
    told: list[tuple[Path, int, int]] = []

    def tell(judged: JudgedVideo, number: int, count: int) -> None:
        told.append((judged.video.path, number, count))

    evaluate_timelines(colour_recognizer(), films, on_video=tell)
    assert told == [(film.path, number, 3) for number, film in enumerate(films, 1)]


def test_the_weights_say_how_timelines_are_read(films: list[AnnotatedVideo]) -> None:
    recognizer = colour_recognizer()
    recognizer.card = replace(recognizer.card, timeline=replace(QUIET, hop=0.16, threshold=0.6))
    evaluation = evaluate_timelines(recognizer, films[:1])
    assert evaluation.settings == recognizer.card.timeline
    assert np.diff(evaluation.videos[0].timeline.bounds)[0] == pytest.approx(0.16)
    assert evaluation.scoring.background == ("black",)


def test_files(tmp_path: Path, evaluation: TimelineEvaluation) -> None:
    files = write_timeline_evaluation(tmp_path / "out", evaluation, extra={"weights": "w"})
    assert json.loads(files.figures.read_text()) == {**evaluation.figures, "weights": "w"}
    with files.videos.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(each.video.path) for each in evaluation.videos]
    assert [(row["segments"], row["predicted"], row["right"], row["f1_50"]) for row in rows] == [
        ("3", "3", "3", "1.000000"),
        ("2", "2", "2", "1.000000"),
        ("2", "2", "2", "1.000000"),
    ]
    with files.segments.open(newline="") as file:
        found = [(row["path"], row["label"], float(row["start"])) for row in csv.DictReader(file)]
    assert found == [
        (str(each.video.path), segment.label, round(segment.start, 3))
        for each in evaluation.videos
        for segment in each.timeline.segments
    ]
    with files.classes.open(newline="") as file:
        assert {row["class"]: row["segments"] for row in csv.DictReader(file)} == {
            "red": "2",
            "green": "2",
            "blue": "3",
        }
    assert Image.open(files.picture).size[0] > 1000
    with pytest.raises(ValueError, match="figures would be overwritten: videos"):
        write_timeline_evaluation(tmp_path / "out", evaluation, extra={"videos": 1})


def test_what_is_listed_behind_the_end_of_a_video_is_not_drawn(tmp_path: Path, evaluation: TimelineEvaluation) -> None:
    first = evaluation.videos[0]
    behind = Segment(label="red", start=first.seconds + 1, end=first.seconds * 5)
    video = replace(first.video, segments=(*first.video.segments, behind), lines=(*first.video.lines, "made:9"))
    pictures: list[bytes] = []
    for judged in (first, replace(first, video=video)):
        draw_timelines(tmp_path / "t.png", replace(evaluation, videos=(judged,)))
        pictures.append(Image.open(tmp_path / "t.png").tobytes())
    assert pictures[0] == pictures[1]


def test_labels_of_other_names(films: list[AnnotatedVideo]) -> None:
    renamed = [
        replace(film, segments=tuple(replace(each, label=each.label.upper()) for each in film.segments))
        for film in films
    ]
    with pytest.raises(ClassMismatchError, match="the weights do not know 'RED'"):
        evaluate_timelines(colour_recognizer(), renamed)
    names = {"RED": "red", "GREEN": "green", "BLUE": "blue"}
    evaluation = evaluate_timelines(colour_recognizer(), renamed, settings=QUIET, label_map=names)
    assert evaluation.figures["f1_at"]["50"] == 1


def test_true_background_may_have_a_name_that_the_weights_do_not_know(films: list[AnnotatedVideo]) -> None:
    rest = Segment(label="rest", start=151 / 25, end=201 / 25)
    film = replace(films[0], segments=(*films[0].segments, rest), lines=(*films[0].lines, "made:9"))
    scoring = SegmentScoring(background=("rest", "black"))
    evaluation = evaluate_timelines(colour_recognizer(), [film], settings=QUIET, scoring=scoring)
    assert (evaluation.figures["f1_at"]["50"], evaluation.figures["segments"]) == (1, 3)
    assert [each.label for each in evaluation.classes] == ["blue", "green", "red"]


def test_a_video_that_breaks_off_is_judged_by_what_is_read(shared: Path) -> None:
    path = shared / "videos" / "corrupt_after_28_of_50.mp4"
    segment = Segment(label="red", start=0, end=2)
    film = AnnotatedVideo(path=path, segments=(segment,), lines=("made:2",), seconds=5.0)
    evaluation = evaluate_timelines(colour_recognizer(), [film])
    assert evaluation.figures["unread"] == 1
    [judged] = evaluation.videos
    assert judged.timeline.error is not None and judged.timeline.seconds < judged.seconds == 5.0


def test_what_cannot_be_judged(tmp_path: Path, films: list[AnnotatedVideo]) -> None:
    absent = replace(films[0], path=tmp_path / "absent.mp4")
    with pytest.raises(DatasetError, match=r"absent.mp4.*\(made:2\)"):
        evaluate_timelines(colour_recognizer(), [absent])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match=r"text.mp4.*\(made:2\)"):
        evaluate_timelines(colour_recognizer(), [replace(films[0], path=tmp_path / "text.mp4")])
    with pytest.raises(DatasetError, match="no video has a segment"):
        evaluate_timelines(colour_recognizer(), [replace(films[0], segments=(), lines=())], source="it")
    with pytest.raises(ValueError, match="'purple' is none of the classes"):
        evaluate_timelines(colour_recognizer(), films, settings=SegmentSettings(background=("purple",)))
