"""``dualformer evaluate --timeline``: figures, files, the page, and settings that go into the weights."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.main import main
from dualformer.datasets.segments.segment_formats import read_segments
from dualformer.model.presets import create_model
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import read_card, save_weights
from made_films import COLOURS, coloured

PHASES = {
    "one.mp4": [("red", 30), ("green", 41), ("black", 30), ("blue", 33)],
    "two.mp4": [("black", 40), ("green", 50), ("red", 40)],
    "three.mp4": [("blue", 45), ("black", 40), ("blue", 40)],
}
SPLITS = {"one.mp4": "test", "two.mp4": "val", "three.mp4": "val"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``segments.csv`` of three films of colours, and ``w.safetensors``, weights that know nothing."""
    rows = []
    for name, phases in PHASES.items():
        write_video(tmp_path / name, coloured(phases), fps=25)
        start = 0
        for colour, frames in phases:
            if colour != "black":
                rows.append([name, f"{start / 25}", f"{(start + frames) / 25}", colour, SPLITS[name]])
            start += frames
    with (tmp_path / "segments.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "start", "end", "label", "split"], *rows])
    model = create_model("dualformer_nano", clip=(8, 32, 32), num_classes=len(COLOURS), seed=0)
    pre = Preprocessing(frames=8, stride=2, resize=32, crop=32, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    card = Card(config=model.config, labels=COLOURS, preprocessing=pre, provenance="a test", licence="")
    save_weights(tmp_path / "w.safetensors", model, card)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(*arguments: str) -> int:
    return main(["evaluate", "w.safetensors", "--data", "segments.csv", "--device", "cpu", "--timeline", *arguments])


def test_figures_files_and_page(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("--threshold", "0.1", "--background", "black", "--report", "page", "--report-mistakes", "2") == 0
    printed = capsys.readouterr().out
    for line in (
        "judging timelines of w.safetensors on 3 long videos of segments.csv: threshold 0.1, background black",
        "1/3 one.mp4: 0:05; 3 true segments, ",
        "3/3 three.mp4: ",
        "mAP at an overlap of 0.5",
        "mAP, mean of 0.1 to 0.9",
        "F1 at 10, 25, 50 %",
        "edit score",
        "frames with the right label",
        "boundaries off by",
        "report: page   (timelines.json, timelines.csv, timelines_per_class.csv, predicted_segments.csv, ",
        "to correct: page/timelines.html",
        "page: page/report.html",
    ):
        assert line in printed
    figures = json.loads((home / "page" / "timelines.json").read_text())
    assert (figures["weights"], figures["data"], figures["videos"]) == ("w.safetensors", "segments.csv", 3)
    assert "--timeline" in figures["command"]
    report = (home / "page" / "report.html").read_text()
    assert report.count("<video") == 2
    assert [f'href="timelines.html#{number}"' in report for number in range(5)] == [False, True, True, True, False]
    editor = (home / "page" / "timelines.html").read_text()
    assert all(f'"source": "../{name}"' in editor for name in PHASES) and '"true": null' not in editor


def test_json_and_a_part_of_the_data(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("--on", "split=test", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["videos"], figures["segments"], figures["report"]) == (1, 3, "timelines")
    assert {path.name for path in (home / "timelines").iterdir()} >= {"timelines.json", "timelines.csv"}


def test_times_may_be_numbers_of_frames(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def seconds(*arguments: str) -> float:
        assert judge("--json", *arguments) == 0
        return json.loads(capsys.readouterr().out)["segments"]

    with (home / "segments.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    places = [header.index(name) for name in ("start", "end")]
    as_frames = [[str(round(float(v) * 25)) if i in places else v for i, v in enumerate(row)] for row in rows]
    before = seconds()
    with (home / "segments.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *as_frames])
    assert seconds("--frames-per-second", "25") == before
    assert judge("--frames-per-second", "0") == 2
    assert "--frames-per-second must be positive" in capsys.readouterr().err


def test_settings_are_found_on_one_part_and_judged_on_another(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_card(home / "w.safetensors")
    assert before.timeline is None
    tuned = ("--tune-on", "split=val", "--tune-for", "frame_accuracy", "--on", "split=test", "--background", "black")
    assert judge(*tuned) == 0
    printed = capsys.readouterr().out
    assert "searching settings of timelines on 2 long videos of split=val" in printed
    assert "found: hop " in printed and "frames with the right label" in printed
    found = read_card(home / "w.safetensors").timeline
    assert found is not None and found.background == ("black",)
    assert read_card(home / "w.safetensors") == replace(before, timeline=found)
    figures = json.loads((home / "timelines" / "timelines.json").read_text())
    assert figures["timeline"] == found.to_dict()
    # From now on timelines go by them.
    assert main(["predict", "one.mp4", "--weights", "w.safetensors", "--device", "cpu", "--timeline", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["threshold"], said["background"]) == (found.threshold, ["black"])
    assert main(["info", "w.safetensors"]) == 0
    assert f"threshold {found.threshold:g}" in capsys.readouterr().out
    # The segments that timelines.csv of `predict` lists are those that were judged.
    with (home / "timelines" / "predicted_segments.csv").open(newline="") as file:
        judged = [(row["label"], float(row["start"])) for row in csv.DictReader(file)]
    assert judged == [(each["label"], pytest.approx(each["start"])) for each in said["segments"]]


def test_a_video_in_which_nothing_was_found_is_in_the_predicted_segments(home: Path) -> None:
    assert judge("--on", "split=test", "--threshold", "1") == 0
    found = read_segments(home / "timelines" / "predicted_segments.csv")
    judged = [video for video in read_segments(home / "segments.csv") if video.split == "test"]
    assert [video.path for video in found] == [video.path for video in judged]
    assert not any(video.segments for video in found)


def test_a_missing_film_is_left_out_by_a_manifest(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "three.mp4").unlink()
    assert judge() == 1
    assert "1 of 3 videos are not there: three.mp4" in (said := capsys.readouterr().err) and "--manifest" in said
    assert main(["check", "segments.csv", "--out", "m.csv"]) == 1
    assert judge("--manifest", "m.csv") == 0
    assert "on 2 long videos of segments.csv, 1 file left out by m.csv: " in capsys.readouterr().out


def test_another_file_to_tune_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (home / "segments.csv").read_text().splitlines()
    (home / "val.csv").write_text("\n".join([lines[0], *(line for line in lines if line.endswith("val"))]) + "\n")
    assert judge("--tune-on", "val.csv", "--on", "split=test") == 0
    assert "on 2 long videos of val.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--control", "one_frame"], "--control does not go with --timeline"),
        (["--tune-on", "split=val", "--hop", "0.3"], "--hop is searched for with --tune-on"),
        (["--tune-for", "frame_accuracy"], "--tune-for goes with --tune-on"),
        (["--threshold", "2"], "--threshold must be a probability"),
        (["--on", "batch=A"], "a part is chosen as split=NAME"),
        (["--on", "split=train"], "no video is of split=train; its parts: test, val"),
        (["--background", "blakc"], "--background: 'blakc' is no class of the weights, and no label of segments.csv"),
        (["--ambiguous", "Ambiguos"], "--ambiguous: 'Ambiguos' is no label of segments.csv"),
        (["--tune-on", "split=val"], "2 videos to be judged, two.mp4, three.mp4, would be searched on by --tune-on"),
    ],
)
def test_what_does_not_go_together(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert judge(*arguments) in (1, 2)
    assert complaint in capsys.readouterr().err
    assert not (home / "timelines").exists()


def test_files_of_segments_may_say_the_rate_of_videos(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("--json") == 0
    expected = json.loads(capsys.readouterr().out)
    lines = (home / "segments.csv").read_text().splitlines()
    with_rates = [f"{lines[0]},fps", *(f"{line},25" for line in lines[1:])]
    (home / "segments.csv").write_text("\n".join(with_rates) + "\n")
    assert judge("--json", "--report", "page") == 0
    assert json.loads(capsys.readouterr().out)["f1_at"] == expected["f1_at"]
    assert judge("--on", "split=test", "--tune-on", "split=val") == 0


def test_options_of_timelines_need_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "w.safetensors", "--data", "segments.csv", "--tune-on", "split=val"]) == 2
    assert "--tune-on goes with --timeline" in capsys.readouterr().err


def test_weights_that_cannot_be_written_to(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", "segments.csv", "--timeline", "--tune-on", "split=val"]
    assert main(["evaluate", "rendered", *arguments]) == 2
    assert "--tune-on writes into a weights file, and rendered is no weights file of yours" in capsys.readouterr().err
    np.testing.assert_equal(read_card(home / "w.safetensors").timeline, None)
