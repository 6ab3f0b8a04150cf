"""Every ``next:`` line is a command that would succeed now: they are collected from the verbs and run."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.main import main
from dualformer.video.encode import write_video
from small_weights import save_small_weights

pytestmark = pytest.mark.usefixtures("blank_pictures")

SMALL = {
    "train": "--epochs 1 --max-steps 1 --batch-size 2 --frames 4 --size 32 --stride 1 --workers 0 --from rendered-nano",
    "evaluate": "--workers 0 --views 1x1",
    "predict": "--views 1x1",
    "check": "--workers 1",
}
"""More arguments, so that it takes seconds."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``my data``, whose name needs quotes, two classes of three films each; and weights."""
    monkeypatch.chdir(tmp_path)
    for label in ("run", "walk"):
        folder = tmp_path / "my data" / label
        folder.mkdir(parents=True)
        for number in range(3):
            rng = np.random.default_rng(number)
            frames = rng.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
            write_video(folder / f"{number}.mp4", frames, fps=25)
    save_small_weights(tmp_path / "w.safetensors", ("run", "walk"))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    """Runs a verb; returns the commands that it proposes, without their remarks."""
    assert main([*words]) == code, capsys.readouterr().err
    return re.findall(r"^next: (.*?)(?:   \(.*)?$", capsys.readouterr().out, re.MULTILINE)


def run(command: str, *, places: dict[str, str], more: str = "", code: int = 0) -> list[str]:
    """Returns the words of a proposed command that was run: capitals stand for what a reader has."""
    program, verb, *words = shlex.split(command)
    assert program == "dualformer"
    words = [verb, *(places.get(word, word) for word in words), *shlex.split(f"{SMALL.get(verb, '')} {more}")]
    assert main(words) == code, words
    return words


PLACES = {"VIDEO": "my data/run/0.mp4", "DATA": "my data", "WEIGHTS": "w.safetensors"}


