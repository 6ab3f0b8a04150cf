"""What a run shows of itself: curves, the learning rate ahead, confusion matrices, TensorBoard's event files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from dualformer.errors import DualFormerError
from dualformer.training.callbacks import Callback, ConfusionCallback, TensorBoardCallback
from dualformer.training.training_pictures import draw_curves, draw_schedule, rates_over

EPOCH = {"epoch": 1, "step": 4, "lr": 0.5, "train_loss": 1.0, "train_top1": 0.5, "val_loss": 1.5, "val_top1": 0.25}


def ink(path: Path, colour: tuple[int, int, int]) -> int:
    """Pixels near a colour."""
    pixels = np.rint(np.asarray(imread(path))[..., :3] * 255)
    return int((np.abs(pixels - colour).max(axis=-1) < 30).sum())


def test_the_rates_of_a_schedule_worked_out_by_hand() -> None:
    rates = rates_over(100, 10, 2.0)
    assert [step for step, _ in rates] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99]
    assert rates[0][1] == pytest.approx(0.2)  # the first of ten steps of warm-up
    assert rates[1][1] == 2.0
    assert rates[4][1] == pytest.approx(1.5)  # a third of the cosine: (1 + cos 60°) / 2 of the peak
    assert rates[7][1] == pytest.approx(0.5)
    assert 0 < rates[10][1] < 0.001
    assert [step for step, _ in rates_over(1, 0, 1.0)] == [0] * 11


def test_the_picture_of_a_schedule_has_a_line_for_every_rate(tmp_path: Path) -> None:
    groups = {"backbone": 1e-4, "backbone, no decay": 1e-4, "head": 1e-3, "head, no decay": 1e-3}
    draw_schedule(tmp_path / "two.png", 1000, 83, groups)
    draw_schedule(tmp_path / "one.png", 1000, 83, {"head": 1e-3})
    draw_schedule(tmp_path / "step.png", 1, 0, {"head": 1e-3})
    blue, orange = (31, 119, 180), (255, 127, 14)
    assert min(ink(tmp_path / "two.png", blue), ink(tmp_path / "two.png", orange)) > 500
    assert ink(tmp_path / "one.png", blue) > 500 and ink(tmp_path / "one.png", orange) == 0
    assert ink(tmp_path / "step.png", blue) > 20


def test_curves_show_averaged_weights_where_there_are_any(tmp_path: Path) -> None:
    for name, more in (("with", {"ema_loss": 1.2, "ema_top1": 0.75}), ("without", {})):
        (tmp_path / name).mkdir()
        draw_curves(tmp_path / name, [EPOCH | {"epoch": number} | more for number in (1, 2, 3)])
    green = (44, 160, 44)
    assert ink(tmp_path / "with" / "curves.png", green) > 300
    assert ink(tmp_path / "without" / "curves.png", green) == 0


def test_points_of_curves_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("dualformer.scoring.plots.save_figure", lambda path, figure: figures.append(figure))
    draw_curves(tmp_path, [EPOCH | {"train_loss": 2.0, "val_loss": 2.2, "train_top1": 1.0, "val_top1": 0.0}])
    figures[0].draw_without_rendering()
    for axes in figures[0].axes:
        bottom, top = axes.get_window_extent().intervaly
        for line in axes.lines:
            radius = line.get_markersize() / 2 * figures[0].dpi / 72
            for height in axes.transData.transform(line.get_xydata())[:, 1]:
                assert bottom + radius < height < top - radius


def test_confusion_matrices_are_drawn_after_every_so_many_epochs(tmp_path: Path) -> None:
    watcher: Callback = ConfusionCallback(tmp_path, ("clap", "jump"), 2)
    right, wrong = torch.tensor([[3, 0], [0, 3]]), torch.tensor([[0, 3], [3, 0]])
    for number, confusion in ((1, right), (2, right), (3, wrong), (4, wrong)):
        watcher.on_step(number, {"loss": 1.0})
        watcher.on_epoch(EPOCH | {"epoch": number}, confusion)
    watcher.close()
    drawn = sorted((tmp_path / "confusion").iterdir())
    assert [path.name for path in drawn] == ["epoch-0002.png", "epoch-0004.png"]
    # What is dark blue lies along the diagonal, and across it.
    places = []
    for path in drawn:
        pixels = np.asarray(imread(path))[..., :3] * 255
        pixels = pixels[:, : pixels.shape[1] * 3 // 4]  # without the scale of colours
        places.append(np.corrcoef(np.argwhere((pixels[..., 0] < 40) & (pixels[..., 2] > 90)).T)[0, 1])
    assert places[0] - places[1] > 0.5


def test_event_files_hold_every_number_of_steps_and_epochs(tmp_path: Path) -> None:
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra log is not installed"
    )
    watcher: Callback = TensorBoardCallback(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    for step in range(1, 9):
        watcher.on_step(step, {"loss": 2.0 / step, "lr": 0.1})
    watcher.on_epoch(EPOCH | {"step": 8, "note": "no number"}, torch.tensor([[3, 1], [0, 0]]))
    watcher.close()
    # TrainingInterrupted, and resumed from a checkpoint of step 4: what came after it is another past.
    resumed: Callback = TensorBoardCallback(tmp_path)
    for step in range(5, 7):
        resumed.on_step(step, {"loss": 7.0, "lr": 0.1})
    resumed.close()
    events = reading.EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    losses = [(event.step, pytest.approx(event.value)) for event in events.Scalars("step/loss")]
    assert losses == [(1, 2.0), (2, 1.0), (3, 2 / 3), (4, 0.5), (5, 7.0), (6, 7.0)]
    tags = set(events.Tags()["scalars"])
    assert tags == {"step/loss", "step/lr"} | {f"epoch/{name}" for name in EPOCH if name not in ("epoch", "step")}


def test_without_tensorboard_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DualFormerError, match=r"`tensorboard=True`: .*; pip install 'dualformer\[log\]'$"):
        TensorBoardCallback(tmp_path)


def test_a_run_without_steps_leaves_no_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra log is not installed")
    TensorBoardCallback(tmp_path).close()
    assert not list(tmp_path.iterdir())
