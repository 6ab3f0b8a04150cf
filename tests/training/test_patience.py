"""Early stopping: after how many epochs without a better validation, to the same bits when it is resumed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import made_runs
import pytest
import torch
from safetensors.torch import load_file

from dualformer.errors import DualFormerError
from dualformer.training import loop, run_folder
from dualformer.training.checkpoint import checkpoints
from dualformer.training.reporter import Reporter, SilentReporter, read_metrics
from dualformer.training.run_folder import TrainResult
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.training.validation import ValidationResult
from small_runs import RecordingReporter

EPOCHS = 12
SETTINGS = {"batch_size": 4, "epochs": EPOCHS, "lr": 3e-2, "patience": 1, "select": "best"}


def run(out: Path, reporter: Reporter | None = None, **changes: Any) -> TrainResult:
    return made_runs.run(out, reporter=reporter or SilentReporter(), **(SETTINGS | changes))


def stop_by_hand(out: Path, patience: int) -> int:
    """The epoch after which a run should have stopped, by the figures that it left."""
    ranks = [
        max((epoch[f"{name}_top1"], -epoch[f"{name}_loss"]) for name in ("val", "ema") if f"{name}_loss" in epoch)
        for epoch in read_metrics(out)
    ]
    for done in range(1, len(ranks) + 1):
        if done - (ranks.index(max(ranks[:done])) + 1) == patience:
            return done
    return EPOCHS


def figures(out: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in epoch.items() if key not in ("seconds", "clips_per_second")}
        for epoch in read_metrics(out)
    ]


def assert_same(one: Path, other: Path) -> None:
    for name in ("last", "best"):
        a, b = (load_file(out / f"{name}.safetensors") for out in (one, other))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), name
    assert figures(one) == figures(other)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stopped") / "run"
    run(out)
    assert 2 <= len(read_metrics(out)) < EPOCHS
    return out


def test_a_run_stops_when_validation_has_not_improved(stopped: Path, tmp_path: Path) -> None:
    epochs = read_metrics(stopped)
    assert len(epochs) == stop_by_hand(stopped, 1)
    assert ["stopped" in epoch for epoch in epochs] == [False] * (len(epochs) - 1) + [True]
    lines = RecordingReporter()
    result = run(tmp_path / "patient", lines, patience=2)
    patient = read_metrics(tmp_path / "patient")
    assert len(epochs) < len(patient) == result.epochs == stop_by_hand(tmp_path / "patient", 2)
    why = f"validation has not been better for 2 epochs than after epoch {result.best_epoch}"
    assert patient[-1].get("stopped") == (why if len(patient) < EPOCHS else None)
    assert (f"stopped after epoch {len(patient)} of {EPOCHS}: {why}" in lines.lines) == (len(patient) < EPOCHS)


@pytest.mark.parametrize("steps", [1, 6, 7, 11])
def test_resumed_it_stops_at_the_same_epoch_with_the_same_bits(stopped: Path, tmp_path: Path, steps: int) -> None:
    run(tmp_path / "run", max_steps=steps)
    run(tmp_path / "run", resume=True)
    assert_same(stopped, tmp_path / "run")


def test_a_run_that_is_validated_seldom_stops_where_it_was_validated(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", lr=0.3, val_every=2, patience=1)
    epochs = read_metrics(tmp_path / "whole")
    assert whole.epochs == len(epochs) < EPOCHS and len(epochs) % 2 == 0
    assert ["val_loss" in epoch for epoch in epochs] == [False, True] * (len(epochs) // 2)
    ranks = [(epoch["val_top1"], -epoch["val_loss"]) for epoch in epochs[1::2]]
    peaks = [ranks[:count].index(max(ranks[:count])) + 1 for count in range(1, len(ranks) + 1)]
    assert [peak == count for count, peak in enumerate(peaks, 1)] == [True] * (len(ranks) - 1) + [False]
    run(tmp_path / "again", lr=0.3, val_every=2, patience=1, max_steps=7)
    run(tmp_path / "again", lr=0.3, val_every=2, patience=1, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "again")


def test_a_stopped_run_that_is_resumed_does_nothing_more(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    shutil.copy(stopped.with_name("run.json"), tmp_path)
    lines = RecordingReporter()
    run(tmp_path / "run", lines, resume=True)
    assert_same(stopped, tmp_path / "run")
    [line] = lines.lines
    assert line.startswith(f"stopped after epoch {len(read_metrics(stopped))} of {EPOCHS}: validation has not been")


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_last_epoch_counts_where_it_is_selected(tmp_path: Path, ema: float | None) -> None:
    result = run(tmp_path / "run", select="last", ema=ema, lr=0.1)
    assert result.best_epoch == result.epochs == stop_by_hand(tmp_path / "run", 1) < EPOCHS
    best, other = (load_file(tmp_path / "run" / f"{name}.safetensors") for name in ("best", "ema" if ema else "last"))
    assert all(torch.equal(best[key], other[key]) for key in best)


def test_patience_cannot_change_on_the_way(tmp_path: Path) -> None:
    run(tmp_path / "run", max_steps=1)
    with pytest.raises(DualFormerError, match="started with another patience"):
        run(tmp_path / "run", resume=True, patience=3)


def test_checkpoints_from_before_there_was_patience_are_read(tmp_path: Path) -> None:
    run(tmp_path / "whole", epochs=2, patience=None)
    run(tmp_path / "old", epochs=2, patience=None, max_steps=7)
    for path in checkpoints(tmp_path / "old"):
        content = torch.load(path, weights_only=True)
        content["progress"] = {key: content["progress"][key] for key in content["progress"] if "peak" not in key}
        then = json.loads(content["fingerprint"])
        del then["patience"]
        torch.save(content | {"fingerprint": json.dumps(then)}, path)
    run(tmp_path / "old", epochs=2, patience=None, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "old")


def test_its_end_is_that_of_a_full_run(settings: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation says that every epoch is worse than the one before. Pictures are drawn of all epochs."""
    calls: list[int] = []
    drawn: list[int] = []

    def worse(_objective: Any, _batches: Any, weights: Mapping[str, Any], **_: Any) -> dict[str, ValidationResult]:
        calls.append(len(calls))
        return dict.fromkeys(weights, ValidationResult(loss=1.0 + len(calls), top1=0.5))

    monkeypatch.setattr(loop, "validate", worse)
    monkeypatch.setattr(run_folder, "draw_curves", lambda _, epochs: drawn.append(len(epochs)))
    lines = RecordingReporter()
    result = train(settings.replace(epochs=30, patience=3), reporter=lines)
    assert (result.best_epoch, result.epochs, drawn[-1]) == (1, 4, 4)
    assert TrainConfig.load(result.out / "config.json").patience == 3
    assert (
        lines.lines[-1] == "stopped after epoch 4 of 30: validation has not been better for 3 epochs than after epoch 1"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patience": 0}, "`patience` must be more than 0, not 0"),
        ({"patience": 2, "overfit": 4}, "`overfit` validates on the videos that it trains on"),
        ({"patience": 2, "folds": 3}, "`folds` measures each run by videos that must not decide where it ends"),
    ],
)
def test_patience_without_videos_that_may_decide_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(data="videos", **changes)
