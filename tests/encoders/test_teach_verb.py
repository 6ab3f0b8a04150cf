"""From an encoder to a student by the command line, and what the verb says of options that do not go together."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from made_encoders import save_encoder

from dualformer.cli.main import main
from dualformer.cli.teach import Options
from dualformer.training.read_teacher_scores import ScoresCard
from dualformer.weights.safetensors_file import load_weights

SMALL = (
    *("--frames", "4", "--size", "32", "--stride", "2", "--epochs", "1", "--batch-size", "5", "--from", "random"),
    *("--model", "dualformer_nano", "--workers", "0", "--precision", "float32", "--accelerator", "cpu"),
    *("--flip", "off"),
)


def test_from_an_encoder_to_a_student(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_encoder(tmp_path / "encoder", "videomae")
    out = tmp_path / "my scores"
    command = ["teach", "--encoder", str(tmp_path / "encoder"), "--data", str(data), "--out", str(out)]
    command += ["--workers", "0", "--device", "cpu", "--clips", "2", "--probe-folds", "2"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "encoder: " in said and "2 clips a video of 4 frames, one in 4" in said
    assert "2x4x4 tokens of 32 features; computing on cpu in float32" in said
    assert re.search(r"features of 14 videos; the probe is right on [\d.]+% of 4 validation videos", said)
    assert re.search(r"scored by 2 probes that had not seen them, which are right on [\d.]+%\n", said)
    (following,) = re.findall(r"^next: (.*)$", said, flags=re.MULTILINE)
    assert following == f"dualformer train --data {data} --teacher-scores '{out}' --distill clip"
    card = ScoresCard.read(out)
    assert (card.scores, card.width) == ("clips", 32)
    assert main([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["found"], again["trained"], again["bad"]) == (14, False, [])
    assert main([*shlex.split(following)[1:], *SMALL, "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "by a probe on its features in" in said and card.remark in said
    assert "learning from the probe: its scores of every clip at temperature 1; 0.5 of the loss" in said
    model, _ = load_weights(tmp_path / "run" / "last.safetensors")
    assert model(torch.zeros(1, 3, 4, 32, 32)).shape == (1, 2)
    assert main(["evaluate", str(tmp_path / "run" / "last.safetensors"), "--data", str(data), "--workers", "0"]) == 0


def test_videos_without_labels_are_trained_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_encoder(tmp_path / "encoder", "videomae")
    more, out = shutil.copytree(data / "val" / "left", tmp_path / "more" / "deep"), tmp_path / "out"
    command = ["teach", "--encoder", str(tmp_path / "encoder"), "--data", str(data), "--out", str(out)]
    command += ["--workers", "0", "--device", "cpu", "--clips", "1", "--probe-folds", "1"]
    assert main([*command, "--unlabelled", str(more.parent)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "videos to train on are scored by the probe itself, which is right on " in said
    assert f"the probe labelled 2 further videos: {out}/labelled.csv lists them with the others" in said
    (following,) = re.findall(r"^next: (.*)$", said, flags=re.MULTILINE)
    assert following == f"dualformer train --data {out}/labelled.csv --teacher-scores {out} --distill clip"
    assert main([*shlex.split(following)[1:], *SMALL, "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    assert "12 videos to train on" in capsys.readouterr().out
    (tmp_path / "none").mkdir()
    assert main([*command, "--unlabelled", str(tmp_path / "none")]) == 2
    assert "holds no videos" in capsys.readouterr().err


def test_a_teacher_that_is_not_there_or_an_encoder_is_told_before_the_data_are_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_encoder(tmp_path / "encoder", "dinov2")
    rest = ["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
    for given, said in (
        (
            [str(tmp_path / "encoder")],
            "encoder: an encoder of transformers, and no weights of this package: give --enc",
        ),
        ([str(tmp_path / "w.safetensors")], "w.safetensors: no such weights file"),
        (["--encoder", str(tmp_path / "none")], "none: no folder of an encoder"),
    ):
        assert main(["teach", *given, *rest]) == 2
        assert said in capsys.readouterr().err


def options(**given: object) -> Options:
    return Options(data="videos", out=Path("out"), **given)  # type: ignore[arg-type]


def test_what_does_not_go_together_is_said() -> None:
    for given in ({}, {"teacher": "a.safetensors", "encoder": "lab/encoder"}):
        with pytest.raises(ValueError, match="give either the weights of a teacher or an `encoder`"):
            options(**given)
    with pytest.raises(ValueError, match="`topk` is for a teacher of tokens"):
        options(encoder="lab/encoder", topk=3)
    for name in ("clips", "probe_folds"):
        with pytest.raises(ValueError, match=f"`{name}` is for an `encoder`"):
            options(teacher="a.safetensors", **{name: 2})
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
            options(encoder="lab/encoder", **{name: 0})


def test_the_split_of_the_training_is_said(data: Path) -> None:
    from dualformer.cli.teach import _split_options

    assert _split_options(options(encoder="lab/encoder")) == ""
    given = options(encoder="lab/encoder", val_on="split=test", seed=3, group="(.*)_", val_fraction=0.3)
    assert _split_options(given) == " --val-on split=test --val-fraction 0.3 --seed 3 --group '(.*)_'"
