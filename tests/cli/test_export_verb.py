"""``dualformer export``: what it prints and writes, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest

from dualformer.cli.main import main
from dualformer.model.config import Config, Stage
from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_files import read_export_card
from dualformer.weights.safetensors_file import save_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """One stage, which is exported in a second."""
    stages = (Stage(channels=32, depth=1, patch=(2, 8, 8)),)
    model = DualFormer(Config(stages=stages, clip=(4, 32, 32), num_classes=3), seed=0)
    pre = kinetics(frames=4, stride=2, size=32)
    card = Card(config=model.config, labels=("a", "b", "c"), preprocessing=pre, provenance="a test", licence="mit")
    save_weights(tmp_path / "best.safetensors", model, card)
    return tmp_path / "best.safetensors"


def test_a_file_beside_the_weights_and_what_it_was_held_against(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(weights), "--format", "torch", "--clips", "3"]) == 0
    printed = capsys.readouterr().out
    out = weights.with_suffix(".pt2")
    assert f"exporting {weights} to {out}: torch, fp32, 3 classes, any number of views at a time of 4x32x32" in printed
    assert "on 3 rendered clips; largest difference, tolerance 0.0001:" in printed
    assert [line.split()[0] for line in printed.splitlines() if line.endswith("100.0%")] == ["1", "2", "5"]
    assert printed.splitlines()[-1] == f"next: dualformer predict VIDEO --weights {out}"
    assert read_export_card(out).card.labels == ("a", "b", "c")


def test_the_report_as_json(weights: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = weights.with_name("fixed.pt2")
    video = shared / "videos" / "kinetics_arm_wrestling.mp4"
    call = ["export", str(weights), "--format", "torch", "--precision", "bf16", "--batch", "2", "--out", str(out)]
    assert main([*call, "--videos", str(video), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == str(out) and report["bytes"] == out.stat().st_size
    assert (report["precision"], report["batch"], report["clips"]) == ("bf16", 2, "1 file")
    [row] = report["comparisons"]
    assert row["batch"] == 2 and row["agreement"] == 1.0 and 0 < row["relative"] < report["tolerance"] == 0.02


def test_past_the_tolerance_nothing_is_written(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(weights.parent.iterdir())
    call = ["export", str(weights), "--format", "torch", "--precision", "bf16", "--clips", "1"]
    assert main([*call, "--tolerance", "0"]) == 1
    error = capsys.readouterr().err
    assert "best-bf16.pt2: not written" in error and len(error.splitlines()) == 1
    assert sorted(weights.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onnx", "--precision", "bf16"], "neither products nor convolutions in bfloat16"),
        (["--format", "torch", "--precision", "int8", "--data", "videos"], "take --format openvino"),
        (["--format", "openvino", "--precision", "int8"], "--precision int8 needs --data"),
        (["--format", "torch", "--batch", "many"], "--batch must be dynamic or a number of at least 1, not many"),
        (["--format", "torch", "--on", "split=test"], "--on is about --data"),
        (["--format", "torch", "--clips", "0"], "--clips must be at least 1"),
        (["--format", "torch", "--tolerance", "-1"], "--tolerance must be 0 or more"),
        (["--format", "torch", "--out", "model.onnx"], "a file that ends in .pt2"),
        (["--format", "tflite"], "tflite"),
    ],
)
def test_wrong_calls(weights: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(weights), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "module"), [("onnx", "onnxruntime"), ("onnx", "onnxscript"), ("openvino", "openvino")]
)
def test_a_missing_extra_is_one_line(
    weights: Path, kind: str, module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        if name != module:
            pytest.importorskip(name, reason="the extra [export] is not installed")
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["export", str(weights), "--format", kind]) == 1
    error = capsys.readouterr().err
    assert f"--format {kind}: " in error and "pip install 'dualformer[export]'" in error
    assert len(error.splitlines()) == 1
