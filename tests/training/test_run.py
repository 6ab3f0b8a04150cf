"""Whole runs on a few small files: what they leave, that they resume to the same bits, and how they fail."""

import json
import math
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dualformer.datasets.splits import open_videos
from dualformer.errors import DualFormerError
from dualformer.model.presets import create_model
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.run_folder import TrainResult
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.training.training_pictures import CURVES, SCHEDULE
from dualformer.video.backend import decoder
from dualformer.weights.safetensors_file import load_weights, read_card, save_weights
from forked_verbs import ForkedVerb
from small_runs import RecordingReporter


def run(settings: TrainConfig, **changes: object) -> TrainResult:
    return train(settings.replace(**changes), reporter=SilentReporter())


def assert_same_weights(a: Path, b: Path) -> None:
    one, other = load_file(a), load_file(b)
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


def command(settings: TrainConfig, *extra: str) -> list[str]:
    return [
        *("train", "--data", settings.data, "--out", settings.out),
        *("--frames", "4", "--size", "32", "--epochs", "2", "--batch-size", "4", "--flip", "off", "--workers", "0"),
        *("--precision", "float32", *extra),
    ]


def test_segments_train_to_the_bits_of_the_same_clips_as_files(settings: TrainConfig, tmp_path: Path):
    rng = np.random.default_rng(1)
    pictures = [Image.fromarray(picture) for picture in rng.integers(0, 256, (50, 24, 32, 3), dtype=np.uint8)]
    whole, cut = ["path,start,end,label,split,fps"], ["path,label,split,fps"]
    for number, (first, last) in enumerate(((0, 20), (17, 40), (25, 31), (30, 50))):
        rest = f"{'ab'[number % 2]},{'val' if number > 1 else 'train'},25"
        whole.append(f"film/%03d.png,{first / 25},{last / 25},{rest}")
        cut.append(f"clip{number}/%03d.png,{rest}")
        save_frames(tmp_path / f"clip{number}", pictures[first:last])
    save_frames(tmp_path / "film", pictures)
    found: list[Path] = []
    for name, lines in {"whole": whole, "cut": cut}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
        changes = {"data": str(tmp_path / f"{name}.csv"), "group": "segment" if name == "whole" else None}
        found.append(run(settings, **changes, out=str(tmp_path / name), flip="on", epochs=1, batch_size=2).weights)
    assert_same_weights(*found)


def save_frames(folder: Path, pictures: list[Image.Image]) -> None:
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number:03d}.png")


def test_a_run_leaves_weights_that_know_everything_and_a_record(settings: TrainConfig, drawn: None):
    result = run(settings)
    out = Path(settings.out)
    assert result.epochs == 2 and 0 <= result.best_top1 <= 1
    assert result.weights == out / "best.safetensors"
    model, card = load_weights(out / "last.safetensors")
    assert card.labels == ("left", "right")
    assert card.config == model.config
    assert (card.preprocessing.frames, card.preprocessing.stride, card.preprocessing.crop) == (4, 2, 32)
    epochs = read_metrics(out)
    assert [(epoch["epoch"], epoch["step"]) for epoch in epochs] == [(1, 3), (2, 6)]
    assert max(epoch["val_top1"] for epoch in epochs) == result.best_top1
    assert read_card(out / "best.safetensors").metrics["val_top1"] == pytest.approx(result.best_top1)
    resolved = {
        "head": "pooled",
        "stride": 2,
        "sampling": "stride",
        "crop_mode": "center",
        "backbone_lr": 1.0,
        "drop_path": 0.0,
        "dropout": 0.0,
        "min_area": 0.5,
        "label_smoothing": 0.1,
        "randaugment": "7x2",
        "randaugment_until": 0.6,
        "warmup_epochs": 2 / 12,
        "val_views": "4x1",
        "val_every": 1,
        "devices": 1,
        "nodes": 1,
    }
    assert TrainConfig.load(out / "config.json") == settings.replace(**resolved)
    assert json.loads((out / "config.json").read_text())["decoder"] == decoder()
    for picture in (CURVES, SCHEDULE):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert (out / "split.csv").read_text().count("\n") == 1 + 12 + 4


