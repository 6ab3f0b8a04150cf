"""Writing videos: the same frames give the same file, which the rendered data sets rest on."""

from pathlib import Path

import numpy as np

from dualformer.datasets.rendered import HORIZONTAL, Difficulty, Scene, render
from dualformer.video.encode import write_video


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
