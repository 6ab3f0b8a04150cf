"""``dualformer train``: recipes as defaults, plans, and what a finished run says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dualformer.cli import train as verb
from dualformer.cli.main import main, parse
from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.scoring.intervals import wilson_interval
from dualformer.training import loop, run_folder
from dualformer.training.recipes import recipes
from dualformer.training.run_folder import TrainResult, summarize
from dualformer.training.settings.train_config import TrainConfig

Capture = pytest.CaptureFixture[str]
TINY = ("--frames", "4", "--size", "32", "--workers", "0", "--precision", "float32", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, eight to train on and three to validate on each."""
    folder = tmp_path_factory.mktemp("made") / "videos"
    scene = Scene(size=32, frames=16, classes=("up", "down"))
    write_dataset(folder, scene, clips_per_class={"train": 8, "val": 3}, seed=0)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder, "draw_curves", lambda *_: None)  # drawing takes longer than these runs
    monkeypatch.setattr(loop, "draw_schedule", lambda *_: None)
    return tmp_path


def options(*arguments: str) -> Any:
    return parse(verb, "train", arguments)


def complaint(capsys: Capture, *arguments: str) -> str:
    assert main(["train", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_recipes_settings_are_the_defaults_and_every_one_can_be_changed() -> None:
    said = options("hmdb51-small", "--data", "videos", "--from", "w", "--lr", "0.5", "--flip", "off", "--frames", "8")
    assert (said.lr, said.flip, said.frames) == (0.5, "off", 8)
    assert (said.model, said.stride, said.epochs, said.drop_path, said.start) == ("dualformer_small", 4, 16, 0.2, "w")
    assert said.recipe == "hmdb51-small"
    plain = options("--data", "videos")
    assert (plain.lr, plain.model, plain.epochs, plain.recipe) == (None, None, None, "")


def test_random_weights_are_not_given_the_slow_backbone_of_a_recipe() -> None:
    for words, factor in ((["--from", "random"], None), (["--from=random"], None), (["--from", "w"], 0.1)):
        assert options("ucf101-tiny", "--data", "videos", *words).backbone_lr == factor
    assert options("ucf101-tiny", "--data", "videos", "--from", "random", "--backbone-lr", "0.3").backbone_lr == 0.3


def test_settings_of_a_file_are_the_defaults_too(here: Path) -> None:
    (here / "mine.json").write_text(json.dumps({"epochs": 7, "data": "videos", "resume": True, "mixup": 0.8}))
    said = options("mine.json", "--mixup", "0.4")
    assert (said.epochs, said.data, said.mixup, said.resume) == (7, "videos", 0.4, False)
    assert options("mine.json", "--data", "others").data == "others"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--from", "w.safetensors"), "w.safetensors: no such weights file or folder, nor an id on the hub"),
        (("--teacher", "t.safetensors"), "t.safetensors: no such weights file or folder, nor an id on the hub"),
        (("--teacher-scores", "s"), "s/scores.json: no stored scores there; make them with dualformer teach"),
    ],
)
def test_files_that_are_not_there_are_told_before_the_data_are_opened(
    given: tuple[str, ...], message: str, capsys: Capture
) -> None:
    assert message in complaint(capsys, "--data", "nowhere", *given)


def test_a_wrong_start_is_told_before_what_takes_long_to_import() -> None:
    program = (
        "import sys; from dualformer.cli.main import main; "
        "code = main(['train', '--data', 'nowhere', '--from', 'w.safetensors']); "
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("dualformer: w.safetensors: no such weights file")) == (2, True)


def test_what_is_wrong_with_a_recipe_is_one_line(here: Path, capsys: Capture) -> None:
    assert "no recipe 'hmdb51-smal'; did you mean hmdb51-small" in complaint(capsys, "hmdb51-smal", "--data", "videos")
    assert "needs --from: DualFormer-S trained" in complaint(capsys, "hmdb51-small", "--data", "videos")
    assert "--data" in complaint(capsys, "hmdb51-small", "--from", "random")
    assert "leave hmdb51-small out" in complaint(capsys, "hmdb51-small", "--resume")
    said = complaint(capsys, "hmdb51-small", "--data", "videos", "--from", "w", "--epochs", "0")
    assert "--epochs must be more than 0" in said
    (here / "mine.json").write_text('{"epoch": 7}')
    assert "mine.json: there is no setting 'epoch'; did you mean epochs" in complaint(capsys, "mine.json")