def test_weights_of_segments_know_which_class_means_that_nothing_happens(
    settings: TrainConfig, tmp_path: Path, drawn: None
) -> None:
    lines = ["path,start,end,label"]
    for split in ("train", "val"):
        for sample in open_videos(settings.data, on={"split": (split,)}).samples:
            lines.append(f"{sample.path},0,0.1,{sample.path.parent.name}")
    (tmp_path / "segments.csv").write_text("\n".join(lines) + "\n")
    result = run(settings, data=str(tmp_path / "segments.csv"), background="nothing", epochs=1)
    card = read_card(result.weights)
    assert card.labels == ("left", "right", "nothing") and card.segment_settings.background == ("nothing",)
    for changes in ({"background": "nothing"}, {"frames_per_second": 25.0}):
        with pytest.raises(ValueError, match="is for segments of videos, and `data=rendered` has none"):
            settings.replace(data="rendered", **changes)


@pytest.mark.parametrize("select", ["last", "best"])
def test_a_run_may_be_validated_seldom_and_is_in_the_end(settings: TrainConfig, drawn: None, select: str):
    reporter = RecordingReporter()
    result = train(settings.replace(epochs=3, val_every=2, select=select), reporter=reporter)
    out = Path(settings.out)
    epochs = read_metrics(out)
    assert [("val_top1" in epoch, "val_loss" in epoch) for epoch in epochs] == [
        (False, False),
        (True, True),
        (True, True),
    ]
    assert result.best_epoch == (3 if select == "last" else max(epochs[1:], key=rank)["epoch"])
    assert read_card(out / "best.safetensors").metrics["epoch"] == result.best_epoch
    said = [line for line in reporter.lines if line.startswith("epoch ") and "step" not in line]
    assert ["validation" in line for line in said] == [False, True, True]


def rank(epoch: dict[str, Any]) -> tuple[float, float]:
    return epoch["val_top1"], -epoch["val_loss"]


def test_the_same_settings_give_the_same_bits_and_another_seed_does_not(settings: TrainConfig, tmp_path: Path):
    run(settings)
    run(settings, out=str(tmp_path / "again"), workers=2)
    assert_same_weights(Path(settings.out) / "last.safetensors", tmp_path / "again" / "last.safetensors")
    run(settings, out=str(tmp_path / "other"), seed=1)
    one = load_file(Path(settings.out) / "last.safetensors")
    other = load_file(tmp_path / "other" / "last.safetensors")
    assert not torch.equal(one["head.weight"], other["head.weight"])


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_saves_stops_and_says_how_to_go_on(settings: TrainConfig, number: signal.Signals, name: str):
    process = ForkedVerb(command(settings, "--epochs", "400", "--workers", "1"))
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch 1/400"):
            os.killpg(process.pid, number)  # as a terminal and a scheduler do: to the loader's workers as well
            break
    lines += process.stdout.readlines()
    assert process.wait(timeout=60) == 130, lines
    assert any(f"stopped by {name}; saved at step" in line for line in lines)
    assert lines[-1].startswith("go on with: dualformer train --resume --out")
    again = TrainConfig(out=settings.out, resume=True, max_steps=12)
    assert train(again, reporter=SilentReporter()).epochs == 4


def test_a_resumed_run_says_that_another_decoder_reads_its_videos(settings: TrainConfig):
    run(settings, max_steps=1)
    lines = RecordingReporter()
    config = Path(settings.out) / "config.json"
    config.write_text(config.read_text().replace(decoder(), "PyAV 9, FFmpeg 4"))
    train(settings.replace(resume=True), reporter=lines)
    said = f"videos were decoded by PyAV 9, FFmpeg 4 so far, and are by {decoder()} now: pixels may differ"
    assert said in lines.lines


def test_resume_refuses_other_data_and_a_run_is_not_overwritten(settings: TrainConfig, videos: Path):
    run(settings, max_steps=1)
    with pytest.raises(ValueError, match="already holds a run"):
        run(settings)
    config = json.loads((Path(settings.out) / "config.json").read_text())
    (Path(settings.out) / "config.json").write_text(json.dumps(config | {"data": "moved-away"}))
    with pytest.raises(
        FileNotFoundError,
        match=r"no such folder or CSV file: .*moved-away; .* have moved, resume it with their new `data`",
    ):
        run(settings, resume=True, data="")
    (Path(settings.out) / "config.json").write_text(json.dumps(config | {"lr": 0.5}))
    with pytest.raises(DualFormerError, match="started with another lr"):
        train(TrainConfig(out=settings.out, resume=True), reporter=SilentReporter())
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        run(settings, resume=True, out=settings.out + "-nowhere")


