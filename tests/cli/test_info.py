"""``dualformer info``: the figures of presets and of weights files."""

import json
from pathlib import Path

import pytest

from dualformer.cli.main import main
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights


def test_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "dualformer_tiny"]) == 0
    printed = capsys.readouterr().out
    for expected in ("21.973 M, 21.767 M without", "60.09 a view, 240.36 for views 4x1", "16x56x56", "50,176", "456"):
        assert expected in printed


def test_a_preset_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "dualformer_tiny", "--clip", "16x224x224", "--views", "4x3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["clip"] == [16, 224, 224]
    assert facts["gmacs_per_view"] == pytest.approx(28.0, abs=0.01)
    assert facts["gmacs"] == pytest.approx(12 * facts["gmacs_per_view"])
    assert [stage["pyramid_tokens"] for stage in facts["cost"]["stages"]] == [260, 260, 196, 392]
    assert facts["card"] is None


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=4, seed=0)
    pre = kinetics(frames=4, size=32)
    card = Card(
        config=model.config,
        labels=("a", "b", "c", "d"),
        preprocessing=pre,
        provenance="a test",
        licence="mit",
        metrics={"top1": 0.75},
    )
    save_weights(tmp_path / "w.safetensors", model, card)
    return tmp_path / "w.safetensors"


def test_a_weights_file(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(weights)]) == 0
    printed = capsys.readouterr().out
    for expected in ("clips of 4x32x32", "4, a, b, c, …", "4 frames, one in 2", "123.675", "0.75", "a test", "mit"):
        assert expected in printed
    assert main(["info", str(weights), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"]["labels"] == ["a", "b", "c", "d"]


def test_weights_on_another_clip_keep_their_kernels(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", str(weights), "--json"])
    own = json.loads(capsys.readouterr().out)
    main(["info", str(weights), "--json", "--clip", "8x64x64"])
    other = json.loads(capsys.readouterr().out)
    assert other["parameters"] == own["parameters"]
    assert other["cost"]["stages"][0]["tokens"] == 8 * own["cost"]["stages"][0]["tokens"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny"], "'tiny' is no weights file, folder or hub id, nor one of dualformer_nano, dualformer_nano_conv"),
        (["none.safetensors"], "nor one of dualformer_nano"),
        (["dualformer_tiny", "--views", "4"], "views are written clips x crops"),
        (["dualformer_tiny", "--views", "0x1"], "views are 1 or more clips x 1 or 3 crops"),
        (["dualformer_tiny", "--clip", "big"], "32x224x224"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_that_needs_converting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    assert main(["info", str(tmp_path / "a.pth")]) == 1
    assert "dualformer convert" in capsys.readouterr().err
