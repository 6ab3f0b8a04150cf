"""The loop on a network small enough to compare runs number by number."""

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import made_runs
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dualformer.datasets.clip_datasets import EpochSampler
from dualformer.model.network import DualFormer
from dualformer.training import loop as loop_module
from dualformer.training.distributed import SyncBatchNorm3d, convert_sync_batchnorm
from dualformer.training.losses import ClipLoss
from dualformer.training.objective import Batch, ClipObjective, ObjectiveOutput
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.validation import ValidationResult
from dualformer.video.preprocessing import Preprocessing


def trained(out: Path, **settings: Any) -> tuple[dict[str, Tensor], list[float]]:
    """Weights, and the loss of every step."""
    made_runs.run(out, reporter=SilentReporter(), plain=True, **settings)
    losses = [step["loss"] for step in json.loads(out.with_name(f"{out.name}.json").read_text())]
    return load_file(out / "last.safetensors"), losses


@pytest.mark.parametrize("broken", [(), (5, 11)])
def test_four_accumulated_batches_of_two_are_one_batch_of_eight(tmp_path: Path, broken: tuple[int, ...]):
    """Also where a batch has lost a clip to a bad file: all clips that are left count alike."""
    small, small_losses = trained(tmp_path / "small", batch_size=2, accumulate=4, broken=broken)
    large, large_losses = trained(tmp_path / "large", batch_size=8, broken=broken)
    assert len(large_losses) == 12
    assert small_losses == pytest.approx(large_losses, rel=1e-6)
    a, b = (torch.cat([weights[key].flatten() for key in large]) for weights in (small, large))
    assert (a - b).norm() < 1e-6 * b.norm()
    assert (a - b).abs().max() < 5e-6
    single, _ = trained(tmp_path / "single", batch_size=2, broken=broken)
    assert not all(torch.allclose(single[key], large[key], atol=1e-3) for key in large)
    figures = ("train_loss", "train_top1", "left_out", "val_loss")
    for one, other in zip(read_metrics(tmp_path / "small"), read_metrics(tmp_path / "large"), strict=True):
        assert [one[key] for key in figures] == pytest.approx([other[key] for key in figures], rel=1e-6)


def test_batches_that_do_not_fill_a_step_are_left_out(tmp_path: Path):
    _, losses = trained(tmp_path / "run", batch_size=4, accumulate=4, epochs=2)  # of six batches two are left over
    assert len(losses) == 2
    assert [epoch["step"] for epoch in read_metrics(tmp_path / "run")] == [1, 2]


def test_a_clipped_gradient_is_that_of_all_clips(tmp_path: Path):
    """Clipping before the batches are added up would give another norm, and another step."""
    small, _ = trained(tmp_path / "small", batch_size=2, accumulate=4, clip_grad=0.1, epochs=1)
    large, _ = trained(tmp_path / "large", batch_size=8, clip_grad=0.1, epochs=1)
    assert all((small[key] - large[key]).abs().max() < 1e-6 for key in large)
    steps = json.loads((tmp_path / "large.json").read_text())
    assert all(step["grad_norm"] > 0.1 for step in steps)


class Beside(ClipObjective):
    """Something learns beside the network, and has gradients of the size ``pull``."""

    def __init__(
        self, model: DualFormer, preprocessing: Preprocessing, *, loss: ClipLoss, pull: float, clip_extra: bool
    ) -> None:
        super().__init__(model, preprocessing, loss=loss)
        self.clip_extra = clip_extra
        self.extra = nn.Linear(1, 1)
        self.pull = pull

    def forward(self, batch: Batch) -> ObjectiveOutput:
        step = super().forward(batch)
        assert self.extra is not None
        return step._replace(loss=step.loss + self.pull * self.extra(torch.ones(1)).sum())


def test_what_learns_beside_the_network_can_be_left_out_of_the_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(pull: float, clip_extra: bool) -> Tensor:
        monkeypatch.setattr(made_runs, "ClipObjective", partial(Beside, pull=pull, clip_extra=clip_extra))
        out = tmp_path / f"{pull}-{clip_extra}"
        found, _ = trained(out, batch_size=8, epochs=2, clip_grad=0.1)
        return torch.cat([found[key].flatten() for key in sorted(found)])

    assert weights(1e-3, False).equal(weights(1e6, False))
    # Of a gradient that is all but gone, AdamW's ε is what is left over.
    assert (weights(1e-3, True) - weights(1e6, True)).abs().max() > 1e-4


