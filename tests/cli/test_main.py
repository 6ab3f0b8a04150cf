"""The command line as a whole: exit codes, errors of one line, what is shown with ``--debug``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import dualformer
from dualformer.cli.main import VERBS, main, usage
from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``videos/{up,down}`` with two videos each, and ``nano.safetensors`` for two other classes."""
    root = tmp_path_factory.mktemp("made")
    scene = Scene(size=32, frames=16, classes=("up", "down"))
    write_dataset(root / "split", scene, clips_per_class={"all": 2}, seed=0)
    (root / "split" / "all").rename(root / "videos")
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=2, seed=0)
    card = Card(
        config=model.config,
        labels=("in", "out"),
        preprocessing=kinetics(frames=4, size=32),
        provenance="a test",
        licence="",
    )
    save_weights(root / "nano.safetensors", model, card)
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, made the working directory."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def complaint(capsys: Capture, *arguments: str, code: int) -> str:
    """The one line that a call that must fail leaves on standard error."""
    assert main(arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("dualformer: ")
    return lines[0].removeprefix("dualformer: ")


def test_version_and_help(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dualformer {dualformer.__version__}\n"
    assert main(["--help"]) == main(["-h"]) == 0
    assert capsys.readouterr().out == f"{usage()}\n{usage()}\n"
    assert main([]) == 2
    for verb, line in VERBS.items():
        assert f"{verb} " in usage() and line in usage()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert f"usage: dualformer {verb}" in printed and VERBS[verb] in " ".join(printed.split())


def test_unknown_verb(capsys: Capture) -> None:
    said = complaint(capsys, "trian", code=2)
    assert said == f"there is no verb 'trian'; perhaps you meant train; choose from {', '.join(VERBS)}"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["train", "--data", "videos", "--lern", "3"], ["--lern"]),
        (["train"], ["--data"]),
        (
            ["predict", "nonexist", "--weihgts", "rendered"],
            ["--weights STR; Unrecognized options: --weihgts rendered; perhaps you meant --weights"],
        ),
        (["train", "--data", "videos", "--epochs", "three"], ["--epochs", "three"]),
        (["train", "--data", "videos", "--epochs", "0"], ["--epochs must be more than 0, not 0"]),
        (["train", "--data", "videos", "--flip", "maybe"], ["--flip", "maybe"]),
        (["predict", "--weights", "nano.safetensors"], ["at least one"]),
        (["predict", "a.mp4", "--weights", "nano.safetensors", "--top", "0"], ["--top must be at least 1, not 0"]),
    ],
)
def test_wrong_options(arguments: list[str], names: list[str], folder: Path, capsys: Capture) -> None:
    said = complaint(capsys, *arguments, code=2)
    for name in names:
        assert name in said
    assert f"dualformer {arguments[0]} --help" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", "absent"],
        ["train", "--data", "absent.csv"],
        ["train", "--data", "videos", "--from", "absent.safetensors"],
        ["evaluate", "absent.safetensors", "--data", "videos"],
        ["evaluate", "nano.safetensors", "--data", "absent"],
        ["predict", "videos", "--weights", "absent.safetensors"],
        ["check", "absent"],
        ["convert", "absent.pth", "out.safetensors", "--preprocessing", "kinetics"],
    ],
)
def test_missing_files_are_named(arguments: list[str], folder: Path, capsys: Capture) -> None:
    assert "absent" in complaint(capsys, *arguments, code=2)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "arguments", [["info", "dualformer_huge"], ["train", "--data", "videos", "--model", "dualformer_huge"]]
)
def test_unknown_presets_name_the_known_ones(arguments: list[str], folder: Path, capsys: Capture) -> None:
    said = complaint(capsys, *arguments, code=2)
    assert "'dualformer_huge'" in said
    assert "dualformer_nano, dualformer_nano_conv, dualformer_tiny, dualformer_small, dualformer_base" in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file; get it anew"),
        (b"hello", "a text file"),
        (
            b"PK\x03\x04 and so on",
            "a PyTorch checkpoint; turn it into a weights file with `dualformer convert`, a released DualFormer "
            "checkpoint with --preprocessing kinetics or --preprocessing transfer",
        ),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, not the file that it stands for"),
    ],
)
def test_bad_weights_say_what_they_are(content: bytes, reason: str, folder: Path, capsys: Capture) -> None:
    (folder / "bad.safetensors").write_bytes(content)
    for arguments in (
        ["info", "bad.safetensors"],
        ["predict", "videos", "--weights", "bad.safetensors"],
        ["evaluate", "bad.safetensors", "--data", "videos"],
        ["train", "--data", "videos", "--from", "bad.safetensors"],
    ):
        assert complaint(capsys, *arguments, code=1).startswith(f"bad.safetensors: {reason}")


def test_a_corrupt_line_of_a_csv_is_named_by_its_number(folder: Path, capsys: Capture) -> None:
    videos = sorted(path.relative_to(folder) for path in folder.glob("videos/*/*.mp4"))
    lines = ["path,label", *(f"{path.as_posix()},{path.parent.name}" for path in videos)]
    lines[3] += ",surplus"
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    for arguments in (["train", "--data", "list.csv"], ["evaluate", "nano.safetensors", "--data", "list.csv"]):
        said = complaint(capsys, *arguments, code=1)
        assert said == "list.csv:4: 3 fields where the header has 2 (path, label)"


def test_an_empty_class_and_a_single_one(folder: Path, capsys: Capture) -> None:
    (folder / "videos" / "sideways").mkdir()
    said = complaint(capsys, "train", "--data", "videos", code=1)
    assert said.startswith("videos/sideways: no video or image in this class: add some or remove the folder")
    (folder / "videos" / "sideways").rmdir()
    shutil.rmtree(folder / "videos" / "up")
    said = complaint(capsys, "train", "--data", "videos", code=1)
    assert said.startswith("videos: only one class (down), and telling apart takes two")


def test_weights_with_other_classes_are_refused(folder: Path, capsys: Capture) -> None:
    said = complaint(capsys, "evaluate", "nano.safetensors", "--data", "videos", "--workers", "0", code=1)
    assert "the weights do not know 'down', 'up'; the data has no 'in', 'out'" in said
    assert said.endswith("say which is which with --label-map")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_bad_video_stops_training_with_one_line(workers: str, folder: Path, capsys: Capture) -> None:
    (folder / "videos" / "up" / "zero.mp4").write_bytes(b"")
    small = ("--frames", "4", "--size", "32", "--batch-size", "1", "--precision", "float32", "--workers", workers)
    said = complaint(capsys, "train", "--data", "videos", "--val-fraction", "0.4", "--epochs", "1", *small, code=1)
    assert said.startswith(
        "videos/up/zero.mp4: the file is empty (0 bytes); find all such files with `dualformer check`"
    )


def test_a_traceback_is_shown_with_debug_only(folder: Path, capsys: Capture) -> None:
    (folder / "bad.safetensors").write_bytes(b"hello")
    for arguments in (["info", "bad.safetensors", "--debug"], ["--debug", "info", "bad.safetensors"]):
        assert main(arguments) == 1
        said = capsys.readouterr().err
        assert "Traceback (most recent call last)" in said and "in read_card" in said
        assert said.endswith("\ndualformer: bad.safetensors: a text file\n")
    assert "Traceback" not in complaint(capsys, "info", "bad.safetensors", code=1)
