"""Images wherever videos may lie: folders, CSV files, checking, the torch data sets."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.datasets.clip_datasets import TrainingClips, ViewClips
from dualformer.datasets.decode_check import check_into, check_videos
from dualformer.datasets.manifest import find_videos, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.datasets.shards.write_shards import write_shards
from dualformer.datasets.splits import open_splits, open_videos, read_bad_videos
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_views
from dualformer.video.encode import write_image, write_video
from dualformer.video.open_video import open_video
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
    assert videos.kind == "videos and images"
    assert "1 file that is neither a video nor an image left out: notes.txt" in caplog.text
    assert "1 file that lies outside the classes left out: loose.jpg" in caplog.text
    splits = open_splits(mixed, val_fraction=0.2)
    assert (len(splits.train), len(splits.val)) == (8, 2)
    (mixed / "fish").mkdir()
    (mixed / "fish" / "a.heic").touch()
    with pytest.raises(DatasetError, match=r"fish: no video or image in this class.*with its videos or images inside"):
        open_videos(mixed)


def test_what_they_are_called() -> None:
    def named(*names: str) -> str:
        return VideoList(classes=("a",), samples=tuple(Sample(path=Path(n), label=0) for n in names), source="").kind

    assert named("a.mp4", "b.gif") == "videos"
    assert named("a.JPG", "b.png") == "images"
    assert named("a.mp4", "b.png") == "videos and images"


def test_lists_name_images(mixed: Path) -> None:
    table = mixed.parent / "list.csv"
    rows = [f"{p.relative_to(mixed.parent).as_posix()},{p.parent.name}" for p in sorted(mixed.glob("*/*.png"))]
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    videos = open_videos(table)
    assert (len(videos), videos.kind) == (6, "images")
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
        "text.jpg": "it cannot be opened as a video or image (FFmpeg: Invalid data found when processing input): "
        "it is a text file",
    }
    image = next(v for v in verdicts if v.path.name == "image0.png")
    assert (image.frames, image.width, image.height, image.fps, image.duration) == (1, 64, 48, 0, 0)
    write_manifest(tmp_path / "m.csv", verdicts)
    assert read_manifest(tmp_path / "m.csv") == verdicts
    assert open_videos(mixed, bad=read_bad_videos(tmp_path / "m.csv")).counts() == {"cat": 5, "dog": 5}


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


def test_a_file_called_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    """In every way to name it; the numbered images beside it are not its frames."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i, file in enumerate(("%03d.png", "000.png", "001.png", "a%dz.png")):
            write_image(tmp_path / "data" / name / file, picture(label, i))
    folder = open_videos(tmp_path / "data")
    assert folder.kind == "images"
    assert [s.name for s in folder.samples[:4]] == ["%03d.png", "000.png", "001.png", "a%dz.png"]
    table = tmp_path / "list.csv"
    rows = [f"{s.path.relative_to(tmp_path).as_posix()},{s.path.parent.name},25" for s in folder.samples]
    table.write_text("\n".join(["path,label,fps", *rows]) + "\n")
    listed = open_videos(table)
    assert listed.manifest_hash == folder.manifest_hash
    assert {s.fps for s in listed.samples} == {None}

    verdicts = check_videos([s.media for s in folder.samples], workers=1)
    assert [(v.ok, v.frames, v.bytes) for v in verdicts] == [(True, 1, s.path.stat().st_size) for s in folder.samples]
    assert check_into(tmp_path / "m.csv", [s.media for s in folder.samples], workers=1).kept == 0
    write_image(folder.samples[0].path, picture(7, 7))
    write_image(folder.samples[1].path, picture(8, 8))
    assert check_into(tmp_path / "m.csv", [s.media for s in folder.samples], workers=1).kept == 6

    write_shards({"val": folder}, tmp_path / "shards", made_from="images")
    packed = open_videos(tmp_path / "shards")
    assert packed.kind == "images"
    assert [s.name for s in packed.samples] == [s.name for s in folder.samples]
    pre = kinetics(1, 1, 32)
    for videos in (folder, listed, packed):
        for index, sample in enumerate(folder.samples):
            with open_video(sample.path) as reader:
                assert len(reader) == 1
                expected = read_views(sample.path, pre)
            assert torch.equal(ViewClips(videos, pre)[index]["views"], expected)


def test_a_pattern_without_a_file_of_its_name_is_a_folder_of_frames(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for i in range(3):
        write_image(tmp_path / "clip" / f"{i}.png", picture(i))
    (tmp_path / "list.csv").write_text("path,label,fps\nclip/%d.png,a,25\n")
    videos = open_videos(tmp_path / "list.csv")
    assert [(s.name, s.fps) for s in videos.samples] == [("clip", 25)]
    assert videos.kind == "videos"
    write_shards({"val": videos}, tmp_path / "shards", made_from="frames")
    packed = open_videos(tmp_path / "shards")
    assert [(s.name, s.fps) for s in packed.samples] == [("clip", 25)]
    assert packed.kind == "videos"
