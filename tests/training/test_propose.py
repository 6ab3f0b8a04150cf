"""What is proposed to a run that was told little, and what it is told of its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dualformer.model.config import Config
from dualformer.scoring.intervals import half_width
from dualformer.training.propose import propose
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import Source, VideoShape
from dualformer.video.augmentation import Augmentation


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
    inflated: bool = False,
    shapes: list[VideoShape] | None = None,
    measure: Callable[[], list[VideoShape]] | None = None,
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
        measure=measure if shapes is None else lambda: shapes,
    )
    return propose(config, source, ranks=ranks, inflated=inflated)


def wide(lengths: list[tuple[int, float | None]] | None) -> list[VideoShape] | None:
    """Videos of 4:3 of so many frames and seconds."""
    return None if lengths is None else [VideoShape(frames, seconds, 4 / 3) for frames, seconds in lengths]


def unread(*_: object) -> Any:
    raise AssertionError("no clip is read to propose settings")


# Clips to see over clips of an epoch, rounded up, between the fewest and the most epochs.
@pytest.mark.parametrize(
    ("videos", "start", "epochs"),
    [
        (20, "weights.safetensors", 100),
        (102, "weights.safetensors", 63),
        (200, "weights.safetensors", 32),
        (320, "weights.safetensors", 19),
        (9537, "weights.safetensors", 16),
        (100, "random", 100),
        (400, "random", 30),
        (2000, "random", 30),
        (240_000, "random", 30),
    ],
)
def test_epochs_follow_the_number_of_videos(videos: int, start: str, epochs: int) -> None:
    assert proposed(videos, start=start).epochs == epochs


def test_nano_learns_long_from_random_weights() -> None:
    assert proposed(100, start="random", model="dualformer_nano").epochs == 200
    assert proposed(400, start="random", model="dualformer_nano").epochs == 60


@pytest.mark.parametrize(
    ("val", "settings", "every"),
    [
        (18, {"epochs": 47}, 5),
        (18, {"epochs": 10}, 1),
        (200, {"epochs": 47}, 1),
        (18, {"epochs": 47, "select": "best"}, 1),
        (200, {"epochs": 47, "select": "last"}, 5),
        (18, {"epochs": 47, "patience": 3}, 1),
        (18, {"epochs": 47, "confusion_every": 2}, 1),
        (18, {"epochs": 47, "val_every": 7}, 7),
    ],
)
def test_a_run_whose_last_weights_count_is_validated_ten_times(val: int, settings: dict[str, Any], every: int) -> None:
    config, lines = told(102, val=val, start="w", **settings)
    assert config.val_every == every
    assert any("`val_every=" in line for line in lines) == (every == 5)


def test_clips_of_a_video_in_its_batch_make_epochs_longer() -> None:
    assert proposed(102, start="w", repeats=2).epochs == 32


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
        (100, {"model": "dualformer_nano_conv"}, "rendered"),
        (100, {"model": "dualformer_tiny"}, "random"),
        (100, {"frames": 1}, "random"),
        (100, {"start": "random"}, "random"),
        (100, {"start": "mine.safetensors"}, "mine.safetensors"),
    ],
)
def test_few_videos_start_from_the_rendered_weights(videos: int, settings: dict[str, Any], start: str) -> None:
    config, lines = told(videos, **settings)
    assert config.start == start
    said = any(f"`start={start}`   (" in line for line in lines)
    assert said == ("start" not in settings)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"frames": 1}, "the weights that come with the package are of videos"),
        ({"model": "dualformer_tiny"}, "no weights of dualformer_tiny come with the package"),
    ],
)
def test_rendered_weights_that_were_said_are_refused_for_the_reason_why_they_are_not_proposed(
    settings: dict[str, Any], why: str
) -> None:
    assert any(why in line for line in told(100, **settings)[1])
    for start in ("rendered", "rendered-nano"):
        with pytest.raises(ValueError, match=f"`start={start}`: {why}.*; leave it out, or say `start=random`"):
            TrainConfig(data="videos", start=start, **settings)
    with pytest.raises(ValueError, match="no weights of dualformer_nano_conv come with the package by this name"):
        TrainConfig(data="videos", start="rendered-nano", model="dualformer_nano_conv")


def test_few_videos_have_convolutions_from_random_weights_too() -> None:
    assert proposed(1999, start="random").model == "dualformer_nano_conv"
    assert proposed(2000, start="random").model is None and proposed(1999).model is None
    assert proposed(100, start="random", frames=1).model is None
    assert proposed(100, start="w").model is None
    assert proposed(100, counts={}, data="rendered", frames=16, size=64).model is None


def test_the_rendered_weights_are_trained_at_one_rate_and_their_own_size() -> None:
    config = proposed(100)
    assert (config.backbone_lr, config.size, config.lr) == (1.0, None, 1e-3)
    config = proposed(100, size=112, backbone_lr=0.2, lr=2e-3)
    assert (config.backbone_lr, config.size, config.lr) == (0.2, 112, 2e-3)
    assert proposed(100, start="w").backbone_lr is None  # a tenth, as of any other weights


def test_what_was_said_is_not_changed() -> None:
    said = {"start": "w", "epochs": 3, "batch_size": 5, "lr": 0.5}
    config, lines = told(10_000, **said)
    assert {name: getattr(config, name) for name in said} == said
    assert not any("proposed" in line for line in lines)


def test_rendered_videos_need_no_counts_and_no_rendered_weights() -> None:
    config, lines = told(3200, counts={}, data="rendered", frames=16, size=64)
    assert (config.start, config.epochs, config.batch_size, config.backbone_lr) == ("random", 20, 16, None)
    assert lines[:2] == [
        "proposed, as it was not said:",
        "  `start=random`   (the rendered weights have seen such videos already)",
    ]


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


@pytest.mark.parametrize(
    ("lengths", "settings", "fps", "stride", "why"),
    [
        ([(90, 3.0), (120, 4.0), (60, 2.0)], {}, 5.3, 1, "a clip shows all of a video, of usually 3.0 s"),
        ([(132, 4.4)] * 3, {}, 3.6, 1, "a clip shows all of a video, of usually 4.4 s"),
        ([(90, 3.0)] * 8 + [(210, 7.0)] * 2, {}, 7.1, 1, "a clip shows 2.3 s of videos of 3.0 s"),
        ([(132, 4.4)] * 3, {"sampling": "stride"}, 4.8, 1, "a clip shows 3.3 s of videos of 4.4 s"),
        ([(132, 4.4)] * 3, {"start": "rendered", "teacher": "t"}, 4.8, 1, "a clip shows 3.3 s of videos of 4.4 s"),
        ([(300, 10.0)] * 3, {}, 3.2, 1, "a clip shows 5.0 s of videos of 10.0 s"),
        ([(30_000, 1000.0)] * 3, {}, 3.2, 1, "a clip shows 5.0 s of videos of 1000.0 s"),
        ([(300, 10.0)] * 3, {"sampling": "segments"}, 1.6, 1, "a clip shows all of a video, of usually 10.0 s"),
        ([(10, 0.4)] * 3, {}, 25.0, 1, "a clip shows all of a video, of usually 0.4 s"),
        ([(90, 3.0)] * 3, {"frames": 32}, 11.0, 1, "a clip shows all of a video, of usually 3.0 s"),
        ([(90, None)] * 3, {}, None, 4, "a clip shows 64 frames of videos of 90"),
        ([(1, 0.0), (1, 0.0), (1, 0.0), (90, 3.0)], {}, 5.3, 1, "a clip shows all of a video, of usually 3.0 s"),
        ([(90, 3000.0)] * 3, {}, 0.03, 1, "a clip shows 533.3 s of videos of 3000.0 s"),
    ],
)
def test_a_clip_shows_most_of_a_video(
    lengths: list[tuple[int, float | None]], settings: dict[str, Any], fps: float | None, stride: int, why: str
) -> None:
    config, lines = told(102, shapes=wide(lengths), **settings)
    assert (config.fps, config.stride) == (fps, stride)
    assert any(why in line for line in lines)
    assert (config.sampling == "segments") == ("all of a video" in why)


@pytest.mark.parametrize(
    ("lengths", "settings"),
    [
        ([(90, 3.0)], {"stride": 2}),
        ([(90, 3.0)], {"fps": 5.0, "stride": 2}),
        ([(90, 3.0)], {"start": "weights.safetensors"}),
        ([(1, 0.0)], {"start": "random"}),
        ([(90, 3.0)], {"start": "random", "frames": 1}),
        ([], {}),
        (None, {}),
    ],
)
def test_spacing_that_was_said_or_cannot_be_known_is_left(
    lengths: list[tuple[int, float | None]] | None, settings: dict[str, Any]
) -> None:
    config, _ = told(102, shapes=wide(lengths), **settings)
    assert (config.fps, config.stride) == (settings.get("fps"), settings.get("stride"))


@pytest.mark.parametrize(
    ("settings", "stride"),
    [
        ({}, 1),
        ({"start": "rendered", "sampling": "segments"}, 1),
        ({"start": "twins.safetensors", "inflated": True}, 1),
        ({"start": "weights.safetensors"}, None),
        ({"stride": 3}, 3),
        ({"data": "rendered", "start": "random"}, None),
    ],
)
@pytest.mark.parametrize("lengths", [[(90, 3.0)], None])
def test_a_rate_alone_says_how_far_apart_frames_are(
    lengths: list[tuple[int, float | None]] | None, settings: dict[str, Any], stride: int | None
) -> None:
    config, lines = told(102, shapes=wide(lengths), fps=5.0, **settings)
    assert (config.fps, config.stride, config.sampling) == (5.0, stride, settings.get("sampling"))
    why = "`stride=1`   (frames of a clip are 1/5 s apart, as `fps` says)"
    assert any(why in line for line in lines) == (stride == 1)


def test_weights_of_images_say_nothing_of_the_spacing_of_frames() -> None:
    shapes = [VideoShape(120, 4.0, 16 / 9)] * 4
    config, lines = told(102, shapes=shapes, start="twins.safetensors", frames=8, inflated=True)
    assert (config.fps, config.stride, config.sampling, config.crop_mode) == (2.0, 1, "segments", None)
    assert "  `sampling=segments` `fps=2.0` `stride=1`   (a clip shows all of a video, of usually 4.0 s)" in lines
    said, _ = told(102, shapes=shapes, start="twins.safetensors", frames=8, inflated=True, stride=1)
    assert (said.fps, said.stride, said.sampling) == (None, 1, None)


def test_few_videos_are_cropped_and_dropped_less() -> None:
    few, many, said = proposed(102), proposed(5000), proposed(102, min_area=0.3, dropout=0.5, drop_path=0.1)
    assert (few.min_area, few.drop_path, few.dropout, few.label_smoothing) == (0.5, 0.0, 0.0, 0.1)
    assert (many.min_area, many.drop_path, many.dropout) == (Augmentation.area[0], 0.1, Config.dropout)
    assert many.label_smoothing == 0.0 and proposed(102, label_smoothing=0.0).label_smoothing == 0.0
    assert proposed(102, multi_label=True).label_smoothing is None
    assert proposed(102, start="w", teacher="t").label_smoothing is None
    assert (said.min_area, said.drop_path, said.dropout) == (0.3, 0.1, 0.5)
    assert proposed(102, scale_jitter="128-160").min_area is None
    _, lines = told(8, overfit=8)
    assert not any("for few videos" in line for line in lines)


def test_randaugment_for_few_videos_ends_before_the_run_does() -> None:
    few = proposed(102)
    assert (few.randaugment, few.randaugment_until) == ("7x2", 0.6)
    assert proposed(102, randaugment_until=0.9).randaugment_until == 0.9
    said, many = proposed(102, randaugment="9x2"), proposed(5000)
    assert (said.randaugment, said.randaugment_until) == ("9x2", None)
    assert (many.randaugment, many.randaugment_until) == (None, None)


@pytest.mark.parametrize(
    ("val", "settings", "select"),
    [
        (18, {}, "last"),
        (99, {}, "last"),
        (100, {}, "best"),
        (18, {"select": "best"}, "best"),
        (1000, {"folds": 5, "fold": 1}, "last"),
    ],
)
def test_few_validation_videos_do_not_choose_the_epoch(val: int, settings: dict[str, Any], select: str) -> None:
    assert proposed(102, val=val, **settings).select == select


@pytest.mark.parametrize(
    ("aspects", "settings", "crop_mode"),
    [
        ([16 / 9] * 4, {}, "pad"),
        ([9 / 16] * 4, {}, "pad"),
        ([4 / 3] * 4, {}, None),
        ([1.0] * 18 + [1.5] * 2, {}, None),
        ([1.0] * 17 + [1.5] * 3, {}, "pad"),
        ([16 / 9] * 4, {"crop_mode": "center"}, "center"),
        ([16 / 9] * 4, {"scale_jitter": "128-160"}, None),
        ([16 / 9] * 4, {"start": "weights.safetensors"}, None),
        ([16 / 9] * 4, {"start": "rendered"}, "pad"),
    ],
)
def test_pictures_that_squares_would_cut_are_padded(
    aspects: list[float], settings: dict[str, Any], crop_mode: str | None
) -> None:
    config, lines = told(102, shapes=[VideoShape(90, 3.0, aspect) for aspect in aspects], **settings)
    assert config.crop_mode == crop_mode
    assert any("squares would leave" in line for line in lines) == (crop_mode == "pad")
    usual = 0.75 if crop_mode == "pad" else 0.5
    assert config.min_area == (None if "scale_jitter" in settings else usual)


def test_many_videos_are_not_padded() -> None:
    wide = [VideoShape(90, 3.0, 16 / 9)] * 4
    assert told(1999, shapes=wide, start="rendered")[0].crop_mode == "pad"
    assert told(2000, shapes=wide, start="rendered")[0].crop_mode is None


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({}, 1),
        ({"fps": 5.0}, 1),
        ({"crop_mode": "pad"}, 1),
        ({"fps": 5.0, "crop_mode": "pad"}, 0),
        ({"start": "weights.safetensors"}, 0),
    ],
)
def test_videos_are_measured_once_where_something_depends_on_it(settings: dict[str, Any], times: int) -> None:
    measured: list[list[VideoShape]] = []

    def measure() -> list[VideoShape]:
        measured.append([VideoShape(90, 3.0, 1.0)])
        return measured[-1]

    told(102, measure=measure, **settings)
    assert len(measured) == times
