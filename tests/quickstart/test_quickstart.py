"""The quickstart on a few videos: that it does all its steps, goes on where it stopped, and is done anew."""

import json
import sys
from pathlib import Path

import pytest

from dualformer.datasets.splits import open_videos
from dualformer.evaluation.evaluate import evaluate
from dualformer.inference.recognizer import Recognizer
from dualformer.quickstart import QuickstartConfig
from dualformer.quickstart.pipeline import CONTROLS, explain_example, quickstart
from dualformer.training.signals import TrainingInterrupted
from dualformer.weights.safetensors_file import load_weights
from small_runs import RecordingReporter


def small(out: Path, **changes: object) -> QuickstartConfig:
    settings = {"train_videos": 3, "val_videos": 1, "test_videos": 2, "epochs": 1, "difficulty": 0.0}
    return QuickstartConfig(out=str(out), **(settings | changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quickstart") / "out"
    quickstart(small(out, scratch=True), reporter=RecordingReporter())
    return out


def test_the_report_says_what_evaluation_finds(done: Path):
    figures = json.loads((done / "report" / "figures.json").read_text())
    model, card = load_weights(done / "run" / "best.safetensors")
    test = open_videos(done / "videos" / "test")
    assert len(test) == 16 and len(card.labels) == 8
    assert evaluate(model, card, test, views="1x1").figures["top1"] == pytest.approx(figures["top1"])
    for control in CONTROLS:
        stated = figures["controls"][control]
        assert evaluate(model, card, test, views="1x1", control=control).figures["top1"] == pytest.approx(stated)
    assert figures["chance"] == 1 / 8
    assert 0 <= figures["from_scratch_top1"] <= 1
    assert figures["example"]["top"][0][0] in card.labels
    page = (done / "report" / "README.md").read_text()
    assert f"| trained from `rendered` | {figures['top1']:.1%} |" in page
    for name in ("curves.png", "confusion.png", "contact_sheet.png"):
        assert (done / "report" / name).read_bytes().startswith(b"\x89PNG") and name in page
    assert (done / "report" / "gradcam.gif").read_bytes().startswith(b"GIF89a") and "(gradcam.gif)" in page


def test_without_captum_there_is_a_report_without_gradcam(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    lines = RecordingReporter()
    recognizer = Recognizer.load(done / "run" / "best.safetensors", views="1x1")
    file = next((done / "videos" / "test").rglob("*.mp4"))
    assert explain_example(recognizer, file, tmp_path, lines) is None
    assert not list(tmp_path.iterdir()) and "pip install 'dualformer[explain]'" in " ".join(lines.lines)


def test_no_video_is_in_two_splits(done: Path):
    files = {split: {p.read_bytes() for p in (done / "videos" / split).rglob("*.mp4")} for split in ("train", "test")}
    assert len(files["train"]) == 24 and len(files["test"]) == 16
    assert not files["train"] & files["test"]


def test_an_interrupted_one_goes_on_and_a_finished_one_is_done_anew(tmp_path: Path, blank_pictures: None):
    def stop() -> None:
        raise TrainingInterrupted

    config = small(tmp_path, epochs=2, train_videos=2, test_videos=1)
    with pytest.raises(TrainingInterrupted):
        quickstart(config, reporter=RecordingReporter({"epoch 2": stop}))
    second = RecordingReporter()
    quickstart(config, reporter=second)
    assert any(line.startswith("resumed at step 1 of 2") for line in second.lines), second.lines
    third = RecordingReporter()
    quickstart(config, reporter=third)
    assert not any(line.startswith("resumed") for line in third.lines)


def test_a_folder_with_other_videos_is_left_alone(done: Path):
    with pytest.raises(ValueError, match="holds rendered videos with another"):
        quickstart(small(done, difficulty=1.0), reporter=RecordingReporter())
    assert (done / "report" / "figures.json").is_file() and (done / "run" / "best.safetensors").is_file()
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        small(done, epochs=0)
