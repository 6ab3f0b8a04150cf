"""Writing videos: the same frames give the same file, which the rendered data sets rest on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import picture

from dualformer.datasets.rendered import HORIZONTAL, Difficulty, Scene, render
from dualformer.video.encode import write_video
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.sequential_decoding import decode_all


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    # Texture and noise, over which a multi-threaded conversion and AVX-512 encoding gave several files each.
    scene = Scene(classes=HORIZONTAL, difficulty=Difficulty.at(0.7), wrap=True)
    frames = render(scene, 1, (0, 5, 1, 1)).frames
    files = set()
    for i in range(40):
        _ = np.empty(1000 * i, dtype=np.uint8)  # other addresses for what follows
        write_video(tmp_path / "clip.mp4", frames, fps=16)
        files.add((tmp_path / "clip.mp4").read_bytes())
    assert len(files) == 1


def test_write_video_round_trip(tmp_path: Path) -> None:
    frames = np.stack([picture(i, 48, 64) for i in range(20)])
    path = tmp_path / "out.mp4"
    write_video(path, frames, fps=12.5, crf=4)
    info = decode_all(path)
    assert (info.frames, info.width, info.height, info.codec) == (20, 64, 48, "h264")
    assert info.fps == pytest.approx(12.5)
    with PyAVReader(path) as reader:
        difference = reader.read(range(20)).float() - torch.from_numpy(frames).float()
    # Half the resolution of colour is all that is lost at this quality.
    assert float(difference.mean(dim=-1).abs().mean()) < 10
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_write_video_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")

    def frames():
        yield picture(0, 48, 64)
        yield picture(0, 48, 62)

    with pytest.raises(ValueError, match="frames change"):
        write_video(path, frames(), fps=25)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (np.zeros((2, 47, 64, 3), np.uint8), 25, "even sides"),
        (np.zeros((2, 48, 64, 3), np.float32), 25, "must be uint8"),
        (np.zeros((0, 48, 64, 3), np.uint8), 25, "no frames"),
        (np.zeros((2, 48, 64, 3), np.uint8), 0, "fps"),
    ],
)
def test_write_video_refuses(frames: np.ndarray, fps: float, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "out.mp4", frames, fps=fps)
    assert not list(tmp_path.iterdir())
