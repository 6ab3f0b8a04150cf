"""``dualformer render``: a labelled set of rendered videos or pictures, as files in one folder per class, or long films
of many actions and a file that says when each happens."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dualformer.cli.shared_options import arguments, must

if TYPE_CHECKING:
    from dualformer.datasets.rendered import Scene
    from dualformer.datasets.rendered_people.scene import PeopleScene
    from dualformer.paper.relation_clips import Relations


@dataclass(frozen=True, kw_only=True)
class Options:
    out: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUT")]
    """Folder to make: train/, val/ and test/ with one folder per class below each, or with films."""
    train: int | None = None
    """Files of each class to train on, or with --seconds films; 0 leaves the split out, here and below (default: 40,
    films 8)."""
    val: int | None = None
    """To validate on (default: 10, films 2)."""
    test: int | None = None
    """To test on (default: 25, films 2)."""
    seconds: float | None = None
    """Make films of this length, of many actions one behind the other with pauses between, and segments.csv, which says
    when each begins and ends. Of motions only."""
    classes: Literal["horizontal", "vertical", "all", "people", "hands", "places", "local", "global", "both"] = (
        "horizontal"
    )
    """Motions: 8 along one axis, 8 along the other, or all 16. Or people, or hands close up, who do four things round
    and round: 6 classes, which are the orders of these. Or places: pictures (PNG) of 9 classes, which say where
    in the frame the actor is. Or a task of the local x global bench, of 2 classes: local asks for the direction of a
    fine, brief gesture, global whether two coarse, slow ones far apart have the same, both the same of one of each."""
    difficulty: float = 0.5
    """0 is one bright actor on a flat background, 1 is textured, faint, noisy and shaken. The bench has one only."""
    size: int | None = None
    """Side of the square frame in pixels (default: 64, of people and hands 112)."""
    frames: int | None = None
    """Frames of a video (default: 32, of people and hands 48, of the bench 16)."""
    motions: str | None = None
    """With --classes people: an npz file of captured motions (joint positions) that drive half of the actions for which
    it has some."""
    actions: tuple[str, ...] = ()
    """With --classes people or hands: names of actions or gestures, such as punch kick hug; a video shows one of them,
    and they are the classes. A wrong name lists them all."""
    seed: int = 0
    """Another one gives other videos."""
    workers: int = 0
    """Processes that render; 0 renders in this one. Worth it for thousands of videos."""

    def __post_init__(self) -> None:
        must("be 0 or more", self, "seed", "train", "val", "test", "workers")
        must("be at least 1", self, "size", "frames")
        if self.classes == "places" and self.frames not in (None, 1):
            raise ValueError(f"--frames {self.frames} does not go with --classes places, which makes pictures")
        if self.is_bench and self.difficulty != 0.5:
            raise ValueError(f"--difficulty does nothing with --classes {self.classes}: leave it out")
        if self.motions and self.classes != "people":
            raise ValueError(f"--motions drive people, not --classes {self.classes}: leave it out")
        if self.actions and self.classes not in ("people", "hands"):
            raise ValueError(f"--actions are of people or hands, not of --classes {self.classes}: leave it out")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"--seconds must be more than 0, not {self.seconds:g}")
        if self.seconds is not None and self.classes not in ("horizontal", "vertical", "all"):
            raise ValueError(f"--seconds makes films of motions, not of --classes {self.classes}: leave it out")

    @property
    def is_bench(self) -> bool:
        return self.classes in ("local", "global", "both")


def run(options: Options) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.datasets.rendered import write_dataset

    counts = _counts(options)
    if options.seconds is not None:
        return _films(options, counts)
    still = options.classes == "places"
    scene = _scene(options)
    things = "pictures" if still else "videos"
    total = sum(counts.values()) * len(scene.classes)
    print(f"rendering {total} {things} of {len(scene.classes)} classes into {options.out}")

    with Progress("rendering", "rendered") as progress:
        written = write_dataset(
            options.out, scene, clips_per_class=counts, progress=progress.show, **arguments(options, "seed", "workers")
        )
    print(f"{written} {things} written, {total - written} were there already")
    data = shlex.quote(str(options.out))
    if options.classes in ("people", "hands"):  # what is proposed fits them as it fits real videos
        print(f"next: dualformer train --data {data}")
        return 0
    # A crop would change where in the picture the actor is, and mirroring what moves to the right.
    rest = "--frames 1 --min-area 1" if still else "--stride 1 --min-area 1" if options.is_bench else "--from rendered"
    print(f"next: dualformer train --data {data} --size {scene.size} --flip off {rest}")
    return 0


def _counts(options: Options) -> dict[str, int]:
    """Returns how many files of each class, or films, each split has; without those that have none."""
    defaults = {"train": 40, "val": 10, "test": 25} if options.seconds is None else {"train": 8, "val": 2, "test": 2}
    given = arguments(options, "train", "val", "test")
    counts = {name: default if given[name] is None else given[name] for name, default in defaults.items()}
    return {name: count for name, count in counts.items() if count != 0}


def _films(options: Options, counts: dict[str, int]) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.datasets.rendered import Scene
    from dualformer.datasets.rendered_films import SEGMENTS, write_films

    scene, total = _scene(options), sum(counts.values())
    assert isinstance(scene, Scene) and options.seconds is not None
    print(f"rendering {total} films of {options.seconds:g} s into {options.out}")
    with Progress("rendering", "rendered") as progress:
        written = write_films(
            options.out, scene, films=counts, progress=progress.show, **arguments(options, "seconds", "seed", "workers")
        )
    print(f"{written} films written, {total - written} were there already")
    data = shlex.quote(str(Path(options.out) / SEGMENTS))
    print(f"next: dualformer train --data {data} --head temporal --size {scene.size} --flip off --from rendered")
    return 0


def _scene(options: Options) -> Scene | Relations | PeopleScene:
    from dualformer.datasets.rendered import ALL, HORIZONTAL, PLACES, VERTICAL, Difficulty, Scene
    from dualformer.paper.relation_clips import Relations

    if options.classes == "people" or options.classes == "hands":
        return _people(options)
    size = options.size or 64
    if options.classes == "local" or options.classes == "global" or options.classes == "both":
        return Relations(task=options.classes, size=size, frames=options.frames or 16)
    still = options.classes == "places"
    return Scene(
        size=size,
        frames=1 if still else 32 if options.frames is None else options.frames,
        classes={"horizontal": HORIZONTAL, "vertical": VERTICAL, "all": ALL, "places": PLACES}[options.classes],
        difficulty=Difficulty.at(options.difficulty),
        wrap=not still,
    )


def _people(options: Options) -> PeopleScene:
    from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
    from dualformer.datasets.rendered_people.motions import open_motions
    from dualformer.datasets.rendered_people.scene import PeopleScene

    if options.motions:
        open_motions(options.motions)  # before a folder is made
    return PeopleScene(
        size=options.size or 112,
        frames=options.frames or 48,
        fps=12,
        view="hands" if options.classes == "hands" else "bodies",
        classes=options.actions,
        difficulty=PeopleDifficulty.at(options.difficulty),
        motions=options.motions,
    )
