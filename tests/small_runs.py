"""A small data set of rendered files, and the settings that train on it in seconds."""

from pathlib import Path

import pytest

from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.training import loop, run_folder
from dualformer.training.settings.train_config import TrainConfig


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pictures of rates and curves, which take longer to draw than these runs take; `drawn` has them drawn."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(run_folder, "draw_curves", lambda *_: None)
        monkeypatch.setattr(loop, "draw_schedule", lambda *_: None)


@pytest.fixture
def drawn() -> None:
    """For tests that look at the pictures of a run."""


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, six videos to train on and two to validate on each, 32x32 pixels, 16 frames."""
    folder = tmp_path_factory.mktemp("rendered") / "videos"
    scene = Scene(size=32, frames=16, classes=("right", "left"))
    write_dataset(folder, scene, clips_per_class={"train": 6, "val": 2}, seed=3)
    return folder


@pytest.fixture
def settings(videos: Path, tmp_path: Path) -> TrainConfig:
    """Two epochs of three steps."""
    return TrainConfig(
        data=str(videos),
        out=str(tmp_path / "run"),
        start="random",
        frames=4,
        size=32,
        epochs=2,
        batch_size=4,
        lr=1e-3,
        flip="off",
        workers=0,
        precision="float32",
    )
