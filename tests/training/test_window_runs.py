"""Runs on windows of recordings: a network learns to answer at every moment."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.segment_formats import write_segments
from dualformer.datasets.segments.window_clips import WindowClips, WindowViews
from dualformer.inference.recognizer import Recognizer
from dualformer.model.presets import create_model
from dualformer.segment import Segment
from dualformer.training import prepare as prepare_module
from dualformer.training.losses import ClipLoss
from dualformer.training.objective import StepObjective
from dualformer.training.open_source import open_source, window_source
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.run_folder import summarize
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import Source
from dualformer.training.token_labels import step_targets
from dualformer.training.train import train
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import Views
from dualformer.video.encode import write_video
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.safetensors_file import load_weights, read_card
from made_films import coloured

COLOURS = ("blue", "green", "red")
FPS = 10
PRE = Preprocessing(frames=4, resize=32, crop=32, mean=(100.0, 110.0, 120.0), std=(50.0, 51.0, 52.0))


def recording(path: Path, seed: int, *, overlapping: bool = False) -> AnnotatedVideo:
    """Half a minute of colours with black between; where segments overlap, the later half of each is ``late``, too."""
    rng, phases, segments, frame = np.random.default_rng(seed), [], [], 0
    while frame < 300:
        name = ("black", COLOURS[rng.integers(3)])[len(phases) % 2]
        count = int(rng.integers(8, 20))
        if name != "black":
            segments.append(Segment(label=name, start=frame / FPS, end=(frame + count) / FPS))
            if overlapping:
                segments.append(Segment(label="late", start=(frame + count / 2) / FPS, end=(frame + count) / FPS))
        phases.append((name, count))
        frame += count
    write_video(path, coloured(phases), fps=FPS)
    return AnnotatedVideo(path=path, segments=tuple(segments), lines=("",) * len(segments))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedVideo]:
    folder = tmp_path_factory.mktemp("recordings")
    return [recording(folder / f"{seed}.mp4", seed) for seed in range(3)]


def settings(out: Path, **changes: Any) -> TrainConfig:
    plain = TrainConfig(
        data="recordings",
        out=str(out),
        head="temporal",
        start="random",
        model="dualformer_nano",
        frames=8,
        stride=1,
        size=32,
        epochs=3,
        batch_size=4,
        workers=0,
        flip="off",
        randaugment="off",
        min_area=1.0,
        lr=2e-3,
        label_smoothing=0.0,
        precision="float32",
    )
    return plain.replace(**changes)


@pytest.fixture
def from_recordings(recordings: list[AnnotatedVideo], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs train on the first two recordings."""

    def opened(config: TrainConfig) -> Source:
        return window_source(config, recordings[:2], recordings[2:], COLOURS)

    monkeypatch.setattr(prepare_module, "open_source", opened)


def test_steps_have_the_class_of_most_of_their_time() -> None:
    moments = torch.tensor([[[1, 0.0], [0.2, 0.8], [0.4, 0.6], [0.6, 0.4]]])
    assert step_targets(moments, 4, multi_label=False).tolist() == [0, 1, 1, 0]
    assert step_targets(moments, 2, multi_label=False).tolist() == [0, 0]
    assert step_targets(moments, 2, multi_label=True).tolist() == [[1, 0], [1, 1]]


def data(count: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clip = torch.randint(0, 256, (count, 4, 32, 32, 3), dtype=torch.uint8, generator=generator)
    moments = F.one_hot(torch.tensor([[0, 0, 2, 2], [1, 1, 1, 2]]), 3).float()
    return {"clip": clip, "label": torch.zeros(count, dtype=torch.long), "moments": moments}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_that_of_every_step(weighted: bool) -> None:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0, dropout=0.0, head="temporal")
    weights = torch.tensor([1.0, 2.0, 5.0]) if weighted else None
    objective = StepObjective(model, PRE, loss=ClipLoss(classes=3, class_weights=weights)).eval()
    step = objective(data())
    scores = model.step_scores(model.forward_features(normalize(data()["clip"], PRE)))
    truth = torch.tensor([0, 2, 1, 1])  # of the last step, half and half, the first class
    assert step.loss.item() == pytest.approx(F.cross_entropy(scores.flatten(0, 1), truth, weights).item(), rel=1e-5)
    assert step.step_logits is not None and torch.equal(step.step_logits, scores)
    torch.testing.assert_close(step.logits, model(normalize(data()["clip"], PRE)))
    assert (step.weight is None) == (not weighted)
    assert weights is None or step.weight == weights[truth].sum()


