"""Images wherever videos may lie: folders, CSV files, checking, the torch data sets."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.datasets.check import check_videos
from dualformer.datasets.clips import TrainingClips, ViewClips
from dualformer.datasets.files import find_videos, read_manifest, write_manifest
from dualformer.datasets.open import open_splits, open_videos, read_bad
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.video.augmentation import Augmentation
from dualformer.video.encode import write_image, write_video
from dualformer.video.preprocessing import kinetics


def picture(*seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two classes of three images and two videos each."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            write_image(tmp_path / "data" / name / f"image{i}.png", picture(label, i))
        for i in range(2):
            frames = np.stack([picture(label, i, t) for t in range(10)])
            write_video(tmp_path / "data" / name / f"video{i}.mp4", frames, fps=10)
    return tmp_path / "data"


def test_folders_hold_images_videos_or_both(mixed: Path, caplog: pytest.LogCaptureFixture) -> None:
    (mixed / "cat" / "notes.txt").touch()
    (mixed / "cat" / ".hidden.png").touch()
    (mixed / "loose.jpg").touch()
    with caplog.at_level(logging.WARNING, "dualformer"):
        videos = open_videos(mixed)
    assert videos.counts() == {"cat": 5, "dog": 5}
    assert videos.things == "videos and images"
    assert "1 files that are neither videos nor images left out: notes.txt" in caplog.text
    assert "1 files that lie outside the classes left out: loose.jpg" in caplog.text
    splits = open_splits(mixed, val_fraction=0.2)
    assert (len(splits.train), len(splits.val)) == (8, 2)
    (mixed / "fish").mkdir()
    (mixed / "fish" / "a.heic").touch()
    with pytest.raises(DatasetError, match=r"fish: no video or image in this class.*with its videos or images inside"):
        open_videos(mixed)


def test_what_they_are_called() -> None:
    def named(*names: str) -> str:
        return VideoList(classes=("a",), samples=tuple(Sample(path=Path(n), label=0) for n in names), source="").things

    assert named("a.mp4", "b.gif") == "videos"
    assert named("a.JPG", "b.png") == "images"
    assert named("a.mp4", "b.png") == "videos and images"


def test_lists_name_images(mixed: Path) -> None:
    table = mixed.parent / "list.csv"
    rows = [f"{p.relative_to(mixed.parent).as_posix()},{p.parent.name}" for p in sorted(mixed.glob("*/*.png"))]
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    videos = open_videos(table)
    assert (len(videos), videos.things) == (6, "images")
    table.write_text(table.read_text() + "data/cat/none.png,cat\n")
    with pytest.raises(DatasetError, match=r":8: 1 of 7 files do not exist: data/cat/none\.png"):
        open_videos(table)


def test_bad_images_are_found_and_left_out(mixed: Path, tmp_path: Path) -> None:
    good = (mixed / "cat" / "image0.png").read_bytes()
    (mixed / "cat" / "cut.png").write_bytes(good[: len(good) // 2])
    (mixed / "dog" / "text.jpg").write_text("no image")
    verdicts = check_videos(find_videos(mixed), workers=1)
    assert {v.path.name: v.reason for v in verdicts if not v.ok} == {
        "cut.png": "frame 0 does not decode (FFmpeg: Invalid data found when processing input)",
        "text.jpg": "it cannot be opened as a video or image (FFmpeg: Invalid data found when processing input)",
    }
    image = next(v for v in verdicts if v.path.name == "image0.png")
    assert (image.frames, image.width, image.height, image.fps, image.duration) == (1, 64, 48, 0, 0)
    write_manifest(tmp_path / "m.csv", verdicts)
    assert read_manifest(tmp_path / "m.csv") == verdicts
    assert open_videos(mixed, bad=read_bad(tmp_path / "m.csv")).counts() == {"cat": 5, "dog": 5}


@pytest.mark.parametrize("cache", [0, 10**7])
@pytest.mark.parametrize("frames", [1, 4])
def test_clips_of_mixed_folders(frames: int, cache: int, mixed: Path) -> None:
    videos, pre = open_videos(mixed), kinetics(frames, 2, 32)
    train, views = (
        TrainingClips(videos, pre, seed=0, augmentation=Augmentation(flip=0.5), cache_bytes=cache),
        ViewClips(videos, pre, clips=2),
    )
    for index, sample in enumerate(videos.samples):
        clip = train[0, index]["clip"]
        assert clip.shape == (frames, 32, 32, 3)
        still = (clip == clip[:1]).all()
        assert bool(still) == (sample.path.suffix == ".png" or frames == 1)
        assert views[index]["views"].shape == (2, frames, 32, 32, 3)
    first = [train[epoch, len(videos) - 1]["clip"] for epoch in range(2)]
    assert not torch.equal(*first)
