"""Weights, and videos whose names and classes would be markup if a page took them at their word."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsers import open_browser
from dualformer.cli.main import main
from dualformer.datasets.samples import VideoList
from dualformer.datasets.splits import open_videos
from dualformer.model.network import DualFormer
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights

SCRIPT = "<script>alert(1)</script>"
CLASSES = (SCRIPT, "\"quoted\" & 'single'", "</style><b>bold", "left", "right", "{{ 7 * 7 }}")
FILES = ('it\'s "here" <b>&amp;.mp4', "plain.mp4")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``run/best.safetensors`` with a training log beside it, ``videos.csv`` and ``several.csv``."""
    home = tmp_path_factory.mktemp("home")
    with (home / "videos.csv").open("w", newline="") as one, (home / "several.csv").open("w", newline="") as many:
        single, several = csv.writer(one), csv.writer(many)
        single.writerow(["path", "label"])
        several.writerow(["path", "label"])
        for i, label in enumerate(CLASSES):
            for number, name in enumerate(FILES):
                rng = np.random.default_rng([i, number])
                frames = rng.integers(0, 256, (20, 6, 10, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
                path = Path(str(i)) / name
                (home / path).parent.mkdir(exist_ok=True)
                write_video(home / path, frames, fps=25)
                single.writerow([path, label])
                several.writerow([path, f"{label};{CLASSES[(i + 1) % 6]}"])
    return home


@pytest.fixture(scope="session")
def card(model: DualFormer) -> Card:
    pre = dataclasses.replace(kinetics(frames=4, stride=2, size=32), resize=36)
    metrics = {"epoch": 2.0}
    return Card(
        config=model.config, labels=CLASSES, preprocessing=pre, provenance="a test", licence="", metrics=metrics
    )


@pytest.fixture(scope="session")
def weights(home: Path, model: DualFormer, card: Card) -> Path:
    epochs = [
        {"epoch": n, "train_loss": 2.0 / n, "val_loss": 2.1 / n, "lr": 1e-3 / n, "train_top1": 0.1 * n, "val_top1": 0.2}
        for n in (1, 2, 3)
    ]
    save_weights(home / "run" / "best.safetensors", model, card)
    save_weights(home / "yes-no" / "best.safetensors", model, dataclasses.replace(card, multi_label=True))
    (home / "run" / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    return home / "run" / "best.safetensors"


@pytest.fixture(scope="session")
def videos(home: Path) -> VideoList:
    return open_videos(str(home / "videos.csv"))


@pytest.fixture(scope="session")
def written(home: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report with everything in it, made by the command line."""
    pytest.importorskip("captum", reason="the extra [explain] is not installed")
    out = tmp_path_factory.mktemp("reports")
    data = ["--data", str(home / "videos.csv"), "--workers", "0", "--device", "cpu"]
    assert main(["evaluate", str(weights), *data, "--views", "1x1", "--out", str(out / "other")]) == 0
    arguments = ["evaluate", str(weights), *data, "--views", "2x1", "--report", str(out / "report")]
    assert (
        main([*arguments, "--report-views", "1x1", "2x3", "--compare", str(out / "other"), "--report-mistakes", "3"])
        == 0
    )
    return out / "report"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser("--disable-gpu") as running:
        yield running
