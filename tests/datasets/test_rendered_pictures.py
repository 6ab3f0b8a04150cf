"""Rendered pictures: the class is where the actor is and nothing else, however hard; files and clips in memory."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.cli.main import main
from dualformer.datasets.rendered import PLACES, Difficulty, RenderedClips, Scene, render, write_dataset
from dualformer.datasets.splits import open_splits
from dualformer.video.pyav_reader import PyAVReader

SIZE = 64
COUNT = 900


def scene(level: float = 0.0, **changes) -> Scene:
    return Scene(**{"size": SIZE, "frames": 1, "classes": PLACES, "difficulty": Difficulty.at(level), **changes})


def centroid(moving: np.ndarray) -> np.ndarray:
    """(x, y) pixels of what the actor covers, from the truth 1 h w."""
    at = (np.arange(moving.shape[1]) + 0.5) * 4
    return np.array((moving[0].sum(0) @ at, moving[0].sum(1) @ at)) / moving.sum()


def test_names() -> None:
    assert " ".join(PLACES[:3]) == "top-left top-centre top-right"
    assert " ".join(PLACES[3:6]) == "centre-left centre centre-right"
    assert " ".join(PLACES[6:]) == "bottom-left bottom-centre bottom-right"


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_the_actor_is_where_the_class_says_and_inside_the_frame(level: float) -> None:
    for seed in range(40):
        for label in range(9):
            clip = render(scene(level), label, seed)
            assert clip.frames.shape == (1, SIZE, SIZE, 3)
            x, y = centroid(clip.moving)
            # A triangle's centre of area is not quite the centre of the circle around it.
            row, column = divmod(label, 3)
            assert -1 <= x - column * SIZE / 3 <= SIZE / 3 + 1, (label, seed)
            assert -1 <= y - row * SIZE / 3 <= SIZE / 3 + 1, (label, seed)
            assert not clip.velocity.any()


def test_nothing_but_the_place_depends_on_the_class() -> None:
    for level in (0, 1):
        for seed in range(10):
            pictures = [render(scene(level, size=96), label, seed) for label in range(9)]
            covered = [float(picture.moving.sum()) for picture in pictures]
            assert np.ptp(covered) < 0.02 * np.mean(covered)  # antialiasing: the whole actor is always in view
            away = [picture.frames[0] for picture in pictures]
            for one, other in ((0, 8), (2, 6), (3, 5)):
                same = (pictures[one].moving[0] + pictures[other].moving[0] == 0).repeat(4, 0).repeat(4, 1)
                assert np.array_equal(away[one][same], away[other][same])
                assert same.mean() > 0.5


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a ridge regression onto classes, learnt from the first two thirds, on the last."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-9)
    features = np.concatenate((features, np.ones((len(features), 1))), axis=1)
    cut = 2 * len(features) // 3
    seen, wanted = features[:cut], np.eye(9)[labels[:cut]]
    weights = np.linalg.solve(seen.T @ seen + 30 * np.eye(seen.shape[1]), seen.T @ wanted)
    return float(((features[cut:] @ weights).argmax(1) == labels[cut:]).mean())


@pytest.mark.parametrize("level", [0, 0.6])
def test_statistics_of_colour_and_size_are_at_chance_and_places_are_not(level: float) -> None:
    clips = RenderedClips(scene(level), COUNT, seed=3)
    items = [clips[i] for i in range(COUNT)]
    labels = np.array([int(item["label"]) for item in items])
    pictures = np.stack([item["clip"][0].numpy() for item in items]).astype(np.float64)
    assert (np.bincount(labels, minlength=9) > 70).all()
    histograms = np.stack([np.histogram(picture, 32, (0, 256))[0] for picture in pictures])
    colours = np.concatenate(
        (pictures.mean((1, 2)), pictures.std((1, 2)), np.quantile(pictures, (0.05, 0.95), (1, 2)).T.reshape(COUNT, -1)),
        axis=1,
    )
    chance = 1 / 9 + 3.1 * np.sqrt(8 / 81 / (COUNT / 3))  # exceeded with probability 0.001
    assert accuracy(np.concatenate((histograms, colours), axis=1), labels) < chance
    if level == 0:
        cells = np.abs(pictures - np.median(pictures, axis=(1, 2), keepdims=True)).mean(3)
        cells = cells.reshape(COUNT, 8, 8, 8, 8).mean((2, 4)).reshape(COUNT, -1)
        assert accuracy(cells, labels) > 0.8


def test_the_camera_does_not_shake_in_a_picture() -> None:
    still, shaken = Difficulty(), Difficulty(shake=0.1)
    for label in range(9):
        one, other = render(scene(difficulty=still), label, 5), render(scene(difficulty=shaken), label, 5)
        assert np.array_equal(one.frames, other.frames)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scene(classes=PLACES), "32 frames can be of right, left"),
        (lambda: Scene(frames=1), "unknown class 'right'; 1 frame can be of top-left"),
        (lambda: scene(classes=("centre", "left")), "unknown class 'left'"),
        (lambda: render(scene(), 9, 0), "label 9 is outside the scene's 9 classes"),
        (lambda: render(scene(), 0, 0, times=(1,)), "times must be 1 or more frame numbers from 0 to 0"),
        (lambda: RenderedClips(scene(), 4, seed=0, frames=2), "frames is 2"),
    ],
)
def test_wrong_values_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_files_are_what_was_rendered_to_the_bit(tmp_path: Path) -> None:
    assert write_dataset(tmp_path / "set", scene(0.7), clips_per_class={"train": 2, "val": 1}, seed=4) == 27
    files = sorted(path.relative_to(tmp_path / "set").as_posix() for path in tmp_path.rglob("*.png"))
    assert files == sorted(
        f"{split}/{name}/{name}_{i:04d}.png"
        for split, count in (("train", 2), ("val", 1)) for name in PLACES for i in range(count)
    )  # fmt: skip
    manifest = json.loads((tmp_path / "set" / "rendered.json").read_text())
    assert manifest["scene"]["frames"] == 1
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert len(set(before.values())) == 27
    gone = tmp_path / "set" / files[0]
    gone.unlink()
    assert write_dataset(tmp_path / "set", scene(0.7), clips_per_class={"train": 2, "val": 1}, seed=4) == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    splits = open_splits(tmp_path / "set")
    assert splits.train.classes == tuple(sorted(PLACES))
    assert (len(splits.train), len(splits.val), splits.train.kind) == (18, 9, "images")
    for sample in splits.val.samples:
        with PyAVReader(sample.path) as reader:
            picture = reader.read([0])[0].numpy()
        assert picture.shape == (SIZE, SIZE, 3)
        assert sample.path.parent.name == splits.val.classes[sample.label]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pictures"
    arguments = ["render", str(out), "--classes", "places", "--train", "1", "--val", "1", "--test", "0", "--size", "32"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"rendering 18 pictures of 9 classes into {out}" in said
    assert f"next: dualformer train --data {out} --size 32 --flip off --frames 1 --min-area 1\n" in said
    assert len(list(out.glob("*/*/*.png"))) == 18
    assert main([*arguments, "--frames", "16"]) == 2
    assert "--frames 16 does not go with --classes places" in capsys.readouterr().err


def test_in_memory_they_come_with_the_truth() -> None:
    item = RenderedClips(scene(0.5), 5, seed=1)[3]
    assert item["clip"].shape == (1, SIZE, SIZE, 3)
    assert item["moving"].shape == (1, SIZE // 4, SIZE // 4)
    assert int(item["moving"].argmax()) // 16 // 5 == int(item["label"]) // 3
    assert not torch.any(item["velocity"])
