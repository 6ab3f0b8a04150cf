"""Files that an earlier version wrote are read: weights, exported models, a stopped run, shards, a manifest, scores.

``written`` holds them. Version 0.1.0 made them, before rooms and modules had their present names, in a folder
``/data``: 16 rendered videos and a broken one, a network of 19,000 parameters, a run of 6 steps (``finished``) and the
same run stopped after 4 (``interrupted``), with averaged weights, mixup, label smoothing and a manifest.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from dualformer.cli.main import main
from dualformer.datasets.video_digests import unpack_digests
from dualformer.model.config import Config
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

WRITTEN = Path(__file__).parent / "written"
MODELS = ("finished/best.safetensors", "exported-torch.pt2", "exported-onnx.onnx", "exported-openvino")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``written`` as the working folder, whose lists name the files where they are now."""
    folder = tmp_path / "data"
    shutil.copytree(WRITTEN, folder)
    for path in folder.rglob("*.csv"):
        path.write_text(path.read_text(encoding="utf-8").replace("/data/", f"{folder.as_posix()}/"), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def contents(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same(path: Path, expected: Path) -> bool:
    (card, tensors), (card_then, tensors_then) = contents(path), contents(expected)
    described, described_then = json.loads(card.pop("dualformer")), json.loads(card_then.pop("dualformer"))
    for each in (described, described_then):
        if "trained_on" in each:  # which runs of then did not note
            assert len(unpack_digests(each.pop("trained_on"))) == 12
    assert card == card_then and described == described_then
    return tensors.keys() == tensors_then.keys() and all(torch.equal(tensors[n], tensors_then[n]) for n in tensors)


@pytest.mark.parametrize("model", MODELS)
def test_weights_and_exported_models_give_the_same_probabilities(model: str, data: Path) -> None:
    if "onnx" in model or "openvino" in model:
        pytest.importorskip("onnxruntime" if "onnx" in model else "openvino")
    assert main(["predict", "videos", "--weights", model, "--out", "now.csv"]) == 1  # one file is broken
    then = {row["path"]: row for row in rows(data / "predictions.csv")}
    now = {row["path"]: row for row in rows(data / "now.csv")}
    assert now.keys() == then.keys() and len(now) == 17
    for path, row in now.items():
        assert bool(row["error"]) == bool(then[path]["error"]) == path.endswith("broken.mp4")
        if not row["error"]:
            assert row["label"] == then[path]["label"]
            assert float(row["probability"]) == pytest.approx(float(then[path]["probability"]), abs=2e-6)


def test_a_stopped_run_goes_on_to_the_same_weights(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # AdamW's step was several operations then, which round in another way than one.
    adamw = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, fused: adamw(groups))
    config = TrainConfig.load(data / "interrupted" / "config.json")
    network = Config.from_dict(json.loads((data / "interrupted" / "network.json").read_text()))
    train(
        config.replace(out="again", max_steps=None, select="best", val_views="1x1", randaugment="off"),
        variant=lambda _: network,
    )
    # Only where a whole run gives the bits of then, on a processor that rounds alike, must its second half do so: the
    # first half of the interrupted one is of then everywhere.
    rounds_alike = same(data / "again" / "last.safetensors", data / "finished" / "last.safetensors")

    assert main(["train", "--resume", "--out", "interrupted"]) == 0
    for name in ("last", "ema", "best"):
        now, then = data / "interrupted" / f"{name}.safetensors", data / "finished" / f"{name}.safetensors"
        if rounds_alike:
            assert same(now, data / "again" / f"{name}.safetensors"), name
            assert same(now, then), name
        for tensor, was in zip(contents(now)[1].values(), contents(then)[1].values(), strict=True):
            torch.testing.assert_close(tensor, was, atol=1e-4, rtol=1e-3)
    logs = [
        [json.loads(line) for line in (data / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("interrupted", "finished")
    ]
    timed = ("clips_per_second", "seconds")
    now, then = ([{k: v for k, v in epoch.items() if k not in timed} for epoch in log] for log in logs)
    assert [epoch.keys() for epoch in now] == [epoch.keys() for epoch in then]
    assert all(epoch == pytest.approx(was, abs=1e-4) for epoch, was in zip(now, then, strict=True))


@pytest.mark.parametrize("source", ["interrupted/split.csv", "shards"])
def test_splits_and_shards_give_the_same_figures(source: str, data: Path) -> None:
    weights = "finished/best.safetensors"
    assert main(["evaluate", weights, "--data", source, "--on", "split=val", "--out", "again"]) == 0
    now, then = (json.loads((data / where / "figures.json").read_text()) for where in ("again", "evaluation"))
    assert now.keys() == {*then, "on"}  # which rows they are of, earlier versions did not say
    for name in ("top1", "mean_class_accuracy", "cross_entropy", "calibration_error"):
        assert now[name] == pytest.approx(then[name], abs=1e-6), name
    assert [row["correct"] for row in rows(data / "again" / "predictions.csv")] == [
        row["correct"] for row in rows(data / "evaluation" / "predictions.csv")
    ]


def test_a_manifest_names_the_bad_file_and_is_gone_on_with(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows(data / "manifest.csv")
    assert main(["check", "videos", "--out", "manifest.csv"]) == 1
    after = rows(data / "manifest.csv")
    kept = [name for name in before[0] if name not in ("modified", "decoder", "path")]
    assert [[row[name] for name in kept] for row in after] == [[row[name] for name in kept] for row in before]
    assert [data / row["path"] for row in after] == [Path(row["path"]) for row in before]  # relative to it now
    assert "broken.mp4" in capsys.readouterr().out


def test_a_run_learns_from_stored_scores(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--data",
        "videos",
        "--manifest",
        "manifest.csv",
        "--flip",
        "off",
        "--out",
        "taught",
        "--from",
        "random",
    ]
    size = ["--frames", "4", "--size", "16", "--epochs", "1", "--batch-size", "4", "--workers", "0"]
    assert main(["train", *arguments, *size, "--teacher-scores", "scores", "--max-steps", "1"]) == 0
    assert "learning from the teacher" in capsys.readouterr().out