def test_the_help_of_a_recipe_is_its_text(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["train", "diving48-small", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for text in ("81.8 % top-1", "Mirroring is off", "The release: 30 epochs", "(here: dualformer_small)"):
        assert text in said


def test_all_recipes_are_listed(capsys: Capture) -> None:
    assert main(["train", "--recipes"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"kinetics400-base +│ Kinetics-400 +│ 81.1 / 95.0 +│ 4x1 +│ 30 +│ 64 ", table)
    assert all(recipe.name in table for recipe in recipes())
    assert main(["train", "--recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in listed] == [recipe.name for recipe in recipes()]
    assert listed[0]["settings"]["lr"] == 1e-3


def test_a_plan_marks_what_is_not_the_default_and_by_whom(videos: Path, here: Path, capsys: Capture) -> None:
    small = ("--model", "dualformer_nano", "--batch-size", "4", "--from", "random", *TINY)
    assert main(["train", "hmdb51-tiny", "--data", str(videos), "--dry-run", *small]) == 0
    said = capsys.readouterr().out
    assert not list(here.iterdir())
    table = {cells[1]: cells for cells in _rows(said) if len(cells) == 4}
    assert table["--weight-decay"] == ["", "--weight-decay", "0.02", ""]  # the recipe's is the default
    assert table["--epochs"] == ["*", "--epochs", "16", "hmdb51-tiny"]
    assert table["--batch-size"] == ["*", "--batch-size", "4", "command line"]
    assert table["--backbone-lr"] == ["*", "--backbone-lr", "1", "decided"]
    assert "steps: 64, 4 an epoch in 4 batches; a step takes 4 clips (4)" in said
    assert "takes 64 clips a step, this run 4" in said and "--accumulate, times 16, makes up for it" in said
    rates = [cells for cells in _rows(said) if len(cells) == 3]
    assert [cells[:2] for cells in rates[:2]] == [["0 %", "0"], ["10 %", "6"]] and len(rates) == 11
    assert ["head", "512", "0.001", "0.02"] in _rows(said)
    assert "videos to train on: down 8, up 8" in said and re.search(r"estimated time: \d+:\d\d", said)


def test_a_plan_may_name_a_folder_that_holds_a_run(videos: Path, here: Path, capsys: Capture) -> None:
    held = here / "runs" / "train" / "checkpoints" / "step-0000004.pt"
    held.parent.mkdir(parents=True)
    held.write_text("{}")
    assert main(["train", "--data", str(videos), "--dry-run", "--epochs", "3", *TINY]) == 0
    assert "next: the same command without --dry-run, with another --out than runs/train" in capsys.readouterr().out
    assert held.read_text() == "{}"


def _rows(said: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if line[:1] == "│"]


def test_a_plan_as_json(videos: Path, here: Path, capsys: Capture) -> None:
    assert main(["train", "--data", str(videos), "--dry-run", "--json", "--epochs", "3", *TINY]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["classes"], plan["counts"], plan["val_videos"]) == (2, {"down": 8, "up": 8}, 6)
    assert plan["settings"]["batch_size"] == plan["clips_per_step"] == 4
    assert (plan["steps"], len(plan["rates"]), plan["differs"]["epochs"]) == (12, 11, "command line")
    assert plan["differs"]["start"] == "decided" and plan["differs"]["dropout"] == "decided"
    assert "weight_decay" not in plan["differs"]
    assert plan["timing"]["step"] > 0 and plan["seconds"] > 0
    assert not list(here.iterdir())


def test_without_data_a_plan_is_the_settings_alone(here: Path, capsys: Capture) -> None:
    assert main(["train", "kinetics400-tiny", "--dry-run", "--epochs", "5"]) == 0
    said = capsys.readouterr().out
    table = {cells[1]: cells for cells in _rows(said)}
    assert table["--model"] == ["*", "--model", "dualformer_tiny", "kinetics400-tiny"]
    assert table["--epochs"] == ["*", "--epochs", "5", "command line"]
    assert "add --data" in said
    assert main(["train", "kinetics400-tiny", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["epochs"] == 30
    assert "--epochs must be more than 0" in complaint(capsys, "kinetics400-tiny", "--dry-run", "--epochs", "0")
    assert not list(here.iterdir())


def test_a_run_by_a_recipe_says_how_good_it_is_and_how_to_judge_it(videos: Path, here: Path, capsys: Capture) -> None:
    small = ("--model", "dualformer_nano", "--batch-size", "8", "--epochs", "2", "--warmup-epochs", "0")
    small += ("--select", "best")
    assert main(["train", "hmdb51-small", "--data", str(videos), "--from", "random", *small, *TINY]) == 0
    said = capsys.readouterr().out
    assert "note: the recipe hmdb51-small takes 64 clips a step, this run 8" in said
    found = re.search(r"([\d.]+)% of 6 validation videos right in epoch \d of 2 \(95 % interval ([\d.]+)% to", said)
    assert found and float(found[2]) == pytest.approx(
        100 * wilson_interval(round(6 * float(found[1]) / 100), 6)[0], abs=0.1
    )
    assert "the best of 2 epochs, chosen by 6 videos, looks better than it is" in said
    assert "the recipe hmdb51-small gave 76.4 % with its own data" in said
    command = re.findall(r"next: dualformer (evaluate .*)", said)[0]
    assert command.endswith(" --on split=val --views 4x3")
    assert main([*command.split(), "--workers", "0", "--device", "cpu"]) == 0


def result(out: Path, **changes: Any) -> TrainResult:
    fields = {
        "out": out,
        "weights": out / "best.safetensors",
        "best_top1": 0.75,
        "best_epoch": 3,
        "epochs": 5,
        "val_clips": 4000,
        "seconds": 65.0,
        "clips_per_second": 8.0,
    }
    return TrainResult(**fields | changes)


def test_the_summary_names_what_to_judge_by(here: Path) -> None:
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("ucf101@2:UCF101", {}, "--data ucf101@2:UCF101"),
        ("ucf101@2:UCF101", {"train_on": "split=train,val"}, "--data split.csv --on split=val"),
        ("videos", {}, "--data split.csv --on split=val"),
    )
    for data, chosen, where in cases:
        TrainConfig(data=data, **chosen).save(here / "config.json")
        (here / "split.csv").write_text("")
        lines = summarize(result(Path()))
        assert lines[0].startswith(
            "done in 1:05: 75.0% of 4000 validation videos right in epoch 3 of 5 (95 % interval "
        )
        assert f"next: dualformer evaluate best.safetensors {where}" in lines
        assert not any("looks better than it is" in line for line in lines)
    (here / "split.csv").unlink()
    assert not any("evaluate" in line for line in summarize(result(Path())))
    TrainConfig(data="videos", overfit=4).save(here / "config.json")
    assert any("memorised" in line for line in summarize(result(Path(), val_clips=4)))


def test_a_batch_that_does_not_fit_is_answered_with_accumulate(
    here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\n…")

    monkeypatch.setattr("dualformer.training.train.train", fails)
    assert main(["train", "--data", "videos"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "halve --batch-size and double --accumulate" in line and "another --out" in line


@pytest.mark.parametrize("saved", [False, True])
def test_an_interruption_says_whether_there_is_anything_to_go_on_with(
    videos: Path, here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    def interrupted(config: TrainConfig, **_: object) -> None:
        if saved:
            Path(config.out).mkdir()
            config.save(Path(config.out) / "config.json")
        raise KeyboardInterrupt

    monkeypatch.setattr("dualformer.training.train.train", interrupted)
    assert main(["train", "--data", str(videos), "--out", "my run", *TINY]) == 130
    go_on = "go on with: dualformer train --resume --out 'my run'"
    anew = "interrupted before there was anything to go on with: start it again by the same command"
    assert capsys.readouterr().out.splitlines()[-1] == (go_on if saved else anew)


def test_a_cross_validation_is_planned_by_its_first_fold(videos: Path, capsys: Capture) -> None:
    arguments = ["train", "--data", str(videos / "train"), "--folds", "3", "--dry-run", "--epochs", "3", *TINY]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "fold 1 of 3; the others are like it"
    assert re.fullmatch(r"all 3 folds: \d+:\d\d(:\d\d)?", lines[-2]) and lines[-1].startswith("next: the same command")
    assert main([*arguments, "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["folds"], settings["fold"]) == (3, None)
