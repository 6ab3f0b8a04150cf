"""Training on videos of several labels, by the API and by the command line, to evaluation and prediction."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import several_verbs
import torch
from safetensors.torch import load_file

from dualformer.cli.main import main
from dualformer.datasets.splits import open_videos
from dualformer.errors import DualFormerError
from dualformer.evaluation.evaluate import evaluate
from dualformer.inference.recognizer import Recognizer
from dualformer.training.callbacks import ConfusionCallback
from dualformer.training.checkpoint import Progress
from dualformer.training.dry_run import dry_run
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.run_folder import summarize
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.teacher import TeacherError, open_teacher
from dualformer.training.train import train
from dualformer.training.validation import ValidationResult
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics
from dualformer.weights.safetensors_file import load_weights, read_card
from small_runs import RecordingReporter

CLASSES = ("dark", "fast", "left", "square")


def moving(labels: set[str], seed: int) -> np.ndarray:
    """A square or a disc that goes left or right, dark or bright, fast or slowly: 16 frames of 32x32."""
    rng = np.random.default_rng(seed)
    speed = (2 if "fast" in labels else 1) * (-1 if "left" in labels else 1)
    y, x = np.mgrid[:32, :32]
    frames = np.full((16, 32, 32, 3), 128, dtype=np.uint8)
    middle, height = rng.integers(0, 32), rng.integers(8, 24)
    for t in range(16):
        across, down = np.abs((x - middle - speed * t + 16) % 32 - 16), np.abs(y - height)
        inside = np.maximum(across, down) <= 6 if "square" in labels else across**2 + down**2 <= 50
        frames[t][inside] = 10 if "dark" in labels else 245
    return frames


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 videos to train on and 8 to validate on, with one to four labels each."""
    folder = tmp_path_factory.mktemp("several")
    rows = ["path,label,split"]
    for number in range(32):
        bits = number % 15 + 1
        labels = {name for i, name in enumerate(CLASSES) if bits >> i & 1}
        write_video(folder / f"{number}.mp4", moving(labels, number), fps=25)
        rows.append(f"{number}.mp4,{';'.join(sorted(labels))},{'train' if number < 24 else 'val'}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder / "list.csv"


@pytest.fixture
def several(data: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        data=str(data),
        out=str(tmp_path / "run"),
        multi_label=True,
        model="dualformer_nano",
        start="random",
        frames=4,
        size=32,
        epochs=2,
        batch_size=8,
        lr=1e-3,
        flip="off",
        select="best",
        workers=0,
        precision="float32",
    )


def run(config: TrainConfig, **changes: object):
    return train(config.replace(**changes), reporter=SilentReporter())


def test_a_run_is_judged_by_mean_average_precision(several: TrainConfig, data: Path, drawn: None):
    reporter = RecordingReporter()
    result = train(several, reporter=reporter)
    said = "\n".join(reporter.lines)
    assert "several labels a video: yes or no for every class" in said
    assert "videos to train on: dark 13, fast 12, left 12, square 10" in said
    assert "8 validation videos, and fewer of each class: average precision swings" in said
    epochs = read_metrics(result.out)
    for epoch in epochs:
        assert {"train_f1", "train_top1", "val_map", "val_f1", "val_top1", "val_loss"} <= set(epoch)
        assert (
            "val_top5" not in epoch and f"mAP {epoch['val_map']:.1%}" in said and f"F1 {epoch['train_f1']:.1%}" in said
        )
    best = max(epochs, key=lambda epoch: (epoch["val_map"], -epoch["val_loss"]))
    assert (result.best_map, result.best_epoch) == (best["val_map"], best["epoch"])
    assert result.best_top1 == best["val_top1"]
    lines = summarize(result)
    assert f"mean average precision {result.best_map:.1%} on 8 validation videos in epoch" in lines[0]
    assert (result.out / "curves.png").read_bytes().startswith(b"\x89PNG")
    # What is judged while training is what evaluation finds with the same views.
    model, card = load_weights(result.weights)
    assert card.multi_label and card.labels == CLASSES and card.metrics["val_map"] == pytest.approx(best["val_map"])
    assert card.metrics["val_f1"] == pytest.approx(best["val_f1"])
    videos = open_videos(data, on={"split": ("val",)}, multi_label=True)
    figures = evaluate(model, card, videos).figures
    assert figures["mean_average_precision"] == pytest.approx(best["val_map"])
    assert figures["micro_f1"] == pytest.approx(best["val_f1"])
    assert figures["cross_entropy"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_a_few_videos_are_memorised(several: TrainConfig):
    result = run(several, overfit=8, epochs=40, lr=3e-3, val_every=10)
    assert result.best_map is not None and result.best_map > 0.99
    assert read_metrics(result.out)[-1]["val_f1"] > 0.9


def test_stopped_and_resumed_gives_the_same_bits_with_everything_on(several: TrainConfig, tmp_path: Path):
    config = several.replace(
        mixup=0.8, cutmix=1.0, label_smoothing=0.1, class_weights="balanced", ema=0.9, accumulate=2, batch_size=4
    )
    run(config)
    stopped = config.replace(out=str(tmp_path / "stopped"))
    run(stopped, max_steps=4)
    run(stopped, resume=True, workers=1)
    one, other = Path(config.out), tmp_path / "stopped"
    for name in ("last.safetensors", "best.safetensors", "ema.safetensors"):
        tensors, resumed = load_file(one / name), load_file(other / name)
        assert all(torch.equal(tensors[key], resumed[key]) for key in tensors)
    keys = ("train_loss", "train_f1", "train_top1", "val_loss", "val_map", "val_f1", "ema_map")
    assert [[e[key] for key in keys] for e in read_metrics(one)] == [
        [e[key] for key in keys] for e in read_metrics(other)
    ]
    assert read_card(one / "ema.safetensors").multi_label
    with pytest.raises(DualFormerError, match="multi_label"):
        config_path = other / "config.json"
        config_path.write_text(config_path.read_text().replace('"multi_label": true', '"multi_label": false'))
        settings = json.loads(config_path.read_text())
        settings["data"] = str(one_label_each(tmp_path, Path(several.data)))
        config_path.write_text(json.dumps(settings))
        run(TrainConfig(out=str(other), resume=True))


def one_label_each(folder: Path, data: Path) -> Path:
    """The list with the first label only, and its videos by their full paths."""
    rows = [line.split(",") for line in data.read_text().splitlines()]
    lines = [",".join(rows[0]), *(f"{data.parent / p},{label.split(';')[0]},{split}" for p, label, split in rows[1:])]
    (folder / "one.csv").write_text("\n".join(lines) + "\n")
    return folder / "one.csv"


WAYS = {"several": ("--multi-label",), "weighted": ("--class-weights", "balanced")}
"""By name, the options of two runs in two processes. The second is of one label a video."""


@pytest.fixture(scope="module")
def of_two_processes(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list ``NAME.csv`` of each of `WAYS` and what two processes with batches of 4 made of it in ``NAME``."""
    folder = tmp_path_factory.mktemp("two")
    calls = []
    for name, options in WAYS.items():
        rows = (data if name == "several" else one_label_each(folder, data)).read_text().splitlines()[:-1]
        rows = [rows[0], *(f"{data.parent / row}" for row in rows[1:])]  # a path that is absolute stays as it is
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
        calls.append([
            *("train", "--data", str(folder / f"{name}.csv"), "--from", "random", *options),
            *("--frames", "4", "--size", "32", "--epochs", "1", "--batch-size", "4", "--devices", "2", "--lr", "1e-3"),
            *("--flip", "off", "--workers", "0", "--precision", "float32", "--dropout", "0", "--drop-path", "0"),
            *("--accelerator", "cpu", "--model", "dualformer_nano", "--out", str(folder / name)),
        ])  # fmt: skip
    command = [sys.executable, str(Path(several_verbs.__file__)), json.dumps(calls)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["several", pytest.param("weighted", marks=pytest.mark.slow)])
def test_two_processes_find_the_same_figures(several: TrainConfig, of_two_processes: Path, name: str):
    """7 clips to validate on cannot be dealt evenly, and average precision needs all of them at once.

    Where classes have weights, the two processes' batches do not weigh alike.
    """
    several_labels = name == "several"
    config = several.replace(data=str(of_two_processes / f"{name}.csv"), epochs=1, dropout=0.0, drop_path=0.0)
    one = read_metrics(
        run(config, multi_label=several_labels, class_weights=None if several_labels else "balanced").out
    )[0]
    two = read_metrics(of_two_processes / name)[0]
    figures = [key for key in one if key.startswith(("train_", "val_"))]
    assert len(figures) == (7 if several_labels else 4)
    for key in figures:
        assert two[key] == pytest.approx(one[key], abs=2e-5), key


def test_by_the_command_line_to_evaluation_and_prediction(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    options = ("--frames", "4", "--size", "32", "--epochs", "1", "--batch-size", "8", "--workers", "0", "--flip", "off")
    assert main(["train", "--data", str(data), "--multi-label", "--from", "random", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["best_map"] <= 1
    weights = "runs/train/best.safetensors"
    on = ("--on", "split=val", "--workers", "0", "--device", "cpu")
    assert main(["evaluate", weights, "--data", str(data), *on]) == 0
    said = capsys.readouterr().out
    assert f"mean average precision    {result['best_map']:.1%}" in said
    assert "micro F1 at one half" in said and "top-1" not in said
    assert "there is no confusion matrix: with several labels a video" in said
    assert "class   videos  average precision  recall  precision     F1" in said
    assert not Path("runs/train/evaluation/confusion.png").exists()
    assert main(["evaluate", weights, "--data", "runs/train/split.csv", *on, "--json", "--control", "one_frame"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 8
    video = str(data.parent / "14.mp4")
    assert main(["predict", video, "--weights", weights, "--json", "--top", "4", "--device", "cpu"]) == 0
    labels = json.loads(capsys.readouterr().out)["labels"]
    assert labels == [
        {"label": label, "probability": p} for label, p in Recognizer.load(weights, device="cpu")(video).top(4)
    ]
    assert sum(each["probability"] for each in labels) != pytest.approx(1)
    assert main(["predict", video, "--weights", weights, "--device", "cpu"]) == 0
    assert "4 classes (a video may be of several: each has a probability for itself)" in capsys.readouterr().out
    assert main(["info", weights]) == 0
    assert "4, dark, fast, left, …; a video may be of several" in capsys.readouterr().out


def test_weights_of_several_labels_judge_no_others_and_the_other_way_round(
    several: TrainConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    result = run(several, epochs=1)
    (tmp_path / "folder" / "dark").mkdir(parents=True)
    assert main(["evaluate", str(result.weights), "--data", str(tmp_path / "folder")]) == 2
    assert "gives each video one label: several are for a CSV file" in capsys.readouterr().err
    with pytest.raises(TeacherError, match="it was trained with `multi_label=True`"):
        open_teacher(str(result.weights), classes=CLASSES, clips=kinetics(4, 2, 32), tokens=True)
    scores = ("--data", str(one_label_each(tmp_path, data)), "--out", str(tmp_path / "scores"), "--device", "cpu")
    assert main(["teach", str(result.weights), *scores]) == 1
    assert "it was trained with --multi-label" in capsys.readouterr().err
    plain = run(
        several, multi_label=False, data=str(one_label_each(tmp_path, data)), out=str(tmp_path / "one"), epochs=1
    )
    assert not read_card(plain.weights).multi_label and "val_map" not in read_metrics(plain.out)[0]
    assert main(["evaluate", str(plain.weights), "--data", str(data)]) == 1
    assert "list.csv:4: several labels, 'dark;fast': name one" in capsys.readouterr().err
    again = run(several, start=str(result.weights), out=str(tmp_path / "again"), epochs=1)
    assert read_card(again.weights).multi_label


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "rendered"}, "`multi_label` is for a CSV file: rendered videos have one label each"),
        ({"teacher": "rendered"}, "`multi_label` goes with no teacher"),
        ({"teacher_scores": "scores"}, "`multi_label` goes with no teacher"),
        ({"confusion_every": 1}, "`confusion_every` is for videos of one label each"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**({"data": "list.csv", "multi_label": True} | changes))


def test_without_the_option_the_list_is_an_error_before_anything_is_written(several: TrainConfig):
    with pytest.raises(DualFormerError, match=r"list\.csv:4: several labels, 'dark;fast': .*`multi_label=True`"):
        run(several, multi_label=False)
    assert not Path(several.out).exists()


def test_a_plan_says_what_is_learnt(several: TrainConfig):
    lines = dry_run(several.replace(class_weights="balanced"), seconds=1.0).lines
    assert any(line.startswith("several labels a video") for line in lines)
    assert "class weights: videos without the class over those with it: dark 0.846, fast 1, left 1, square 1.4" in lines


def test_the_higher_mean_average_precision_is_the_better_epoch():
    accurate = ValidationResult(loss=0.1, top1=0.9, map=0.5, f1=0.9)
    ranked = ValidationResult(loss=0.9, top1=0.1, map=0.6, f1=0.1)
    assert ranked.rank > accurate.rank
    progress = Progress()
    assert accurate.rank > progress.best_rank
    progress.best_top1, progress.best_map, progress.best_loss = 0.9, 0.5, 0.1
    assert progress.best_rank == accurate.rank < ranked.rank
    assert accurate.figures("val") == {"val_loss": 0.1, "val_top1": 0.9, "val_map": 0.5, "val_f1": 0.9}


def test_no_picture_is_drawn_of_what_there_is_not(tmp_path: Path):
    ConfusionCallback(tmp_path, CLASSES, 1).on_epoch({"epoch": 1}, None)
    assert not list(tmp_path.iterdir())