def test_resume_refuses_what_the_run_does_not_have(settings: TrainConfig):
    run(settings, max_steps=1)
    last = re.escape(str(Path(settings.out) / "last.safetensors"))
    with pytest.raises(ValueError, match=rf"^`epochs=50`: .* this one has {settings.epochs}; .* by `start={last}`$"):
        run(settings, resume=True, epochs=50)
    with pytest.raises(ValueError, match=r"^`precision=bfloat16`: .* this one has float32;"):
        train(TrainConfig(out=settings.out, resume=True, precision="bfloat16"), reporter=SilentReporter())
    with pytest.raises(ValueError, match=rf"^`batch_size=1`: .* this one has {settings.batch_size};"):
        run(settings, resume=True, batch_size=1)
    assert len(read_metrics(Path(settings.out))) == 1


def test_overfit_memorises(settings: TrainConfig):
    result = run(settings, overfit=4, epochs=40, batch_size=4, start="rendered", lr=1e-3, backbone_lr=1.0, val_every=10)
    assert result.best_top1 == 1.0
    assert read_metrics(Path(settings.out))[-1]["train_loss"] < math.log(2) / 2


def test_starting_from_weights_with_other_classes_makes_a_new_head_and_says_so(settings: TrainConfig, tmp_path: Path):
    run(settings, max_steps=1)
    model, card = load_weights(Path(settings.out) / "last.safetensors")
    start = tmp_path / "start.safetensors"
    model.reset_classifier(5, seed=0)
    labels = ("a", "b", "c", "d", "e")
    save_weights(start, model, type(card)(**vars(card) | {"config": model.config, "labels": labels, "metrics": {}}))
    lines = RecordingReporter()
    out = tmp_path / "second"
    train(settings.replace(out=str(out), start=str(start), frames=None, size=None, max_steps=1), reporter=lines)
    assert any("classifier: 5 → 2 classes" in line for line in lines.lines), lines.lines
    # What it started from is not needed any more.
    start.unlink()
    run(settings, out=str(out), start=str(start), resume=True, max_steps=2)
    fresh = create_model("dualformer_nano", clip=(4, 32, 32), seed=0).state_dict()
    assert not torch.equal(fresh["norm.weight"], model.state_dict()["norm.weight"])
    kept = load_file(out / "last.safetensors")
    # Two steps of a tenth of the learning rate from where the first run stopped.
    assert (kept["norm.weight"] - model.state_dict()["norm.weight"]).abs().max() < 4e-4


def test_weights_of_another_network_are_refused(settings: TrainConfig):
    run(settings, max_steps=1)
    weights = str(Path(settings.out) / "last.safetensors")
    with pytest.raises(DualFormerError, match="channels"):
        run(settings, out=settings.out + "2", start=weights, model="dualformer_tiny")
    assert not Path(settings.out + "2").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "dualformer_huge"}, "unknown model 'dualformer_huge'; there are dualformer_nano"),
        ({"batch_size": 13}, "`batch_size=13` is more than the 12 clips"),
        ({"accumulate": 4}, "`accumulate=4` is more than the 3 batches"),
        ({"flip": None}, "class 'left' sounds as if left and right differ; say `flip=off`"),
        ({"data": "rendered", "size": None}, "give `frames` and `size`"),
        ({"data": "rendered", "flip": "on"}, "give `flip=off`"),
        ({"train_on": "batch=A"}, "."),
        ({"epochs": None, "warmup_epochs": 1000.0}, r"`warmup_epochs=1000\.0` leaves nothing of `epochs=\d+`"),
        ({"batch_size": 8, "devices": 2}, "`batch_size=8` on each of 2 devices is more than the 12 clips"),
        ({"freeze_stages": 5}, "`freeze_stages=5`: the network has 4 stages"),
    ],
)
def test_settings_that_cannot_work_stop_before_anything_is_written(settings: TrainConfig, changes, message: str):
    with pytest.raises(ValueError, match=message):
        run(settings, **changes)
    assert not Path(settings.out).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "`epochs` must be more than 0"),
        ({"workers": -1}, "`workers` must be 0 or more"),
        ({"dropout": 1.0}, "`dropout` must be 0 or more and less than 1, not 1.0"),
        ({"val_fraction": 1.0}, "`val_fraction`"),
        ({"epochs": 30, "warmup_epochs": 30.0}, "`warmup_epochs=30.0` leaves nothing of `epochs=30`"),
        ({"ema": 1.0}, "`ema` must be 0 or more and less than 1, not 1.0"),
        ({"devices": 0}, "`devices` must be more than 0"),
        ({"keep": 0}, "`keep` must be more than 0"),
        ({"freeze": "backbone", "freeze_stages": 1}, "`freeze=backbone` freezes every stage"),
    ],
)
def test_impossible_numbers_are_named_by_their_option(changes, message: str):
    with pytest.raises(ValueError, match=message):
        TrainConfig(data="videos", **changes)


