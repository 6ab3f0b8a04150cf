"""A tiny data set of two files per class, for the random network."""

from pathlib import Path

import numpy as np
import pytest

from dualformer.datasets.samples import VideoList
from dualformer.datasets.splits import open_videos
from dualformer.model.network import DualFormer
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card

CLASSES = ("blink", "down", "left", "right", "round", "up")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for i, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for number in range(2):
            rng = np.random.default_rng([i, number])
            frames = rng.integers(0, 256, (20, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
            write_video(folder / name / f"{number}.mp4", frames, fps=25)
    return folder


@pytest.fixture(scope="session")
def videos(data: Path) -> VideoList:
    return open_videos(data)


@pytest.fixture(scope="session")
def card(model: DualFormer) -> Card:
    pre = kinetics(frames=4, stride=2, size=32)
    return Card(config=model.config, labels=CLASSES, preprocessing=pre, provenance="a test", licence="")