def test_from_the_check_to_the_evaluation(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (train,) = said(capsys, "check", "my data", "--workers", "1")
    assert train == "dualformer train --data 'my data'"
    words = run(train, places=PLACES)
    proposed = re.findall(r"^next: (.*?)(?:   \(.*)?$", capsys.readouterr().out, re.MULTILINE)
    assert [shlex.split(command)[1] for command in proposed] == ["evaluate", "predict"] and words[0] == "train"
    for command in proposed:
        run(command, places=PLACES)
        for following in re.findall(r"^next: (.*?)(?:   \(.*)?$", capsys.readouterr().out, re.MULTILINE):
            run(following, places=PLACES, more="--label-map map.json" if "DATA" in following else "")


def test_after_a_cross_validation(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = shlex.split(SMALL["train"])
    (command,) = said(capsys, "train", "--data", "my data", "--folds", "3", "--out", "my folds", *more)
    assert command == "dualformer evaluate 'my folds'"
    run(command, places={})
    shown = capsys.readouterr().out
    assert "fold by fold" in shown and "evaluating the 3 folds of my folds on 6 videos" in shown
    with (here / "my folds" / "evaluation" / "predictions.csv").open(newline="") as file:
        asked = [Path(row["path"]) for row in csv.DictReader(file)]
    assert sorted(asked) == sorted((here / "my data").rglob("*.mp4"))
    figures = json.loads((here / "my folds" / "evaluation" / "figures.json").read_text())
    assert figures["videos"] == 6 and len(figures["folds"]) == 3
    for following in re.findall(r"^next: (.*?)(?:   \(.*)?$", shown, re.MULTILINE):
        run(following, places={})
    assert (here / "my folds" / "evaluation-one_frame" / "confusion.png").is_file()
    for stray in (["--data", "my data"], ["--report", "page"]):
        assert main(["evaluate", "my folds", *stray]) == 2
        assert f"{stray[0]} does not go with my folds, a cross-validation" in capsys.readouterr().err
    for weights in ("my folds/fold-1", "w.safetensors"):  # one network, and no word of which videos
        assert main(["evaluate", weights]) == 2
        assert "--data says which videos to evaluate on, and is missing" in capsys.readouterr().err
    (here / "my folds" / "folds.csv").unlink()
    assert main(["evaluate", "my folds"]) == 1
    assert "not all folds are trained: go on with --resume and --out my folds" in capsys.readouterr().err


def test_segments_that_count_frames_are_checked_and_trained_on_so(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"my data/run/{n}.mp4,{s},{s + 6},{label}\n" for n in range(3) for s, label in ((0, "a"), (6, "b")))
    (here / "frames.csv").write_text(f"path,start,end,label\n{rows}")
    checked = ("check", "frames.csv", "--workers", "1")
    said(capsys, *checked, code=1)  # 12 seconds of half a one
    (train,) = said(capsys, *checked, "--frames-per-second", "25")
    assert train == "dualformer train --data frames.csv --frames-per-second 25"


@pytest.fixture(autouse=True)
def label_map(here: Path) -> None:
    (here / "map.json").write_text('{"run": "run", "walk": "walk"}')


def test_after_labels_and_tables(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ("predict", "my data", "--weights", "w.safetensors", "--views", "1x1")
    for command in said(capsys, *call):
        run(command, places=PLACES)
    capsys.readouterr()
    bad = here / "my data" / "run" / "bad.mp4"
    bad.write_bytes(b"no video")
    (command,) = said(capsys, *call, code=1)
    assert command == "dualformer check 'my data'"
    run(command, places=PLACES, code=1)  # as it names what is bad
    assert "next: dualformer train --data 'my data' --manifest manifest.csv" in capsys.readouterr().out
    (command,) = said(capsys, "predict", str(bad), "--weights", "w.safetensors", code=1)
    assert shlex.split(command) == ["dualformer", "check", str(bad)]
    (command,) = said(capsys, *call, "--out", "a.csv", code=1)
    shutil.copy(here / "my data" / "run" / "0.mp4", bad)
    run(command, places=PLACES, more="")


def test_after_evaluations_under_options(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ("evaluate", "w.safetensors", "--data", "my data", "--workers", "0", "--views", "1x1")
    for command in said(capsys, *call, "--label-map", "map.json", "--out", "e"):
        assert "--label-map map.json" in command and command.endswith("--control one_frame")
        run(command, places=PLACES)
    for command in said(capsys, *call, "--control", "shuffled", "--out", "f"):
        assert "--control" not in command
        run(command, places=PLACES)


def test_shards_and_explanations(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = said(capsys, "shards", "my data", "my shards")
    assert command == "dualformer train --data 'my shards'"
    run(command, places=PLACES, more="--out runs/shards")
    capsys.readouterr()
    (command,) = said(capsys, "explain", "my data/run/0.mp4", "--weights", "w.safetensors")
    run(command, places=PLACES)


def test_nothing_is_proposed_that_cannot_be_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = here / "flat"
    flat.mkdir()
    for number in range(2):
        shutil.copy(here / "my data" / "run" / f"{number}.mp4", flat)
    assert said(capsys, "check", "flat", "--workers", "1") == []
    (flat / "list.csv").write_text("path\n0.mp4\n1.mp4\n")
    assert said(capsys, "check", "flat/list.csv", "--workers", "1", "--fresh") == []
    for label in ("left", "right"):
        (here / "sided" / label).mkdir(parents=True)
        shutil.copy(here / "my data" / "run" / "0.mp4", here / "sided" / label / "a.mp4")
    assert said(capsys, "check", "sided", "--workers", "1") == []  # a single file of each class
    for label in ("left", "right"):
        shutil.copy(here / "my data" / "run" / "1.mp4", here / "sided" / label / "b.mp4")
    assert said(capsys, "check", "sided", "--workers", "1") == ["dualformer train --data sided --flip off"]
