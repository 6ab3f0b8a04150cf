"""Flip maps: what is read from them, what is refused, and the labels that mirrored clips get."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.datasets.clip_datasets import TrainingClips
from dualformer.datasets.flip_map import describe_mirrored_labels, mirrored_labels, read_flip_map
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.video.augmentation import Augmentation
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics

CLASSES = ("clap", "left", "right", "spin")
EXPECTED = {"left": "right", "right": "left", "spin": None}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.csv", "class,mirrored\nleft,right\nspin,\n"),
        ("map.csv", "\ufeffclass , mirrored\n\nright,left\nleft,right\nspin,\n"),
        ("map.json", '{"left": "right", "spin": null}'),
        ("map.json", '{"left": "right", "right": "left", "spin": null}'),
    ],
)
def test_maps_are_read_both_ways_round(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    mirrored = read_flip_map(tmp_path / name, CLASSES)
    assert mirrored == EXPECTED
    assert mirrored_labels(mirrored, CLASSES) == (0, 2, 1, -1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("map.csv", "class,mirrored\nleft,right\nright,clap\n", r"map\.csv:3: 'right' becomes 'clap' here and 'left'"),
        ("map.csv", "class,mirrored\nleft,right\nleft,\n", r"map\.csv:3: 'left' becomes no class here and 'right'"),
        (
            "map.csv",
            "class,mirrored\nleft,right\nright,right\n",
            r"map\.csv:3: 'right' becomes 'right' here and 'left'",
        ),
        ("map.csv", "class,mirrored\nleft,up\n", r"map\.csv:2: 'up' is none of the 4 classes"),
        ("map.csv", "left,right\n", r"map\.csv:1: a flip map is one JSON object"),
        ("map.csv", "class,mirrored\nleft\n", r"map\.csv:2: expected a class and"),
        ("map.csv", "class,mirrored\n,left\n", r"map\.csv:2: expected a class and"),
        ("map.csv", 'class,mirrored\n"left,right\n', r"map\.csv:2: unexpected end"),
        ("map.csv", "class,mirrored\n", "is empty"),
        ("map.json", "{}", "is empty"),
        ("map.json", '{"left": "right", "left": "clap"}', r"map\.json: 'left' becomes 'clap' here and 'right'"),
        ("map.json", '{"left": 3}', r"map\.json: a flip map is one JSON object"),
        ("map.json", '[["left", "right"]]', r"map\.json: a flip map is one JSON object"),
        ("map.json", "7", r"map\.json: a flip map is one JSON object"),
        ("map.json", '{"left":\n right}', r"map\.json:2: not JSON"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_flip_map(tmp_path / name, CLASSES)


def test_files_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such flip map"):
        read_flip_map(tmp_path / "map.csv", CLASSES)
    (tmp_path / "map.csv").write_bytes(b"class,mirrored\nl\xe9ft,right\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read_flip_map(tmp_path / "map.csv", CLASSES)


@pytest.mark.parametrize("cache_bytes", [0, 10**8])
def test_a_mirrored_clip_has_its_partners_label(cache_bytes: int, tmp_path: Path) -> None:
    """Videos that are dark on their left: where the dark side is tells whether a clip was mirrored."""
    frames = np.full((10, 32, 32, 3), 200, dtype=np.uint8)
    frames[:, :, :16] = 20
    samples = []
    for label, name in enumerate(CLASSES):
        write_video(tmp_path / f"{name}.mp4", frames, fps=25)
        samples.append(Sample(path=tmp_path / f"{name}.mp4", label=label))
    videos = VideoList(classes=CLASSES, samples=tuple(samples), source="here")
    settings, swapped = Augmentation(flip=0.5, area=(1.0, 1.0), ratio=(1.0, 1.0)), (0, 2, 1, -1)
    assert describe_mirrored_labels(swapped) == (", which swaps the labels of 1 pair of classes and leaves out 1 class")
    pre = kinetics(4, 1, 32)
    clips = TrainingClips(videos, pre, seed=0, augmentation=settings, mirrored=swapped, cache_bytes=cache_bytes)
    seen = {label: [0, 0] for label in range(4)}
    for epoch in range(40):
        for index in range(4):
            item = clips[epoch, index]
            mirrored = bool(item["clip"][..., :16, :].float().mean() > 100)
            seen[index][mirrored] += 1
            assert item["label"] == (swapped[index] if mirrored else index)
    assert seen[3] == [40, 0]
    assert all(10 < seen[index][1] < 30 for index in range(3))


def test_a_map_for_other_classes_is_refused() -> None:
    videos = VideoList(classes=CLASSES, samples=(), source="here")
    with pytest.raises(ValueError, match="2 mirrored labels for 4 classes"):
        TrainingClips(videos, kinetics(4, 1, 32), seed=0, augmentation=Augmentation(flip=0.5), mirrored=(1, 0))
    for wrong in ((1, 2, 0, 3), (4, 1, 2, 3)):
        with pytest.raises(ValueError, match="lead back"):
            TrainingClips(videos, kinetics(4, 1, 32), seed=0, augmentation=Augmentation(flip=0.5), mirrored=wrong)
    with pytest.raises(ValueError, match="`scale_jitter` from 20 pixels on"):
        TrainingClips(videos, kinetics(4, 1, 32), seed=0, augmentation=Augmentation(flip=0, scale_jitter=(20, 40)))


def test_several_clips_of_a_video_differ_and_share_its_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = []
    for label in range(3):
        path = tmp_path / f"{label}.mp4"
        write_video(path, rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8), fps=25)
        samples.append(Sample(path=path, label=label))
    videos = VideoList(classes=CLASSES, samples=tuple(samples), source="here")
    clips = TrainingClips(videos, kinetics(4, 1, 24), seed=0, augmentation=Augmentation(flip=0.5))
    draws = [clips[2, 1 + 3 * repeat] for repeat in range(3)]
    assert [(item["label"], item["index"]) for item in draws] == [(1, 1)] * 3
    assert not any(torch.equal(draws[a]["clip"], draws[b]["clip"]) for a, b in ((0, 1), (0, 2), (1, 2)))
