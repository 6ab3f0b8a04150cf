"""What most tests of explaining need: a network and a wide video."""

from pathlib import Path

import numpy as np
import pytest
from made_recognizer import small_recognizer

from dualformer.inference.recognizer import Recognizer
from dualformer.video.encode import write_video


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    return small_recognizer()


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames of 96×128 at 12 frames a second: blocks of random colours."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (24, 6, 8, 3), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    path = tmp_path_factory.mktemp("video") / "blocks.mp4"
    write_video(path, frames, fps=12, crf=10)
    return path
