"""Opens the clips that an export is compared and calibrated on, and the videos that its accuracy is measured on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dualformer.datasets.clip_datasets import Batches, ViewClips
from dualformer.datasets.rendered_draw import render
from dualformer.datasets.rendered_scene import ALL, CELL, PLACES, Scene
from dualformer.datasets.samples import VAL_FRACTION, VideoList
from dualformer.datasets.splits import RowFilter, open_splits, open_videos
from dualformer.evaluation.label_matching import match_classes
from dualformer.plurals import counted
from dualformer.video.clip_reader import Views, read_views, views_of_frames
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.card import Card


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportData:
    """Clips and videos for an export."""

    clips: Clips
    """The weights and the exported model are both run on these."""
    calibration: Clips | None = None
    """The ranges of int8 are found on these."""
    accuracy_videos: VideoList | None = None
    """The accuracy of int8 is measured on these."""
    how: str
    """Where they come from, in words."""


def open_export_data(
    card: Card,
    *,
    int8: bool,
    data: str | None = None,
    on: RowFilter | None = None,
    bad: Collection[Path] = (),
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    label_map: Mapping[str, str] | None = None,
    videos: Sequence[Path] = (),
    clips: int = 8,
    calibration_clips: int = 128,
    accuracy_videos: int = 500,
    workers: int = 0,
) -> ExportData:
    """Opens clips of ``videos``, or else of ``data``, or else rendered ones; for ``int8`` more of ``data``.

    Of ``data``, clips to calibrate on are from the training split, the others from the validation split; ``on`` says
    which rows are in it, and without it the split is that of a training with the same ``val_fraction`` and ``seed``.
    Errors: those of `open_splits`, `open_videos` and `match_classes`; ``VideoError``; ``ValueError`` for int8 without
    ``data``.
    """
    pre = card.preprocessing
    train = val = None
    how = ""
    if int8:
        if data is None:
            raise ValueError("int8 needs data: ranges are found on it")
        splits = open_splits(
            data, val_on=on, bad=bad, val_fraction=val_fraction, seed=seed, multi_label=card.multi_label
        )
        train, val, how = splits.train, splits.val, splits.description
    elif data is not None:
        val = open_videos(data, on=on, bad=bad, multi_label=card.multi_label)
        how = val.source
    measured = val if int8 and accuracy_videos > 0 else None
    if measured is not None:  # now, and not after minutes of quantising
        match_classes(measured.classes, card.class_names, source=measured.source, label_map=label_map)
    if videos:
        shown = clips_of_files(videos, pre)
    elif val is not None:
        shown = clips_of_videos(val, pre, most=clips, seed=seed, workers=workers)
    else:
        shown = rendered_clips(pre, count=clips)
    return ExportData(
        clips=shown,
        calibration=clips_of_videos(train, pre, most=calibration_clips, seed=seed, workers=workers) if train else None,
        accuracy_videos=drawn_videos(measured, most=accuracy_videos, seed=seed) if measured else None,
        how=how or shown.source,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """Views uint8 N T H W 3, and in words where they come from."""

    views: Tensor
    source: str


def clips_of_files(paths: Iterable[str | Path], pre: Preprocessing) -> Clips:
    """Reads the centre view of every file. Errors: ``VideoError``, ``FileNotFoundError``."""
    paths = list(paths)
    return Clips(views=torch.cat([read_views(path, pre) for path in paths]), source=counted(len(paths), "file"))


def clips_of_videos(videos: VideoList, pre: Preprocessing, *, most: int, seed: int = 0, workers: int = 0) -> Clips:
    """Reads the centre view of ``most`` of the videos, drawn by ``seed``. Errors: ``DatasetError``."""
    drawn = drawn_videos(videos, most=most, seed=seed)
    loader = Batches(ViewClips(drawn, pre), batch_size=1, num_workers=min(workers, len(drawn)))
    views = torch.cat([batch["views"].flatten(0, 1) for batch in loader])
    return Clips(views=views, source=f"{len(drawn)} {videos.kind} of {videos.source}")


def drawn_videos(videos: VideoList, *, most: int, seed: int = 0) -> VideoList:
    """Draws at most ``most`` of the videos, in their order."""
    if len(videos) <= most:
        return videos
    return videos.subset(sorted(np.random.default_rng(seed).permutation(len(videos))[:most].tolist()))


def rendered_clips(pre: Preprocessing, *, count: int) -> Clips:
    """Renders clips, which need no files: moving shapes, of the size that the weights take, the same every time.

    Where ``pre`` has a clock, the films are shown at the rate at which they last as long as a clip.
    """
    size = max(32, -(-pre.resize // CELL) * CELL)
    frames = 1 if pre.frames == 1 else max(16, pre.frames * min(pre.stride, 2))
    classes = PLACES if frames == 1 else ALL
    scene = Scene(size=size, frames=frames + frames % 2 if frames > 1 else 1, classes=classes)
    fps = scene.frames * pre.fps / (pre.frames * pre.stride) if pre.fps else scene.fps
    made = (render(scene, i % len(classes), (0, i)).frames for i in range(count))
    views = [views_of_frames(torch.from_numpy(one), pre, Views(1, 1), fps=fps) for one in made]
    return Clips(views=torch.cat(views), source=counted(count, "rendered clip"))
