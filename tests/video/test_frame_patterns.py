"""Folders of numbered images read as videos are, and what is wrong with those that cannot be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_training_clip, read_views
from dualformer.video.container import VideoError
from dualformer.video.encode import write_image, write_video
from dualformer.video.frame_patterns import decode_frame_folder, find_frame_pattern, frame_files, parse_frame_pattern
from dualformer.video.frame_reader import FrameFolderReader
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.sampling import even_clips


def pictures(count: int, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def folder(root: Path, frames: NDArray[np.uint8], name: str = "img_{:05d}.png", first: int = 1) -> Path:
    for number, frame in enumerate(frames, first):
        write_image(root / name.format(number), frame)
    return root / parse_frame_pattern(name)


def test_reads_by_number_as_a_video_does(tmp_path: Path) -> None:
    truth = pictures(12)
    reader = FrameFolderReader(folder(tmp_path, truth), fps=8)
    assert len(reader) == 12
    assert reader.times.tolist() == [i / 8 for i in range(12)]
    assert np.array_equal(reader.read([7, 0, 7, 11]).numpy(), truth[[7, 0, 7, 11]])
    assert [i for i, _ in reader.frames([5, 2, 5])] == [2, 5]
    assert reader.read([]).shape == (0, 24, 32, 3)
    info = reader.info
    assert (info.frames, info.fps, info.width, info.height, info.duration) == (12, 8.0, 32, 24, 1.5)
    for wrong in ([12], [-1]):
        with pytest.raises(ValueError, match=r"is outside .*img_%05d\.png, which has 12 frames, counted from 0"):
            reader.read(wrong)
    with pytest.raises(ValueError, match="whole numbers"):
        reader.read([0.5])
    with pytest.raises(ValueError, match="fps must be positive"):
        FrameFolderReader(tmp_path / "img_%05d.png", fps=0)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_clips_are_those_of_a_video_with_the_same_frames(fps: float | None, tmp_path: Path) -> None:
    """The frames of a video, written as images, give its clips bit for bit."""
    write_video(tmp_path / "clip.mp4", pictures(30).repeat(2, axis=1).repeat(2, axis=2), fps=25)
    with PyAVReader(tmp_path / "clip.mp4") as reader:
        frames = reader.read(np.arange(30)).numpy()
    (tmp_path / "frames").mkdir()
    pattern = folder(tmp_path / "frames", frames)
    pre = replace(kinetics(4, 2, 24), fps=fps)
    video = read_training_clip(tmp_path / "clip.mp4", pre, np.random.default_rng(5), Augmentation(flip=0.5)).frames
    assert torch.equal(
        video, read_training_clip(pattern, pre, np.random.default_rng(5), Augmentation(flip=0.5), fps=25).frames
    )
    views = read_views(tmp_path / "clip.mp4", pre, clips=3, crops=3)
    assert torch.equal(views, read_views(pattern, pre, clips=3, crops=3, fps=25))
    assert len(np.unique(even_clips(np.arange(30) / 25, pre, 3))) > 6


def test_without_a_rate_there_are_no_seconds(tmp_path: Path) -> None:
    pattern = folder(tmp_path, pictures(8))
    assert open_video(pattern).times.tolist() == list(range(8))
    with pytest.raises(VideoError, match=r"a folder of frames does not tell its rate.*fps=25"):
        read_views(pattern, replace(kinetics(4, 2, 24), fps=10.0))
    assert read_views(pattern, kinetics(4, 2, 24)).shape == (1, 4, 24, 24, 3)


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["img_00001.jpg", "img_00002.jpg"], "img_%05d.jpg"),
        (["img_99999.jpg", "img_100000.jpg"], "img_%d.jpg"),
        (["9.png", "10.png", "100.png"], "%d.png"),
        (["v_g01_c02-0001.jpg", "v_g01_c02-0002.jpg", "notes.txt"], "v_g01_c02-%04d.jpg"),
        (["1st_07b.jpg", "1st_08b.jpg"], "1st_%02db.jpg"),
    ],
)
def test_patterns_are_found_by_looking(names: list[str], pattern: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert find_frame_pattern(tmp_path) == tmp_path / pattern


def test_numbers_sort_as_numbers_from_the_lowest(tmp_path: Path) -> None:
    for number in (8, 9, 10, 11):
        (tmp_path / f"f{number}.jpg").touch()
        (tmp_path / f"g{number:03d}.jpg").touch()
    assert [file.name for file in frame_files(tmp_path / "f%d.jpg")] == ["f8.jpg", "f9.jpg", "f10.jpg", "f11.jpg"]
    assert [file.name[1:4] for file in frame_files(tmp_path / "g%03d.jpg")] == ["008", "009", "010", "011"]


def test_patterns_of_other_code() -> None:
    for theirs, ours in (
        ("img_{:05d}.jpg", "img_%05d.jpg"),
        ("img_{:05}.jpg", "img_%05d.jpg"),
        ("{}.png", "%d.png"),
        ("image_%04d.jpg", "image_%04d.jpg"),
        ("%d.jpeg", "%d.jpeg"),
    ):
        assert parse_frame_pattern(theirs) == ours
    for wrong in ("img.jpg", "img_%05d.mp4", "a/%d.jpg", "%d_%d.jpg"):
        with pytest.raises(ValueError, match="no pattern of numbered images"):
            parse_frame_pattern(wrong)


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    pattern = folder(tmp_path, pictures(6))
    assert decode_frame_folder(pattern).frames == 6
    with pytest.raises(FileNotFoundError, match="no such folder of frames"):
        FrameFolderReader(tmp_path / "none" / "%d.png")
    with pytest.raises(VideoError, match="the folder has no frame of that name"):
        FrameFolderReader(tmp_path / "other_%05d.png")
    write_image(tmp_path / "img_00002.png", pictures(1, 16, 16)[0])
    for look in (lambda: decode_frame_folder(pattern), lambda: FrameFolderReader(pattern).read([0, 1])):
        with pytest.raises(VideoError, match=r"img_00002\.png has 16x16 pixels, the first frame 32x24"):
            look()
    (tmp_path / "img_00002.png").write_bytes(b"no picture")
    for look in (lambda: decode_frame_folder(pattern), lambda: FrameFolderReader(pattern).read([1])):
        with pytest.raises(VideoError, match=r"img_00002\.png: it cannot be opened as a video or image"):
            look()
    (tmp_path / "img_00002.png").unlink()
    (tmp_path / "img_00004.png").unlink()
    with pytest.raises(VideoError, match="frame 2 is missing between 1 and 6"):
        FrameFolderReader(pattern)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="no numbered images in it"):
        find_frame_pattern(tmp_path / "empty")
