"""A small data set of rendered files, the settings that train on it in seconds, and a reporter that keeps lines."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.training import loop, run_folder
from dualformer.training.reporter import Reporter
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
        model="dualformer_nano",
        start="random",
        frames=4,
        size=32,
        epochs=2,
        batch_size=4,
        lr=1e-3,
        flip="off",
        stride=2,
        select="best",
        workers=0,
        precision="float32",
    )


class RecordingReporter(Reporter):
    """Keeps the lines of a run in place of printing them.

    ``at_end_of`` has something done, once, when an epoch ends: ``{"epoch 2": act}``.
    """

    def __init__(self, at_end_of: Mapping[str, Callable[[], object]] | None = None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.at_end_of = dict(at_end_of or {})

    def log(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, line: str, *, last: bool = False) -> None:
        self.lines.append(line)
        if last and (act := self.at_end_of.pop(line.split("/")[0], None)):
            act()
