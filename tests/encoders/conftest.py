"""Videos whose motion a scripted encoder knows, for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.datasets.splits import Splits, open_splits
from dualformer.encoders import attentive_probe


@pytest.fixture(scope="session", autouse=True)
def quick_probes() -> Iterator[None]:
    """Probes of fewer steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attentive_probe, "_STEPS", 100)
        yield


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """Two classes, five videos to train on and two to validate on each, 32x32 pixels, 16 frames."""
    folder = tmp_path_factory.mktemp("taught") / "videos"
    scene = Scene(size=32, frames=16, classes=("right", "left"))
    write_dataset(folder, scene, clips_per_class={"train": 5, "val": 2}, seed=3)
    return open_splits(folder)


@pytest.fixture(scope="session")
def data(splits: Splits) -> Path:
    """The folder of `splits`."""
    return splits.train.samples[0].path.parents[2]
