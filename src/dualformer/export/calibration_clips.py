"""Clips to compare and to calibrate on: of the user's own videos, or rendered ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dualformer.datasets.clip_datasets import Batches, ViewClips
from dualformer.datasets.rendered_draw import render
from dualformer.datasets.rendered_scene import ALL, CELL, PLACES, Scene
from dualformer.datasets.samples import VideoList
from dualformer.video.clip_reader import read_views
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.views import Views, views_of_frames


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """uint8 views N T H W 3, and where they come from in words."""

    views: Tensor
    source: str


def clips_of_files(paths: Iterable[str | Path], pre: Preprocessing) -> Clips:
    """The centre view of every file. Errors: ``VideoError``, ``FileNotFoundError``."""
    paths = list(paths)
    return Clips(views=torch.cat([read_views(path, pre) for path in paths]), source=f"{len(paths)} files")


def clips_of_videos(videos: VideoList, pre: Preprocessing, *, most: int, seed: int = 0, workers: int = 0) -> Clips:
    """The centre view of ``most`` of the videos, drawn by ``seed``, or of all of them. Errors: ``DatasetError``."""
    drawn = drawn_videos(videos, most=most, seed=seed)
    loader = Batches(ViewClips(drawn, pre), batch_size=1, num_workers=min(workers, len(drawn)))
    views = torch.cat([batch["views"].flatten(0, 1) for batch in loader])
    return Clips(views=views, source=f"{len(drawn)} {videos.kind} of {videos.source}")


def drawn_videos(videos: VideoList, *, most: int, seed: int = 0) -> VideoList:
    """At most so many of the videos, in their order."""
    if len(videos) <= most:
        return videos
    return videos.subset(sorted(np.random.default_rng(seed).permutation(len(videos))[:most].tolist()))


def rendered_clips(pre: Preprocessing, *, count: int) -> Clips:
    """Clips that need no files: moving shapes, of the size that the weights take, the same every time."""
    size = max(32, -(-pre.resize // CELL) * CELL)
    frames = 1 if pre.frames == 1 else max(16, pre.frames * min(pre.stride, 2))
    classes = PLACES if frames == 1 else ALL
    scene = Scene(size=size, frames=frames + frames % 2 if frames > 1 else 1, classes=classes)
    made = (render(scene, i % len(classes), (0, i)).frames for i in range(count))
    views = [views_of_frames(torch.from_numpy(one), pre, Views(1, 1), fps=scene.fps) for one in made]
    return Clips(views=torch.cat(views), source=f"{count} rendered clips")
