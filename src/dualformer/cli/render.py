"""``dualformer render``: a labelled set of rendered videos or pictures, as files in one folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    out: Annotated[str, tyro.conf.Positional]
    """Folder to make: train/, val/ and test/ with one folder per class below each."""
    train: int = 40
    """Files of each class to train on; 0 leaves the split out. So do the two below."""
    val: int = 10
    test: int = 25
    classes: Literal["horizontal", "vertical", "all", "places"] = "horizontal"
    """Motions: 8 along one axis, 8 along the other, or all 16. Or places: pictures (PNG) of 9 classes, which say where
    in the frame the actor is."""
    difficulty: float = 0.5
    """0 is one bright actor on a flat background, 1 is textured, faint, noisy and shaken."""
    size: int = 64
    """Side of the square frame in pixels."""
    frames: int | None = None
    """Frames of a video (default: 32)."""
    seed: int = 0
    workers: int = 0
    """Processes that render; 0 renders in this one. Worth it for thousands of videos."""

    def __post_init__(self) -> None:
        if self.classes == "places" and self.frames not in (None, 1):
            raise ValueError(f"--frames {self.frames} does not go with --classes places, which makes pictures")


def run(options: Options) -> int:
    from dualformer.cli._progress import Progress
    from dualformer.datasets.rendered import ALL, HORIZONTAL, PLACES, VERTICAL, Difficulty, Scene, write_dataset

    still = options.classes == "places"
    scene = Scene(
        size=options.size,
        frames=1 if still else 32 if options.frames is None else options.frames,
        classes={"horizontal": HORIZONTAL, "vertical": VERTICAL, "all": ALL, "places": PLACES}[options.classes],
        difficulty=Difficulty.at(options.difficulty),
        wrap=not still,
    )
    things = "pictures" if still else "videos"
    counts = {
        name: count
        for name, count in (("train", options.train), ("val", options.val), ("test", options.test))
        if count != 0
    }
    total = sum(counts.values()) * len(scene.classes)
    print(f"rendering {total} {things} of {len(scene.classes)} classes into {options.out}")

    with Progress("rendering", "rendered") as progress:
        written = write_dataset(
            options.out,
            scene,
            clips_per_class=counts,
            seed=options.seed,
            workers=options.workers,
            progress=progress.show,
        )
    print(f"{written} {things} written, {total - written} were there already")
    # A crop would change where in the picture the actor is.
    rest = "--frames 1 --min-area 1" if still else "--from rendered"
    print(f"next: dualformer train --data {options.out} --size {options.size} --flip off {rest}")
    return 0
