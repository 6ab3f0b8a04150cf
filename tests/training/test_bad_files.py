"""Bad files that nobody knew of: counted and named, left out and replaced by nothing, up to a limit."""

import shutil
from pathlib import Path

import pytest
import torch

from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips
from dualformer.datasets.decode_check import check_videos
from dualformer.datasets.manifest import find_videos, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.splits import open_splits
from dualformer.errors import DualFormerError
from dualformer.training.reporter import read_metrics
from dualformer.training.run_folder import TrainResult
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import kinetics
from small_runs import RecordingReporter


@pytest.fixture
def data(videos: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(videos, tmp_path / "videos"))


def broken(data: Path, *names: str) -> list[Path]:
    paths = [data / "train" / name.split("_")[0] / f"{name}.mp4" for name in names]
    for path in paths:
        path.write_bytes(b"no video")
    return paths


def run(settings: TrainConfig, data: Path, **changes: object) -> tuple[TrainResult, list[str]]:
    reporter = RecordingReporter()
    return train(settings.replace(data=str(data), **changes), reporter=reporter), reporter.lines


@pytest.mark.parametrize("workers", [0, 1])
def test_training_goes_on_counts_and_names(workers: int, settings: TrainConfig, data: Path) -> None:
    bad, *_ = broken(data, "left_0001")
    result, lines = run(settings, data, workers=workers)
    named = [line for line in lines if str(bad) in line]
    assert len(named) == 1
    assert named[0].startswith(f"left out, as it cannot be read: {bad}: it cannot be opened as a video")
    assert [epoch["left_out"] for epoch in read_metrics(result.out)] == [1, 1]
    assert sum("1 clip left out" in line for line in lines) == 2
    listed = result.out / "bad_files.csv"
    assert lines[-1].startswith(f"1 of 12 videos could not be read and were left out (they are listed in {listed})")
    assert [(v.path, v.ok) for v in read_manifest(listed)] == [(bad, False)]
    again, lines = run(settings, data, manifest=str(listed), out=f"{settings.out}2")
    assert [epoch["left_out"] for epoch in read_metrics(again.out)] == [0, 0]
    assert not any(str(bad) in line for line in lines)
    assert not (again.out / "bad_files.csv").exists()


def test_what_check_finds_is_left_out_from_the_start(settings: TrainConfig, data: Path, tmp_path: Path) -> None:
    broken(data, "left_0001")
    manifest = tmp_path / "manifest.csv"
    write_manifest(manifest, check_videos(find_videos(data), workers=1))
    _, lines = run(settings, data, manifest=str(manifest))
    assert any("11 videos to train on" in line and "1 bad file of" in line for line in lines)
    assert not any("cannot be read" in line for line in lines)


def test_no_other_clip_takes_its_place(data: Path) -> None:
    clips = TrainingClips(open_splits(data).train, kinetics(4, 2, 32), seed=0, augmentation=Augmentation(flip=0.0))
    whole = list(Batches(clips, batch_size=4, sampler=EpochSampler(12, seed=0)))
    bad, *_ = broken(data, "right_0002")
    index = next(i for i, sample in enumerate(clips.videos.samples) if sample.path == bad)
    errors: list[DualFormerError] = []
    rest = list(Batches(clips, left_out=errors.append, batch_size=4, sampler=EpochSampler(12, seed=0)))
    assert [str(bad) in str(error) for error in errors] == [True]
    assert [len(batch["clip"]) for batch in rest].count(3) == 1
    for batch, then in zip(rest, whole, strict=True):
        kept = then["index"] != index
        assert torch.equal(batch["index"], then["index"][kept])
        assert torch.equal(batch["clip"], then["clip"][kept])
    with pytest.raises(DatasetError, match=r"right_0002\.mp4.*`manifest`"):
        list(Batches(clips, batch_size=4, sampler=EpochSampler(12, seed=0)))
    with pytest.raises(DatasetError, match=r"right_0002\.mp4"):  # nothing is left of its batch
        list(Batches(clips, left_out=errors.append, batch_size=1, sampler=EpochSampler(12, seed=0)))


def test_too_many_are_no_accident(settings: TrainConfig, data: Path) -> None:
    broken(data, "left_0000", "left_0001", "left_0002", "right_0000")
    with pytest.raises(DatasetError, match=r"4 of 12 videos cannot be read, the last of them .*`manifest`") as caught:
        run(settings, data, batch_size=6)
    assert "\n" not in str(caught.value)


def test_mixing_and_a_bad_file(settings: TrainConfig, data: Path) -> None:
    broken(data, "left_0001")
    result, _ = run(settings, data, mixup=0.8)
    assert [epoch["left_out"] for epoch in read_metrics(result.out)] == [1, 1]


def test_a_bad_file_to_validate_on_stops_the_run(settings: TrainConfig, data: Path) -> None:
    """A share of the validation videos would give figures that nobody can compare."""
    bad = data / "val" / "left" / "left_0000.mp4"
    bad.write_bytes(b"no video")
    with pytest.raises(DatasetError, match=r"val/left/left_0000\.mp4.*`manifest`"):
        run(settings, data)
