"""``dualformer ablate``: tables that are printed, rows that are trained, calls that are refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dualformer.cli.main import main
from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.training.loop import Loop
from dualformer.training.objective import Batch

pytestmark = pytest.mark.usefixtures("blank_pictures")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, four videos to train on and two to validate on each."""
    folder = tmp_path_factory.mktemp("rendered") / "videos"
    scene = Scene(size=32, frames=16, classes=("up", "down"))
    write_dataset(folder, scene, clips_per_class={"train": 4, "val": 2}, seed=3)
    return folder


def training(videos: Path, out: Path, *, epochs: int = 1) -> list[str]:
    return [
        *("ablate", "--run", "--table", "7", "--rows", "relative", "peg", "--data", str(videos), "--out", str(out)),
        *("--frames", "4", "--size", "32", "--epochs", str(epochs), "--batch-size", "4", "--workers", "0"),
        *("--flip", "off", "--precision", "float32", "--seeds", "2"),
    ]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_published_beside_computed(capsys: Capture) -> None:
    assert main(["ablate", "--table", "6"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Table 6: what makes a prior of a cell. dualformer_tiny; clips of 32x224x224; 1 view\n")
    rows = [cells(line) for line in printed.splitlines() if line.startswith("│")]
    assert rows == [
        ["AvgPool", "59", "59", "59.04", "21.8", "21.73 ≠", "78.7", "–"],
        ["AvgPool, fine", "59", "59", "59.04", "21.8", "21.81", "78.7", "–"],
        ["Conv", "61", "61", "61.31", "27.6", "27.59", "79.5", "–"],
        ["DWConv", "60", "60", "60.09", "21.8", "21.77", "79.5", "–"],
    ]
    assert "7 of 8 published costs come out to the printed digit" in printed
    assert "AvgPool: averaged in both scales; with a depth-wise coarse scale" in printed


def test_another_preset_and_clip(capsys: Capture) -> None:
    assert main(["ablate", "--table", "1", "5", "8", "--model", "dualformer_nano", "--clip", "4x32x32"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("left out: 2 rows about other presets than dualformer_nano\n")
    assert "Table 5: windows. dualformer_nano; clips of 2x32x32, 4x32x32; 4 views\n" in printed
    assert "32×2, (16,7,7): the same network as 32×2, (4,7,7) at 4x32x32" in printed
    assert "published costs come out" not in printed
    assert main(["ablate", "--rows", "1-1-2", "--model", "dualformer_nano", "--clip", "2x32x32"]) == 0
    assert "1, 1, 2: left out; half the frames in stage 4 takes clips of more than 2" in capsys.readouterr().out


def test_json(capsys: Capture) -> None:
    assert main(["ablate", "--rows", "4/only-8-7-7", "7/peg", "--json"]) == 0
    fine, peg = json.loads(capsys.readouterr().out)["rows"]
    assert fine["published"] == {"gflops": 232, "parameters": 21.8, "top1": 79.3, "top5": 93.9, "views": 4}
    assert fine["agrees"] == {"gflops": True, "parameters": True}
    assert fine["gflops"] == 4 * round(fine["gmacs"]) == 232
    assert round(fine["parameters"], 2) == 21.76 and fine["clip"] == [32, 224, 224]
    assert (peg["row"], peg["agrees"], peg["problem"], peg["same_as"]) == ("7/peg", {}, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "3"], "--table"),
        (["--rows", "pge"], "there is no row 'pge'; there are 1/as-printed"),
        (["--model", "nano"], "unknown model 'nano'; there are dualformer_nano"),
        (["--table", "2", "--model", "dualformer_nano"], "not about dualformer_nano: leave out --model"),
        (["--clip", "big"], "32x224x224"),
        (["--epochs", "3"], "--epochs is about training: add --run"),
        (["--from", "rendered"], "--from is about training: add --run"),
        (["--run"], "--data is missing"),
        (["--run", "--data", "videos", "--clip", "16x64x64"], "with --run say --frames and --size"),
        (["--run", "--data", "videos", "--seeds", "0"], "--seeds must be at least 1, not 0"),
        (["--run", "--data", "videos", "--resume"], "--resume"),
        (["--run", "--data", "absent"], "absent"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str, capsys: Capture) -> None:
    assert main(["ablate", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1


def test_rows_are_trained_and_then_kept(videos: Path, tmp_path: Path, capsys: Capture) -> None:
    call = training(videos, tmp_path / "out")
    assert main(call) == 0
    printed = capsys.readouterr().out
    assert "networks to train: 2, each in float32 with seeds 0, 1" in printed
    assert printed.count("classes, 8 videos to train on") == 1  # what is the same for all is said once
    rows = {cells(line)[0]: cells(line) for line in printed.splitlines() if line.startswith("│")}
    assert list(rows) == ["relative", "PEG"]
    assert [row[3:5] for row in rows.values()] == [["2", "79.3"], ["2", "79.5"]]
    assert all("±" in row[5] for row in rows.values())
    assert main([*call, "--json"]) == 0
    said = capsys.readouterr()
    measured = json.loads(said.out)["rows"]
    assert "epoch" not in said.err
    for row, each in zip(rows.values(), measured, strict=True):
        assert f"{100 * each['top1']['mean']:.1f}±{100 * each['top1']['spread']:.1f}" == row[5]
        assert len(each["top1"]["seeds"]) == 2 and each["steps"] == 2 and each["failures"] == {}
    assert main([*call, "--lr", "0.1"]) == 1
    assert "another --lr (0.001, not 0.1)" in capsys.readouterr().err


def test_a_row_that_fails_gives_exit_code_1(videos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main([*training(videos, tmp_path / "out"), "--from", "rendered", "--seeds", "1"]) == 1
    printed = capsys.readouterr().out
    assert "relative: seed 0 failed; " in printed and "position is peg in the weights" in printed
    assert "7/relative: 0 of 1 seeds" in printed and "PEG" in printed


def test_ctrl_c_says_how_to_go_on(
    videos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_batch = Loop._run_batch

    def interrupted(self: Loop, batch: Batch) -> None:
        train_batch(self, batch)
        signal.raise_signal(signal.SIGINT)

    call = training(videos, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_run_batch", interrupted)
        assert main(call) == 130
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["stopped by Ctrl-C; saved at step 1 of 2", "the same command goes on from here"]
    assert main([*call, "--seeds", "1"]) == 0
    assert "resumed at step 1 of 2" in capsys.readouterr().out