def test_steps_of_several_labels_are_yes_or_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = [recording(tmp_path / f"{seed}.mp4", seed, overlapping=True) for seed in range(2)]
    monkeypatch.setattr(
        prepare_module,
        "open_source",
        lambda config: window_source(config, recordings[:1], recordings[1:], (*COLOURS, "late")),
    )
    result = train(settings(tmp_path / "run", multi_label=True, epochs=1), reporter=SilentReporter())
    (epoch,) = read_metrics(Path(result.out))
    assert 0 <= epoch["val_map"] <= 1 and 0 <= epoch["train_f1"] <= 1
    card = read_card(Path(result.out) / "last.safetensors")
    assert card.labels == (*COLOURS, "late") and card.multi_label


@pytest.mark.usefixtures("from_recordings")
def test_a_network_learns_when_things_happen(tmp_path: Path, recordings: list[AnnotatedVideo]) -> None:
    result = train(settings(tmp_path / "run", epochs=12, select="last", val_every=12), reporter=SilentReporter())
    last = read_metrics(Path(result.out))[-1]
    assert last["val_top1"] > 0.8 and last["train_top1"] > 0.7
    weights = Path(result.out) / "last.safetensors"
    model, card = load_weights(weights)
    assert card.config.head == "temporal" and card.labels == (*COLOURS, "background")
    timeline = Recognizer(model, card, device="cpu").timeline(recordings[2].path)
    truth = recordings[2].segments
    assert [each.label for each in timeline.segments] == [each.label for each in truth]
    errors = [abs(a.start - b.start) for a, b in zip(timeline.segments, truth, strict=True)]
    assert np.median(errors) <= 0.2


