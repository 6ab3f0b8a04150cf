"""A run that is only planned: nothing is written, and it says what the run itself would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.model.presets import create_model
from dualformer.training.dry_run import Timing, dry_run, time_reading
from dualformer.training.objective import Batch, ClipObjective
from dualformer.training.prepare import plan_network, preset_of, starting_card
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.weights.locate import resolve_weights
from dualformer.weights.release import release_card, release_state
from dualformer.weights.safetensors_file import read_card, save_weights


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_plan_is_what_the_run_does_and_writes_nothing(settings: TrainConfig, tmp_path: Path) -> None:
    settings = settings.replace(epochs=3, batch_size=2, accumulate=2, start="random")
    before = everything(tmp_path)
    plan = dry_run(settings, seconds=0.5)
    assert everything(tmp_path) == before and not Path(settings.out).exists()
    assert plan.counts == {"left": 6, "right": 6}
    assert (plan.videos, plan.val_videos, plan.devices) == (12, 4, 1)
    assert (plan.clips_per_step, plan.batches, plan.steps_per_epoch, plan.steps, plan.warmup) == (4, 6, 3, 9, 1)
    train(settings, reporter=SilentReporter())
    assert plan.settings == TrainConfig.load(Path(settings.out) / "config.json")
    epochs = read_metrics(Path(settings.out))
    assert [epoch["step"] for epoch in epochs] == [3, 6, 9]
    assert epochs[-1]["lr"] == pytest.approx(plan.rates[-1][1])
    assert plan.rates[0][1] == 1e-3  # one step of warm-up is at the peak at once
    names = ["backbone", "backbone, no decay", "head", "head, no decay"]
    assert [group.name for group in plan.groups] == names
    assert {group.name: group.parameters for group in plan.groups}["head"] == 2 * 256
    assert {group.lr for group in plan.groups if group.name.startswith("head")} == {1e-3}
    assert {group.weight_decay for group in plan.groups if "no decay" in group.name} == {0.0}
    assert plan.timing.clips in (1, 2) and plan.timing.memory is None and plan.seconds > 0


def test_devices_share_an_epoch(settings: TrainConfig) -> None:
    plan = dry_run(settings.replace(devices=3, batch_size=2, start="random", accelerator="cpu"), seconds=0.1)
    assert (plan.devices, plan.clips_per_step, plan.batches) == (3, 6, 2)


def test_what_is_left_open_is_decided(settings: TrainConfig) -> None:
    config = settings.replace(start=None, epochs=None, batch_size=None, layer_decay=0.5)
    plan = dry_run(config, seconds=0.1)
    assert (plan.settings.start, plan.settings.epochs, plan.settings.batch_size) == ("rendered", 100, 3)
    first = plan.lines.index("proposed, as it was not said:") + 1
    assert plan.lines[first].startswith("  `start=rendered`   (")
    assert any("classifier: 16 → 2 classes" in line for line in plan.lines)
    layers = [group.lr for group in plan.groups if group.name.startswith("layer") and "no decay" not in group.name]
    assert layers == [pytest.approx(1e-3 * 0.5**depth) for depth in range(len(layers) - 1, -1, -1)]


@pytest.mark.parametrize(
    ("model", "name"), [(None, "rendered"), ("dualformer_nano_conv", "rendered"), ("dualformer_nano", "rendered-nano")]
)
def test_the_rendered_weights_are_those_of_the_network_asked_for(model: str | None, name: str) -> None:
    config = TrainConfig(data="videos", model=model, start="rendered")
    assert starting_card(config) == read_card(resolve_weights(name))
    network, _ = plan_network(config, classes=2)
    assert preset_of(network) == (model or "dualformer_nano_conv")


def test_what_starts_from_a_release_takes_views_in_our_way(tmp_path: Path) -> None:
    model = create_model("dualformer_nano", clip=(8, 64, 64), num_classes=3, seed=0)
    torch.save({"state_dict": release_state(model)}, tmp_path / "release.pth")
    card = release_card(tmp_path / "release.pth", model.config, trained_on="transfer")
    save_weights(tmp_path / "release.safetensors", model, card)
    config = TrainConfig(data="videos", start=str(tmp_path / "release.safetensors"), size=64)
    _, pre = plan_network(config, classes=2)
    assert (pre.mean, pre.std, pre.stride) == (card.preprocessing.mean, card.preprocessing.std, 4)
    assert (pre.placement, pre.short_video, pre.antialias) == ("ends", "repeat", True)


def test_settings_that_cannot_work_stop_a_plan_too(settings: TrainConfig) -> None:
    with pytest.raises(ValueError, match="`batch_size=13` is more than the 12 clips"):
        dry_run(settings.replace(batch_size=13, start="random"))
    with pytest.raises(ValueError, match="leave `resume=True` out"):
        dry_run(settings.replace(resume=True))


def test_workers_read_while_batches_are_computed() -> None:
    timing = Timing(start=4.0, read=2.0, step=3.0, judge=1.0, clips=8, memory=None)
    assert timing.run(batches=10, val_batches=5, epochs=2, validations=2, workers=4) == 4 + 2 * (10 * 3 + 4 + 5 * 2)
    assert timing.run(batches=10, val_batches=5, epochs=2, validations=1, workers=0) == 4 + 2 * 10 * 5 + 4 + 5 * 3


def test_validation_views_that_are_kept_are_read_once() -> None:
    timing = Timing(start=4.0, read=2.0, step=3.0, judge=1.0, clips=8, memory=None)
    of_training = 4 + 2 * 10 * 3
    for validations, seconds in ((0, 0), (1, 4 + 5 * 2), (3, 4 + 5 * 2 + 2 * 5 * 1)):
        planned = timing.run(batches=10, val_batches=5, epochs=2, validations=validations, workers=4, keep_val=True)
        assert planned == of_training + seconds


def test_a_plan_counts_views_that_are_kept_and_passes_of_the_network_alone(
    settings: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, modes, kept = ClipObjective.forward, list[bool](), list[bool]()
    clip_logits, shapes = ClipObjective.clip_logits, list[torch.Size]()
    run = Timing.run

    def watched(self: ClipObjective, batch: Batch) -> object:
        modes.append(self.training)
        return forward(self, batch)

    def judged(self: ClipObjective, inputs: torch.Tensor, **how: bool) -> torch.Tensor:
        assert not self.training and inputs.dtype == torch.float32
        shapes.append(inputs.shape)
        return clip_logits(self, inputs, **how)

    def planned(self: Timing, *, keep_val: bool, **numbers: Any) -> float:
        kept.append(keep_val)
        return run(self, keep_val=keep_val, **numbers)

    monkeypatch.setattr(ClipObjective, "forward", watched)
    monkeypatch.setattr(ClipObjective, "clip_logits", judged)
    monkeypatch.setattr(Timing, "run", planned)
    for cache_gb in (1.0, 0.0):
        dry_run(settings.replace(start="random", batch_size=2, cache_gb=cache_gb), seconds=0.1)
    assert set(modes) == {True} and len(shapes) == 4 and kept == [True, False]


def test_reading_is_timed_until_every_worker_has_had_its_turn() -> None:
    batches = iter([{"clip": torch.full((1,), number)} for number in range(9)])
    first, start, read = time_reading(batches, workers=3, seconds=0.0)
    assert int(first["clip"]) == 0 and int(next(batches)["clip"]) == 4
    assert start > 0 and read > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_rendered_videos_are_planned_as_well(workers: int, tmp_path: Path) -> None:
    config = TrainConfig(
        data="rendered",
        out=str(tmp_path / "run"),
        frames=8,
        size=32,
        flip="off",
        rendered_clips=16,
        batch_size=4,
        epochs=2,
        workers=workers,
        precision="float32",
    )
    plan = dry_run(config, seconds=0.1)
    assert (plan.counts, plan.videos, plan.val_videos, plan.steps) == (None, 16, 320, 8)
    assert any(group.name == "head" and group.parameters > 256 * 16 for group in plan.groups)  # and for the motion
    assert not (tmp_path / "run").exists()


def test_bad_videos_do_not_stop_a_plan(tmp_path: Path) -> None:
    scene = Scene(size=32, frames=16, classes=("up", "down"))
    write_dataset(tmp_path / "videos", scene, clips_per_class={"train": 6, "val": 1}, seed=0)
    broken = sorted((tmp_path / "videos" / "train" / "up").iterdir())[0]
    broken.write_bytes(b"")
    config = TrainConfig(data=str(tmp_path / "videos"), out=str(tmp_path / "run"), frames=4, size=32, workers=0)
    plan = dry_run(config.replace(start="random", batch_size=6, precision="float32"), seconds=0.1)
    assert plan.videos == 12 and broken.read_bytes() == b""
