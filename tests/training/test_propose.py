"""What is proposed to a run that was told little, and what it is told of its data."""

from __future__ import annotations

from typing import Any

import pytest

from dualformer.scoring.intervals import half_width
from dualformer.training.propose import propose
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import Source


def proposed(videos: int, *, counts: dict[str, int] | None = None, val: int = 1000, **settings: Any) -> TrainConfig:
    config, _ = told(videos, counts=counts, val=val, **settings)
    return config


def told(
    videos: int,
    *,
    counts: dict[str, int] | None = None,
    val: int = 1000,
    val_counts: dict[str, int] | None = None,
    ranks: int = 1,
    **settings: Any,
) -> tuple[TrainConfig, list[str]]:
    counts = {"clap": videos // 2, "wave": videos - videos // 2} if counts is None else counts
    config = TrainConfig(**{"data": "videos", **settings})
    source = Source(
        classes=tuple(counts),
        clips=unread,
        size=videos,
        val_size=val,
        description="",
        counts=counts or None,
        val_counts=val_counts,
        fingerprint="",
    )
    return propose(config, source, ranks=ranks)


def unread(*_: object) -> Any:
    raise AssertionError("no clip is read to propose settings")


# Clips to see over clips of an epoch, rounded up, between the fewest and the most epochs.
@pytest.mark.parametrize(
    ("videos", "start", "epochs"),
    [
        (20, "weights.safetensors", 60),
        (102, "weights.safetensors", 40),
        (320, "weights.safetensors", 16),
        (9537, "weights.safetensors", 16),
        (100, "random", 200),
        (400, "random", 60),
        (240_000, "random", 30),
    ],
)
def test_epochs_follow_the_number_of_videos(videos: int, start: str, epochs: int) -> None:
    assert proposed(videos, start=start).epochs == epochs


def test_clips_of_a_video_in_its_batch_make_epochs_longer() -> None:
    assert proposed(102, start="w", repeats=2).epochs == 20


@pytest.mark.parametrize(
    ("videos", "settings", "batch"),
    [
        (64, {}, 16),
        (63, {}, 15),
        (12, {}, 3),
        (3, {}, 1),
        (100_000, {}, 16),
        (64, {"accumulate": 4}, 4),
        (64, {"ranks": 2}, 8),
        (40, {"repeats": 2}, 16),
        (13, {"mixup": 0.8}, 2),
        (20, {"mixup": 0.8, "repeats": 2}, 8),
        (64, {"overfit": 8}, 8),
        (64, {"overfit": 8, "ranks": 3}, 3),
    ],
)
def test_a_batch_is_at_most_a_quarter_of_the_data(videos: int, settings: dict[str, Any], batch: int) -> None:
    config = proposed(videos, start="w", **settings)
    assert config.batch_size == batch


@pytest.mark.parametrize(
    ("videos", "settings", "start"),
    [
        (1999, {}, "rendered"),
        (2000, {}, "random"),
        (100, {"model": "dualformer_nano"}, "rendered"),
        (100, {"model": "dualformer_tiny"}, "random"),
        (100, {"frames": 1}, "random"),
        (100, {"start": "random"}, "random"),
        (100, {"start": "mine.safetensors"}, "mine.safetensors"),
    ],
)
def test_few_videos_start_from_the_rendered_weights(videos: int, settings: dict[str, Any], start: str) -> None:
    config, lines = told(videos, **settings)
    assert config.start == start
    said = any(f"`start={start}` (" in line for line in lines)
    assert said == ("start" not in settings)


def test_the_rendered_weights_are_trained_at_a_higher_rate_on_larger_frames() -> None:
    config = proposed(100)
    assert (config.backbone_lr, config.size, config.lr) == (0.5, 112, 1e-3)
    config = proposed(100, size=64, backbone_lr=0.2, lr=2e-3)
    assert (config.backbone_lr, config.size, config.lr) == (0.2, 64, 2e-3)
    assert proposed(100, start="w").backbone_lr is None  # a tenth, as of any other weights


def test_what_was_said_is_not_changed() -> None:
    said = {"start": "w", "epochs": 3, "batch_size": 5, "lr": 0.5}
    config, lines = told(10_000, **said)
    assert {name: getattr(config, name) for name in said} == said
    assert not any("proposed" in line for line in lines)


def test_rendered_videos_need_no_counts_and_no_rendered_weights() -> None:
    config, lines = told(3200, counts={}, data="rendered", frames=16, size=64)
    assert (config.start, config.epochs, config.batch_size, config.backbone_lr) == ("random", 20, 16, None)
    assert len(lines) == 1 and lines[0].startswith("proposed, as it was not said: `start=random` (")


def test_classes_are_counted() -> None:
    _, lines = told(0, counts={"clap": 4, "wave": 7}, start="w")
    assert lines[0] == "videos to train on: clap 4, wave 7"
    many = {f"class {number}": 5 + number for number in range(13)}
    _, lines = told(0, counts=many, start="w")
    assert lines[0] == "videos to train on: 5 of 'class 0' (fewest) to 17 of 'class 12' (most)"


def test_uneven_classes_are_warned_about() -> None:
    _, lines = told(0, counts={"clap": 12, "wave": 4}, start="w")
    assert not any("warning" in line for line in lines)
    _, lines = told(0, counts={"clap": 13, "wave": 4}, start="w")
    (warning,) = (line for line in lines if "warning" in line)
    assert "'clap' has 13 videos and 'wave' 4" in warning


def test_classes_that_cannot_be_learnt_or_judged_are_named() -> None:
    _, lines = told(0, counts={"clap": 2, "wave": 1}, val_counts={"clap": 0, "wave": 1}, start="w")
    assert any("only one video to train on for wave" in line for line in lines)
    assert any("no validation video for clap" in line for line in lines)
    _, lines = told(0, counts={"clap": 2, "wave": 2}, val_counts={"clap": 1, "wave": 1}, start="w")
    assert not any("warning" in line for line in lines)


@pytest.mark.parametrize(("val", "points"), [(26, 18), (100, 10), (399, 5), (400, None)])
def test_few_validation_videos_are_said_to_tell_little(val: int, points: int | None) -> None:
    _, lines = told(100, val=val, start="w")
    said = [line for line in lines if line.startswith(f"{val} validation videos tell an accuracy to about ±")]
    assert len(said) == (points is not None)
    if points is not None:
        assert f"± {points} points" in said[0] and round(100 * half_width(val)) == points


def test_what_is_to_be_memorised_is_seen_often_and_not_judged() -> None:
    config, lines = told(
        8, counts={"clap": 7, "wave": 1}, val=8, val_counts={"clap": 8, "wave": 0}, overfit=8, start="w"
    )
    assert (config.epochs, config.batch_size) == (100, 8)
    assert not any("warning" in line or "validation" in line for line in lines)