def test_training_on_rendered_videos_uses_the_truth_and_never_repeats_a_clip(settings: TrainConfig):
    lines = RecordingReporter()
    train(settings.replace(data="rendered", frames=8, rendered_clips=8, epochs=1, batch_size=8), reporter=lines)
    assert any("16 classes, 8 new clips an epoch, from plain to hard" in line for line in lines.lines)
    _, card = load_weights(Path(settings.out) / "last.safetensors")
    assert len(card.labels) == 16 and card.provenance == "trained by dualformer on rendered"


@pytest.mark.parametrize("resumed", [False, True])
def test_of_two_runs_started_together_one_trains_and_the_other_is_told(settings: TrainConfig, resumed: bool):
    out = Path(settings.out)
    if resumed:
        run(settings, max_steps=1)
        commands = [["train", "--out", settings.out, "--resume", "--max-steps", "6"]] * 2
    else:
        commands = [command(settings, "--seed", seed) for seed in ("3", "7")]
    runs = [ForkedVerb(each) for each in commands]
    said = [process.communicate(timeout=300) for process in runs]
    codes = [process.poll() for process in runs]
    winner = codes.index(0)
    loser, process = said[1 - winner], runs[winner]
    # A loser that is so late that the other has ended finds a run.
    assert (f"another run is writing to it, process {process.pid} on" in loser and codes[1 - winner] == 1) or (
        "already holds a run" in loser or "resumed at step 6 of 6" in loser
    ), said
    assert [epoch["epoch"] for epoch in read_metrics(out)] == [1, 2]
    if not resumed:
        assert json.loads((out / "config.json").read_text())["seed"] == (3, 7)[winner]
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_a_killed_run_does_not_hold_its_folder(settings: TrainConfig):
    process = ForkedVerb(command(settings, "--epochs", "400"))
    for line in process.stdout:
        if line.startswith("results go to"):
            break
    with pytest.raises(DualFormerError, match=f"another run is writing to it, process {process.pid} on"):
        run(settings, resume=True)
    process.kill()
    process.wait()
    run(settings, resume=(Path(settings.out) / "config.json").is_file(), max_steps=1)
    assert not (Path(settings.out) / ".lock").exists()


def test_the_new_place_of_data_that_moved_is_written_down(settings: TrainConfig, tmp_path: Path):
    first, second, out = tmp_path / "first", tmp_path / "second", Path(settings.out)
    shutil.copytree(settings.data, first)
    run(settings, data=str(first), max_steps=1)
    first.rename(second)
    with pytest.raises(FileNotFoundError, match="first"):
        run(settings, resume=True, data="", max_steps=2)
    run(settings, resume=True, data=str(second), max_steps=2)
    assert json.loads((out / "config.json").read_text())["data"] == str(second)
    validated = open_videos(out / "split.csv", on={"split": ("val",)})
    assert {sample.path.parents[2] for sample in validated.samples} == {second}
    assert run(settings, resume=True, data="", max_steps=3).epochs == 1


@pytest.mark.parametrize("how", ["other folder", "moved together"])
def test_a_run_finds_the_data_that_it_was_told_by_a_relative_path(
    settings: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    project = tmp_path / "project"
    shutil.copytree(settings.data, project / "d")
    monkeypatch.chdir(project)
    run(settings, data="d", out="runs/a", max_steps=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    if how == "moved together":
        project = project.rename(tmp_path / "moved")
    run(settings, resume=True, data="", out=str(project / "runs" / "a"), max_steps=2)
    assert json.loads((project / "runs" / "a" / "config.json").read_text())["data"] == str(project / "d")
    assert len(open_videos(project / "runs" / "a" / "split.csv", on={"split": ("val",)})) == 4