def test_a_linear_probe_changes_nothing_but_the_classifier(tmp_path: Path):
    """Not even BatchNorm's statistics, and nothing is dropped from the features on the way."""
    config = made_runs.CONFIG.replace(drop_path=0.5)
    model = made_runs.DualFormer(config, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made_runs.run(tmp_path / "run", model=model, batch_size=4, epochs=1, freeze="backbone", reporter=SilentReporter())
    changed = {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    assert changed == {"head.weight", "head.bias"}
    assert model.head.training and not any(stage.training for stage in model.stages)
    assert [name for name, parameter in model.named_parameters() if parameter.grad is not None] == []
    # The first loss by hand: of features in which nothing is dropped.
    clips = made_runs.Noise(26)
    first_batch = [number for _, number in EpochSampler(26, seed=0)][:4]
    inputs = torch.stack([clips[number]["clip"] for number in first_batch]).permute(0, 4, 1, 2, 3).float()
    reference = made_runs.DualFormer(config, seed=0).eval()
    with torch.no_grad():
        features = reference.forward_features((inputs - 128) / 64).mean(dim=(2, 3, 4))
        labels = torch.tensor([number % 3 for number in first_batch])
        first = nn.functional.cross_entropy(reference.head(features), labels).item()
    assert json.loads((tmp_path / "run.json").read_text())[0]["loss"] == pytest.approx(first, abs=1e-5)


def test_frozen_stages_stay_and_the_others_learn(tmp_path: Path):
    model = made_runs.DualFormer(made_runs.CONFIG, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made_runs.run(tmp_path / "run", model=model, batch_size=4, epochs=1, freeze_stages=1, reporter=SilentReporter())
    changed = {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    assert not any(name.startswith("stages.0.") for name in changed)
    assert {"stages.1.embed.proj.weight", "norm.weight", "head.weight"} <= changed


def test_batchnorm_over_all_processes_is_the_usual_one_in_one_process():
    network = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4))
    names = list(network.state_dict())
    assert convert_sync_batchnorm(network) == 1
    assert isinstance(network[1], SyncBatchNorm3d) and list(network.state_dict()) == names
    usual = nn.BatchNorm3d(4)
    x = torch.randn(2, 4, 3, 3, 3)
    assert torch.equal(network[1](x), usual(x))
    assert torch.equal(network[1].running_mean, usual.running_mean)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("how", "factor"), [("off", 1.0), ("linear", 16 / 64), ("sqrt", math.sqrt(16 / 64))])
def test_the_rate_follows_the_clips_of_a_step(how: str, factor: float):
    config = TrainConfig(data="videos", scale_lr=how)  # pyright: ignore[reportArgumentType]
    assert config.lr_factor(16) == factor


@pytest.mark.parametrize(
    ("select", "ema", "epoch", "same"), [("best", None, 1, ""), ("last", None, 3, "last"), ("last", 0.9, 3, "ema")]
)
def test_the_selected_epoch_is_the_best_or_the_last(
    select: str, ema: float | None, epoch: int, same: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Validation says that every epoch is worse than the one before."""
    calls: list[int] = []

    def worse(_objective: Any, _batches: Any, weights: Mapping[str, Any], **_: Any) -> dict[str, ValidationResult]:
        calls.append(len(calls))
        result = ValidationResult(
            loss=1.0 + len(calls), top1=0.9 - 0.1 * len(calls), confusion=torch.diag(torch.tensor([7, 0, 0]))
        )
        return dict.fromkeys(weights, result)

    monkeypatch.setattr(loop_module, "validate", worse)
    out = tmp_path / "run"
    result = made_runs.run(out, batch_size=4, epochs=3, select=select, ema=ema, reporter=SilentReporter())
    assert (result.best_epoch, result.best_top1) == (epoch, pytest.approx(0.9 - 0.1 * epoch))
    best, last = load_file(out / "best.safetensors"), load_file(out / f"{same or 'last'}.safetensors")
    assert all(torch.equal(tensor, last[name]) for name, tensor in best.items()) == bool(same)
