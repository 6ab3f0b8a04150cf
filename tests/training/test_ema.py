"""The average of the weights: by hand, and beside the weights in a run."""

from pathlib import Path

import made_runs
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dualformer.training.ema import Average, decay_at
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.weights.safetensors_file import load_weights, read_card


def test_the_decay_rises_to_what_is_asked_for():
    assert [decay_at(step, 0.9) for step in (0, 1, 2, 8)] == [0.1, 2 / 11, 0.25, 0.5]
    assert decay_at(79, 0.9) == pytest.approx(80 / 89)
    assert decay_at(80, 0.9) == decay_at(10**6, 0.9) == 0.9


def test_averages_by_hand():
    layer = nn.BatchNorm1d(1)
    assert layer.running_mean is not None and layer.num_batches_tracked is not None
    with torch.no_grad():
        layer.weight.fill_(10.0)
        layer.running_mean.fill_(1.0)
    average = Average(layer, 0.2)
    with torch.no_grad():
        layer.weight.fill_(20.0)
        layer.running_mean.fill_(3.0)
        layer.num_batches_tracked.fill_(7)
    average.update(layer, 0)  # a tenth of 10 stays
    assert average.tensors["weight"].item() == pytest.approx(0.1 * 10 + 0.9 * 20)
    assert average.tensors["running_mean"].item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    assert average.tensors["num_batches_tracked"].item() == 7
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average.update(layer, 1)  # 2/11 of 19
    assert average.tensors["weight"].item() == pytest.approx(19 * 2 / 11)
    average.update(layer, 5)  # 6/15 is more than 0.2
    assert average.tensors["weight"].item() == pytest.approx(19 * 2 / 11 * 0.2)
    assert layer.weight.item() == 0


def test_a_run_judges_both_and_keeps_the_better(tmp_path: Path):
    # A large rate from the start: the weights jump about, and their average is better.
    result = made_runs.run(
        tmp_path / "run", batch_size=2, lr=3e-3, epochs=6, ema=0.95, clip_grad=0.0, reporter=SilentReporter()
    )
    epochs = read_metrics(tmp_path / "run")
    judged = [(e[f"{name}_top1"], -e[f"{name}_loss"], e["epoch"], name) for e in epochs for name in ("val", "ema")]
    best = max(judged, key=lambda each: each[:2])
    metrics = read_card(result.weights).metrics
    assert (metrics["val_top1"], -metrics["val_loss"], metrics["epoch"]) == best[:3]
    assert metrics.get("ema") == (0.95 if best[3] == "ema" else None)
    assert result.best_top1 == best[0]
    assert any(e["ema_loss"] != e["val_loss"] for e in epochs)
    # The files' own figures are those of the weights in them.
    for name in ("last", "ema"):
        model, card = load_weights(tmp_path / "run" / f"{name}.safetensors")
        key = "val" if name == "last" else "ema"
        assert card.metrics["val_loss"] == epochs[-1][f"{key}_loss"]
        clips = [made_runs.Noise(7)[number] for number in range(7)]
        inputs = (torch.stack([clip["clip"] for clip in clips]).permute(0, 4, 1, 2, 3).float() - 128) / 64
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(inputs), torch.stack([clip["label"] for clip in clips]))
        assert loss.item() == pytest.approx(card.metrics["val_loss"], abs=1e-5)
    assert "ema" in read_card(tmp_path / "run" / "ema.safetensors").metrics
    assert "ema" not in read_card(tmp_path / "run" / "last.safetensors").metrics


def test_the_average_of_a_run_is_that_of_its_steps(tmp_path: Path):
    """Ten steps by hand, from the weights after each."""
    weights = [made_runs.DualFormer(made_runs.CONFIG, seed=0).state_dict()["head.bias"].clone()]
    for step in range(1, 5):
        made_runs.run(tmp_path / str(step), batch_size=4, max_steps=step, ema=0.3, reporter=SilentReporter())
        weights.append(load_file(tmp_path / str(step) / "last.safetensors")["head.bias"])
    average = weights[0]
    for now, decay in zip(weights[1:], (0.1, 2 / 11, 0.25, 0.3), strict=True):
        average = decay * average + (1 - decay) * now
    found = load_file(tmp_path / "4" / "ema.safetensors")["head.bias"]
    assert torch.allclose(found, average, atol=1e-7)


def test_without_it_there_is_none(tmp_path: Path):
    made_runs.run(tmp_path / "run", batch_size=4, epochs=1, reporter=SilentReporter())
    assert not (tmp_path / "run" / "ema.safetensors").exists()
    assert "ema_loss" not in read_metrics(tmp_path / "run")[0]
