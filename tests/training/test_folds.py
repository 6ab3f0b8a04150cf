"""Cross-validation: every video is validated on once, and what was stopped goes on."""

import csv
from pathlib import Path
from typing import Any

import pytest

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.splits import open_videos
from dualformer.errors import DualFormerError
from dualformer.training import folds as folds_module
from dualformer.training.folds import CrossValidation, cross_validate, find_runs, is_cross_validation
from dualformer.training.reporter import SilentReporter
from dualformer.training.run_folder import TrainResult
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from small_runs import RecordingReporter


@pytest.fixture
def of_folds(settings: TrainConfig) -> TrainConfig:
    """Two folds of the videos, one epoch each."""
    return settings.replace(folds=2, epochs=1, select=None)


def result(out: Path, top1: float, videos: int) -> TrainResult:
    return TrainResult(
        out=out,
        weights=out / "best.safetensors",
        best_top1=top1,
        best_epoch=1,
        epochs=1,
        val_clips=videos,
        seconds=1.0,
        clips_per_second=1.0,
    )


def validated(run: Path) -> set[str]:
    with (run / "split.csv").open(newline="") as file:
        return {row["path"] for row in csv.DictReader(file) if row["split"] == "val"}


def test_every_video_is_validated_on_once(of_folds: TrainConfig) -> None:
    reporter = RecordingReporter()
    found = cross_validate(of_folds, reporter=reporter)
    out = Path(of_folds.out)
    assert [run.out for run in found.runs] == [out / "fold-1", out / "fold-2"]
    first, second = validated(out / "fold-1"), validated(out / "fold-2")
    assert first and second and not first & second
    assert len(first | second) == sum(run.val_clips for run in found.runs)
    with (out / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fold"] for row in rows] == ["1", "2"]
    assert [float(row["accuracy"]) for row in rows] == list(found.figures)
    assert all(Path(row["weights"]).is_file() for row in rows)
    assert any("a fold that chose the epoch would no longer be unseen" in line for line in reporter.lines)


def test_a_stopped_one_goes_on_with_the_fold_that_it_was_at(
    of_folds: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, bool]] = []
    caches: list[float] = []

    def stopped(config: TrainConfig, *, reporter: SilentReporter) -> TrainResult:
        trained.append((Path(config.out).name, config.resume))
        caches.append(config.cache_gb)
        if len(trained) == 2:
            raise DualFormerError("stopped")
        return train(config, reporter=reporter)

    monkeypatch.setattr(folds_module, "train", stopped)
    with pytest.raises(DualFormerError, match="stopped"):
        cross_validate(of_folds, reporter=SilentReporter())
    with pytest.raises(ValueError, match="already holds a run"):
        cross_validate(of_folds, reporter=SilentReporter())
    resumed = TrainConfig(resume=True, out=of_folds.out, cache_gb=0.5, workers=0)
    assert is_cross_validation(resumed)
    cross_validate(resumed, reporter=SilentReporter())
    assert trained == [("fold-1", False), ("fold-2", False), ("fold-1", True), ("fold-2", False)]
    assert caches == [of_folds.cache_gb, of_folds.cache_gb, 0.5, 0.5]


def test_a_config_of_other_programs_is_no_cross_validation(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Other"], "folds": "all"}')
    assert find_runs(tmp_path) == ()
    assert find_runs(tmp_path / "config.json") == find_runs(tmp_path / "nowhere") == ()


def test_what_cannot_be_dealt_leaves_nothing_behind(of_folds: TrainConfig) -> None:
    for _ in range(2):
        with pytest.raises(DatasetError, match="99 folds take as many videos"):
            cross_validate(of_folds.replace(folds=99), reporter=SilentReporter())
        assert not [path for path in Path(of_folds.out).rglob("*") if path.is_file()]


def test_what_a_later_fold_lacks_is_said_before_the_first_is_trained(
    of_folds: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the marks of one group nothing is unmarked, so that the fold that trains on it has no background."""
    trained: list[int | None] = []
    monkeypatch.setattr(folds_module, "train", lambda config, reporter: trained.append(config.fold))
    lines, ends = ["path,start,end,label,who"], {"ann": 60.0, "bob": 0.1}
    for who, end in ends.items():
        for folder in ("left", "right"):
            lines += [
                f"{sample.path},0,{end},{folder},{who}"
                for sample in open_videos(of_folds.data).samples
                if sample.path.parent.name == folder and (sample.path.stem[-1] in "02468") == (who == "ann")
            ]
    (tmp_path / "segments.csv").write_text("\n".join(lines) + "\n")
    config = of_folds.replace(data=str(tmp_path / "segments.csv"), background="nothing", group="who", val_on=None)
    with pytest.raises(DatasetError, match=r"fold 2 of 2: .*nothing in its videos is unmarked"):
        cross_validate(config, reporter=SilentReporter())
    assert not trained and not [path for path in Path(of_folds.out).rglob("*") if path.is_file()]


def test_what_the_folds_say_together(tmp_path: Path) -> None:
    found = CrossValidation(out=tmp_path, runs=tuple(result(tmp_path, top1, 10) for top1 in (0.5, 0.7, 0.9)))
    assert found.summary()[-2:] == [
        "mean of 3 folds: 70.0% ± 49.7 points (95 %, by the spread of the folds)",
        "21 of 30 videos right, each by weights that have not seen it (70.0%, 95 % interval 52.1% to 83.3%)",
    ]
    assert found.to_dict()["mean"] == pytest.approx(0.7)
    assert [row["accuracy"] for row in found.to_dict()["folds"]] == [0.5, 0.7, 0.9]


def test_one_run_takes_one_fold(of_folds: TrainConfig) -> None:
    with pytest.raises(ValueError, match="`folds=2` is as many runs: name the `fold` of this one"):
        train(of_folds, reporter=SilentReporter())
    with pytest.raises(ValueError, match="`fold=3` is none of the folds from 1 to `folds=2`"):
        of_folds.replace(fold=3)
    with pytest.raises(ValueError, match="`folds` trains on one device"):
        cross_validate(of_folds.replace(devices=2), reporter=SilentReporter())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overfit": 4}, "`folds` measures each run by videos that it has not seen: leave `overfit` out"),
        ({"select": "best"}, "videos that must not choose its epoch: say `select=last`"),
        ({"select": "best", "fold": 1}, "videos that must not choose its epoch: say `select=last`"),
        ({"data": "rendered"}, "`folds` deals videos to parts, and `data=rendered` never shows one twice"),
        ({"data": "rendered-hands", "folds": 0, "group": "who"}, "`group` keeps videos together, and `data=rendered-h"),
    ],
)
def test_folds_of_videos_that_were_seen_are_refused(
    of_folds: TrainConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        of_folds.replace(**changes)
