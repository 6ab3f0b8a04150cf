"""``dualformer shards`` and the verbs that read what it writes: what they print, and their exit codes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.main import main
from dualformer.datasets.splits import open_splits
from dualformer.video.encode import write_video
from small_weights import save_small_weights

pytestmark = pytest.mark.usefixtures("blank_pictures")

CLASSES = ("clap", "jump", "wave")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``videos/CLASS/NUMBER.mp4``, ``list.csv`` with a column batch, ``shards`` of it, ``nano.safetensors``."""
    home = tmp_path_factory.mktemp("home")
    rows = ["path,label,batch"]
    for i, name in enumerate(CLASSES):
        (home / "videos" / name).mkdir(parents=True)
        for number in range(5):
            frames = np.random.default_rng([i, number]).integers(0, 256, (8, 5, 5, 3), dtype=np.uint8)
            write_video(home / "videos" / name / f"{number}.mp4", frames.repeat(8, axis=1).repeat(8, axis=2), fps=25)
            rows.append(f"videos/{name}/{number}.mp4,{name},{'ABB'[number % 3]}")
    (home / "list.csv").write_text("\n".join(rows) + "\n")
    save_small_weights(home / "nano.safetensors", CLASSES)
    assert main(["shards", str(home / "videos"), str(home / "shards"), "--size-mb", "0.02", "--json"]) == 0
    return home


def test_it_says_what_it_does_and_what_to_try_next(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["shards", str(home / "list.csv"), str(out), "--val-on", "batch=A", "--size-mb", "0.02"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"data: {home / 'list.csv'}: val on batch=A, train on all other rows"
    assert lines[1] == f"writing train 9, val 6 of them into shards of about 0.02 MB in {out}"
    count = len(list(out.glob("*.tar")))
    assert any(line.startswith(f"{count} shards, 0.") for line in lines)
    assert lines[-2:] == [
        f"index: {out / 'index.json'}",
        f"next: dualformer train --data {out}   (the folder, or the URL that you upload it to)",
    ]
    assert main(arguments) == 0
    assert f"{count} shards ({count} of them were there already)" in capsys.readouterr().out
    before = open_splits(home / "list.csv", val_on={"batch": ("A",)})
    after = open_splits(out)
    assert [s.name for s in after.train.samples] == [s.name for s in before.train.samples]
    assert [s.label for s in after.val.samples] == [s.label for s in before.val.samples]


def test_one_list_to_judge_by(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "judge"
    arguments = ["shards", str(home / "list.csv"), str(out), "--judge", "--on", "batch=A", "--json"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["samples"] == {"test": 6} and printed["found"] == 0
    assert printed["index"] == str(out / "index.json")
    assert printed["bytes"] == (out / "test-000000.tar").stat().st_size


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--on", "batch=A"], "say --judge with it"),
        (["--judge", "--val-on", "batch=A"], "leave out --train-on and --val-on"),
        (["--size-mb", "0"], "--size-mb must be more than 0"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--val-fraction", "1"], "--val-fraction must lie between 0 and 1"),
        (["--val-on", "batch=Z"], "no row has batch=Z"),
    ],
)
def test_wrong_calls(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main(["shards", str(home / "list.csv"), str(tmp_path / "out"), *extra]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_other_verbs_take_files_in_place_of_shards(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, table in (("predict", "table.csv"), ("embed", "table.npy")):
        call = [verb, str(home / "shards"), "--weights", str(home / "nano.safetensors"), "--out", str(home / table)]
        assert main(call) == 2
        assert "these are shards, which train, evaluate and check read: name videos" in capsys.readouterr().err


def test_a_folder_that_is_not_empty(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", str(home / "videos"), str(home)]) == 2
    assert "it is not empty, and what is in it are no shards" in capsys.readouterr().err
    assert main(["train", "--data", "shards:memory://nowhere", "--out", str(home / "none")]) == 2
    assert "no shards at memory://nowhere: there is no index.json" in capsys.readouterr().err


def test_evaluate_gives_the_same_figures(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {}
    for name in ("videos", "shards"):
        out = tmp_path / name
        on = ["--on", "split=train,val"] if name == "shards" else []
        arguments = ["evaluate", str(home / "nano.safetensors"), "--data", str(home / name), "--views", "2x1", *on]
        assert main([*arguments, "--workers", "0", "--out", str(out), "--json"]) == 0
        figures[name] = json.loads(capsys.readouterr().out)
        assert (out / "contact_sheet.png").is_file()
    for key in ("videos", "top1", "mean_class_accuracy"):
        assert figures["shards"][key] == figures["videos"][key]
    assert figures["shards"]["cross_entropy"] == pytest.approx(figures["videos"]["cross_entropy"], rel=1e-6)
    with (tmp_path / "shards" / "predictions.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert paths[0] == str(home / "shards" / "train-000001.tar" / "000000000.mp4") or ".tar/000000000.mp4" in paths[0]


def test_check_compares_checksums_and_training_leaves_out_what_is_bad(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = Path(shutil.copytree(home / "shards", tmp_path / "shards"))
    arguments = ["check", str(shards), "--out", str(tmp_path / "manifest.csv"), "--workers", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"shards {shards}: 3 classes, videos: train 12, val 3; from videos" in printed
    assert "15 good (120 frames" in printed and f"next: dualformer train --data {shards}\n" in printed
    damaged = shards / "train-000000.tar"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1  # behind all videos: each of them decodes
    damaged.write_bytes(data)
    assert main([*arguments, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    names = {Path(bad["path"]).parent.name for bad in result["bad"]}
    assert names == {"train-000000.tar"} and 1 <= len(result["bad"]) < 12
    assert all("its checksum is not that of the shard" in bad["reason"] for bad in result["bad"])
    left = 12 - len(result["bad"])
    out = tmp_path / "run"
    small = [
        "--frames",
        "4",
        "--size",
        "32",
        "--batch-size",
        "2",
        "--epochs",
        "1",
        "--max-steps",
        "1",
        "--workers",
        "0",
    ]
    manifest = ["--manifest", str(tmp_path / "manifest.csv")]
    assert main(["train", "--data", str(shards), "--out", str(out), *small, *manifest]) == 0
    printed = capsys.readouterr().out
    assert f"{left} videos to train on" in printed and "an epoch is read all videos mixed" in printed
    assert f"next: dualformer evaluate {out / 'best.safetensors'} --data {shards}\n" in printed