@pytest.mark.usefixtures("from_recordings")
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, parts = settings(tmp_path / "whole", epochs=2), settings(tmp_path / "parts", epochs=2)
    train(whole, reporter=SilentReporter())
    train(parts.replace(max_steps=5), reporter=SilentReporter())
    train(parts.replace(resume=True), reporter=SilentReporter())
    one, other = (load_weights(Path(each.out) / "last.safetensors")[0].state_dict() for each in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert json.loads((tmp_path / "parts" / "config.json").read_text())["head"] == "temporal"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixup": 0.2}, "leave `mixup` out"),
        ({"cutmix": 1.0}, "leave `cutmix` out"),
        ({"overfit": 4}, "leave `overfit` out"),
        ({"sampling": "segments"}, "leave `sampling=segments` out"),
    ],
)
def test_what_does_not_go_with_it(
    tmp_path: Path, recordings: list[AnnotatedVideo], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        window_source(settings(tmp_path, **changes), recordings[:2], recordings[2:], COLOURS)


def test_the_source_says_what_it_is_of(tmp_path: Path, recordings: list[AnnotatedVideo]) -> None:
    source = window_source(settings(tmp_path), recordings[:2], recordings[2:], COLOURS)
    marked = sum(len(each.segments) for each in recordings[:2])
    assert source.size == marked and source.has_steps
    assert source.classes == (*COLOURS, "background")
    assert source.seconds is not None
    assert sum(source.seconds.values()) == pytest.approx(sum(seconds_of(each) for each in recordings[:2]), abs=0.01)
    assert source.description.startswith("recordings: 4 classes at every moment of 2 recordings")
    assert f"{marked} segments" in source.description
    other = window_source(settings(tmp_path), recordings[1:], recordings[:1], COLOURS)
    assert source.fingerprint != other.fingerprint
    full = [replace(each, segments=(Segment(label="red", start=0.0, end=100.0),), lines=("",)) for each in recordings]
    assert window_source(settings(tmp_path), full[:2], full[2:], COLOURS).classes == COLOURS


def seconds_of(video: AnnotatedVideo) -> float:
    with open_video(video.path) as reader:
        return len(reader) / FPS


def names(videos: Sequence[AnnotatedVideo]) -> list[str]:
    return [video.path.stem for video in videos]


@pytest.mark.parametrize(
    ("splits", "changes", "train", "val"),
    [
        (("train", "val", "test"), {}, ["0"], ["1"]),
        (("train", "test", "train"), {}, ["0", "2"], ["1"]),
        (("validation", "test", "validation"), {}, ["0", "2"], ["1"]),
        (("", "", "val"), {}, ["0", "1"], ["2"]),
        (("a", "b", "c"), {"train_on": "split=b", "val_on": "split=c"}, ["1"], ["2"]),
        (("train", "train", "train"), {"val_fraction": 0.4}, ["0", "1"], ["2"]),
        (("", "", ""), {"val_fraction": 0.4}, ["0", "1"], ["2"]),
    ],
)
def test_whole_recordings_are_split(
    tmp_path: Path,
    recordings: list[AnnotatedVideo],
    splits: Sequence[str],
    changes: dict[str, Any],
    train: list[str],
    val: list[str],
) -> None:
    marked = [replace(video, split=split) for video, split in zip(recordings, splits, strict=True)]
    write_segments(marked, tmp_path / "segments.csv", "csv")
    source = open_source(settings(tmp_path / "run", data=str(tmp_path / "segments.csv"), **changes))
    clips = source.clips(PRE, Augmentation(flip=0.0), None, Views(1, 1))
    assert isinstance(clips.train, WindowClips) and isinstance(clips.val, WindowViews)
    assert (names(clips.train.videos), names(clips.val.videos)) == (train, val)


def test_a_file_of_segments_is_trained_on(tmp_path: Path, recordings: list[AnnotatedVideo]) -> None:
    write_segments(recordings, tmp_path / "segments.csv", "csv")
    result = train(settings(tmp_path / "run", data=str(tmp_path / "segments.csv"), epochs=1), reporter=SilentReporter())
    done, *_, after = summarize(result)
    assert f"of the steps of {result.val_clips} validation windows right in epoch 1 of 1" in done
    assert after == f"next: dualformer predict VIDEO --timeline --weights {result.weights}"
    assert read_card(tmp_path / "run" / "last.safetensors").config.head == "temporal"
    for changes, message in (
        ({"group": "a"}, "leave `group` out"),
        ({"val_on": "label=red"}, "`val_on=split=train`"),
        ({"background": "nothing"}, "leave `background` out"),
        ({"background_share": 2.0}, "`background_share` is of the pieces of `background`"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(settings(tmp_path, data=str(tmp_path / "segments.csv"), **changes))


def test_times_may_be_numbers_of_frames(tmp_path: Path, recordings: list[AnnotatedVideo]) -> None:
    def at(segment: Segment) -> Segment:
        return replace(segment, start=round(segment.start * 25), end=round(segment.end * 25))

    for name, videos in (
        ("seconds", recordings),
        ("frames", [replace(video, segments=tuple(map(at, video.segments))) for video in recordings]),
    ):
        write_segments(videos, tmp_path / f"{name}.csv", "csv")
    found = [
        open_source(settings(tmp_path, data=str(tmp_path / f"{name}.csv"), frames_per_second=rate)).seconds
        for name, rate in (("seconds", None), ("frames", 25.0))
    ]
    assert found[0] == pytest.approx(found[1], abs=0.5)


def test_overlapping_segments_of_single_labels_are_warned_of(tmp_path: Path) -> None:
    video = recording(tmp_path / "x.mp4", 0, overlapping=True)
    one = window_source(settings(tmp_path), [video], [video], (*COLOURS, "late"))
    assert "of what is marked overlaps" in one.warnings[0]
    assert not window_source(settings(tmp_path, multi_label=True), [video], [video], (*COLOURS, "late")).warnings


def test_data_without_segments_has_no_moments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`head=temporal` learns what happens when, and rendered does not say it"):
        open_source(settings(tmp_path, data="rendered"))
