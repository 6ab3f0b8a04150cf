"""Small networks exported once in every way that there is, and labelled videos."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_exports import LABELS, PRE, WAYS, Made, card_of, convolutional_network, noise, small_network

from dualformer.export.export_data import Clips, rendered_clips
from dualformer.export.export_weights import SUFFIXES, ExportReport, export_weights
from dualformer.model.network import DualFormer
from dualformer.video.encode import write_video
from dualformer.weights.exported.export_card import ExportFormat, ExportPrecision
from dualformer.weights.safetensors_file import save_weights
from shared_programs import shared_programs

__all__ = ["shared_programs"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported_in_every_way(small_network(), tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def made_of_convolutions(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported_in_every_way(convolutional_network(), tmp_path_factory.mktemp("convolutions"))


def exported_in_every_way(model: DualFormer, home: Path) -> Made:
    for module in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
        pytest.importorskip(module, reason="the extra [export] is not installed")
    card = card_of(model)
    save_weights(home / "small.safetensors", model, card)
    calibration = Clips(views=noise(24, seed=7), source="24 clips of noise")
    reports: dict[tuple[ExportFormat, ExportPrecision], ExportReport] = {
        (kind, precision): export_weights(
            model,
            card,
            home / f"small-{precision}{SUFFIXES[kind]}",
            format=kind,
            precision=precision,
            clips=rendered_clips(PRE, count=5),
            calibration=calibration if precision == "int8" else None,
        )
        for kind, precision in WAYS
    }
    return Made(model=model, card=card, weights=home / "small.safetensors", reports=reports)


@pytest.fixture(scope="session")
def exchanged(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[ExportFormat, ExportReport]:
    """Exports of another network, each in the place of a copy of an older one."""
    home = tmp_path_factory.mktemp("exchanged")
    shutil.copytree(made.reports["openvino", "fp32"].path, home / "model")
    shutil.copyfile(made.reports["torch", "fp32"].path, home / "model.pt2")
    other, clips = small_network(seed=4), Clips(views=noise(2), source="noise")
    names: dict[ExportFormat, str] = {"openvino": "model", "torch": "model.pt2"}
    return {
        kind: export_weights(other, made.card, home / name, format=kind, clips=clips) for kind, name in names.items()
    }


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/CLASS/NUMBER.mp4`` and ``data.csv`` with the column batch."""
    home = tmp_path_factory.mktemp("videos")
    rows = [("path", "label", "batch")]
    for i, name in enumerate(LABELS):
        (home / "data" / name).mkdir(parents=True)
        for number in range(3):
            rng = np.random.default_rng([i, number])
            frames = rng.integers(0, 256, (12, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
            write_video(home / "data" / name / f"{number}.mp4", frames, fps=25)
            rows.append((f"data/{name}/{number}.mp4", name, "AAB"[number]))
    with (home / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return home
