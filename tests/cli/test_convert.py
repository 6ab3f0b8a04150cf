"""``dualformer convert``: from a released file to weights that load, and wrong calls."""

from pathlib import Path

import pytest
import torch

from dualformer.cli.main import main
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.weights.native import load_weights, read_card
from dualformer.weights.release import to_release


@pytest.fixture(scope="module")
def model() -> DualFormer:
    return create_model("dualformer_nano", clip=(8, 64, 64), num_classes=3, seed=0).eval()


@pytest.fixture
def release(tmp_path: Path, model: DualFormer) -> Path:
    torch.save({"state_dict": to_release(model)}, tmp_path / "release.pth")
    return tmp_path / "release.pth"


def test_a_released_file_becomes_weights(
    release: Path, tmp_path: Path, model: DualFormer, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labels = tmp_path / "out" / "w.safetensors", tmp_path / "labels.txt"
    labels.write_text("wave\nclap\nnod\n")
    arguments = ["--preset", "dualformer_nano", "--labels", str(labels), "--preprocessing", "transfer"]
    code = main(["convert", str(release), str(out), *arguments, "--licence", "mit", "--provenance", "a friend"])
    printed = capsys.readouterr().out
    assert code == 0
    for expected in ("dualformer_nano", "3 classes", "8x64x64 (by its kernels)", "stage 4: 256", f"weights: {out}"):
        assert expected in printed
    assert f"dualformer info {out}" in printed
    loaded, card = load_weights(out)
    assert card.labels == ("wave", "clap", "nod")
    assert (card.licence, card.provenance) == ("mit", "a friend")
    assert card.preprocessing.std == (1.0, 1.0, 1.0)
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(clip), model(clip))


def test_without_labels_classes_are_numbers(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "w.safetensors"
    assert main(["convert", str(release), str(out), "--preprocessing", "kinetics", "--clip", "8x64x64"]) == 0
    assert "called by their numbers: no --labels given" in capsys.readouterr().out
    assert read_card(out).labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--preset", "dualformer_tiny"], 1, "its width by stage is (32, 64, 128, 256)"),
        (["--preset", "tiny"], 2, "unknown model 'tiny'; there are dualformer_nano"),
        (["--clip", "16x64x64"], 1, "leave --clip out"),
        (["--clip", "16"], 2, "32x224x224"),
        (["--labels", "none.txt"], 2, "none.txt: there is no such file of labels"),
    ],
)
def test_wrong_calls(
    release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    out = tmp_path / "w.safetensors"
    assert main(["convert", str(release), str(out), "--preprocessing", "kinetics", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_too_few_labels(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\n")
    labels = ["--labels", str(tmp_path / "labels.txt")]
    assert main(["convert", str(release), str(tmp_path / "w"), "--preprocessing", "kinetics", *labels]) == 2
    assert "2 labels do not fit a classifier of 3 classes" in capsys.readouterr().err
