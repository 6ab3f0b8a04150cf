"""``dualformer render``: a labelled set of rendered videos, as files in one folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    out: Annotated[str, tyro.conf.Positional]
    """Folder to make: train/, val/ and test/ with one folder per class below each."""
    train: int = 40
    """Videos of each class to train on; 0 leaves the split out. So do the two below."""
    val: int = 10
    test: int = 25
    classes: Literal["horizontal", "vertical", "all"] = "horizontal"
    """Motions: 8 along one axis, 8 along the other, or all 16."""
    difficulty: float = 0.5
    """0 is one bright actor on a flat background, 1 is textured, faint, noisy and shaken."""
    size: int = 64
    """Side of the square frame in pixels."""
    frames: int = 32
    """Frames of a video."""
    seed: int = 0
    workers: int = 0
    """Processes that render; 0 renders in this one. Worth it for thousands of videos."""


def run(options: Options) -> int:
    from dualformer.cli._progress import Progress
    from dualformer.datasets.rendered import ALL, HORIZONTAL, VERTICAL, Difficulty, Scene, write_dataset

    scene = Scene(
        size=options.size,
        frames=options.frames,
        classes={"horizontal": HORIZONTAL, "vertical": VERTICAL, "all": ALL}[options.classes],
        difficulty=Difficulty.at(options.difficulty),
        wrap=True,
    )
    counts = {
        name: count
        for name, count in (("train", options.train), ("val", options.val), ("test", options.test))
        if count != 0
    }
    total = sum(counts.values()) * len(scene.classes)
    print(f"rendering {total} videos of {len(scene.classes)} classes into {options.out}")

    with Progress("rendering", "rendered") as progress:
        written = write_dataset(
            options.out,
            scene,
            clips_per_class=counts,
            seed=options.seed,
            workers=options.workers,
            progress=progress.show,
        )
    print(f"{written} videos written, {total - written} were there already")
    print(f"next: dualformer train --data {options.out} --size {options.size} --flip off --from rendered")
    return 0
