"""A run over shards is the run over the files that they were made from, and goes on where it was killed."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file

from dualformer.datasets.clip_datasets import EpochSampler, TrainingClips
from dualformer.datasets.shards.shard_order import ShardOrder
from dualformer.datasets.shards.write_shards import write_shards
from dualformer.datasets.splits import open_all_splits, open_splits
from dualformer.errors import DualFormerError
from dualformer.training.checkpoint import checkpoints
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from forked_verbs import ForkedVerb


@pytest.fixture(scope="module")
def shards(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "shards"
    written = write_shards(open_all_splits(videos)[0], out, made_from="rendered", size=12_000)
    assert written.shards >= 5
    return out


@pytest.fixture(scope="module")
def url(shards: Path) -> Iterator[str]:
    remote = fsspec.filesystem("memory")
    for path in shards.iterdir():
        remote.pipe_file(f"/runs/{path.name}", path.read_bytes())
    yield "memory://runs"
    remote.rm("/runs", recursive=True)


def run(settings: TrainConfig, **changes: object) -> Path:
    return train(settings.replace(**changes), reporter=SilentReporter()).out


def assert_same_runs(one: Path, other: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), name
    keys = ("epoch", "step", "lr", "train_loss", "train_top1", "val_loss", "val_top1")
    records = [[[e[key] for key in keys] for e in read_metrics(out)] for out in (one, other)]
    assert records[0] == records[1]


@pytest.fixture(scope="module")
def files_run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    """The settings of a run over files, and what it left."""
    out = str(tmp_path_factory.mktemp("files") / "run")
    settings = TrainConfig(
        data=str(videos), out=out, frames=4, size=32, epochs=2, batch_size=4, flip="off", workers=0, precision="float32"
    )
    return settings, run(settings)


def test_a_run_over_shards_is_the_run_over_files(
    files_run: tuple[TrainConfig, Path], shards: Path, url: str, tmp_path: Path
) -> None:
    settings, files = files_run
    assert_same_runs(run(settings, data=str(shards), out=str(tmp_path / "here"), workers=2), files)
    assert_same_runs(run(settings, data=url, out=str(tmp_path / "there")), files)
    assert not (tmp_path / "here" / "split.csv").exists()  # the shards keep their split
    assert TrainConfig.load(tmp_path / "here" / "config.json").shuffle == "samples"


def test_a_run_over_files_goes_on_over_shards(files_run: tuple[TrainConfig, Path], url: str, tmp_path: Path) -> None:
    settings, files = files_run
    moved = settings.replace(out=str(tmp_path / "moved"))
    run(moved, max_steps=2)
    # With a cache a run is read shard by shard, unless it was started otherwise.
    run(moved, resume=True, data=url, shard_cache=str(tmp_path / "cache"))
    assert_same_runs(tmp_path / "moved", files)


def test_the_order_by_shards_is_another_and_is_kept(
    files_run: tuple[TrainConfig, Path], shards: Path, url: str, tmp_path: Path
) -> None:
    settings, files = files_run
    cached = run(settings, data=url, out=str(tmp_path / "cached"), shard_cache=str(tmp_path / "cache"))
    assert TrainConfig.load(cached / "config.json").shuffle == "shards"
    assert len(list((tmp_path / "cache").glob("*.tar"))) == len(list(shards.glob("*.tar")))
    assert not torch.equal(*(load_file(out / "last.safetensors")["head.weight"] for out in (cached, files)))
    stopped = settings.replace(out=str(tmp_path / "stopped"))
    run(stopped, data=str(shards), shuffle="shards", max_steps=2)
    run(stopped, data=url, resume=True)
    assert_same_runs(tmp_path / "stopped", cached)


def run_logged(settings: TrainConfig, log: Path) -> None:
    """Writes down each clip that the run asks for."""
    read = TrainingClips.__getitem__

    def logged(self: TrainingClips, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        with log.open("a") as file:
            file.write(f"{key[0]} {key[1]}\n")
        return read(self, key)

    TrainingClips.__getitem__ = logged
    train(settings, reporter=SilentReporter())


@pytest.mark.slow
def test_killed_in_mid_epoch_it_goes_on_without_losing_or_repeating_a_sample(
    settings: TrainConfig, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings.replace(data=str(shards), shuffle="shards", batch_size=1, epochs=100)
    killed = tmp_path / "killed"
    log = tmp_path / "log"
    process = ForkedVerb.of(run_logged, asked.replace(out=str(killed), save_minutes=1e-6), log)
    deadline = time.monotonic() + 120
    while not log.exists() or log.read_text().count("\n") < 6:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    progress = torch.load(checkpoints(killed)[0], weights_only=True)["progress"]
    assert 0 < progress["batch"] < 12, "it was to be killed within an epoch"
    kept = before[: progress["epoch"] * 12 + progress["batch"]]

    after: list[tuple[int, int]] = []
    read = TrainingClips.__getitem__

    def logged(self: TrainingClips, key: tuple[int, int]) -> dict[str, object]:
        after.append(key)
        return read(self, key)

    monkeypatch.setattr(TrainingClips, "__getitem__", logged)
    steps = 12 * (progress["epoch"] + 1) + 3
    run(asked, out=str(killed), resume=True, max_steps=steps)
    order = ShardOrder.of(open_splits(shards).train, asked.seed)
    sampler = EpochSampler(12, seed=asked.seed, order=order)
    keys = [key for epoch in range(progress["epoch"] + 2) for key in sampler.at(epoch)]
    assert [*kept, *after][:steps] == keys[:steps]
    assert sorted(number for _, number in keys[:12]) == list(range(12))
    whole = run(asked, out=str(tmp_path / "whole"), max_steps=steps)
    a, b = (load_file(out / "last.safetensors") for out in (killed, whole))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_options_that_do_nothing_or_harm_are_refused(settings: TrainConfig, shards: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"`shuffle=shards` is for shards, and .* is none"):
        run(settings, shuffle="shards")
    for data in (settings.data, str(shards)):
        with pytest.raises(ValueError, match=r"`shard_cache` is for shards at a URL, and .* is here already"):
            run(settings, data=data, shard_cache="cache")
    with pytest.raises(ValueError, match=r"`shard_cache_gb=1e-05` makes every epoch fetch .*: allow 0\.\d"):
        run(settings, data=url, shard_cache="cache", shard_cache_gb=1e-5)
    with pytest.raises(ValueError, match=r"or say `shuffle=shards`"):
        run(settings, data=url, shard_cache="cache", shard_cache_gb=1e-5, shuffle="samples")
    assert not Path(settings.out).exists()


def test_a_shard_that_is_gone_in_the_middle_stops_the_run(settings: TrainConfig, shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))

    class Deleting(SilentReporter):
        def progress(self, line: str, *, last: bool = False) -> None:
            for path in copy.glob("train-*.tar"):
                path.unlink()

    with pytest.raises(DualFormerError, match=r"copy/train-00000\d\.tar"):
        train(settings.replace(data=str(copy)), reporter=Deleting())
