"""Long rendered films: many actions one behind the other with pauses between, and where each begins and ends."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dualformer.datasets.rendered import RENDERER, claim_folder, run_tasks
from dualformer.datasets.rendered_draw import render
from dualformer.datasets.rendered_scene import Scene
from dualformer.files import write_csv
from dualformer.segment import Segment
from dualformer.video.encode import write_video

SEGMENTS = "segments.csv"
"""The file of the actions of all films."""
_HEADER = ("path", "start", "end", "label", "split")
_ACTION = (0.75, 1.5)
"""The fewest and the most frames of an action, of the scene's."""
_REST = (0.5, 2.0)
"""Seconds that an actor rests before its action, and after it."""


class Shot(NamedTuple):
    """One actor before one background: it rests, acts, and rests."""

    label: int
    before: int
    """Frames before the action."""
    action: int
    """Frames of the action."""
    after: int
    """Frames after it."""

    @property
    def frames(self) -> int:
        return self.before + self.action + self.after


def plan_film(scene: Scene, seconds: float, seed: tuple[int, ...]) -> tuple[Shot, ...]:
    """Returns the shots of the film that ``seed`` names, always the same, as many as fill ``seconds``.

    Classes are drawn evenly. An action lasts three quarters to one and a half times as long as a clip of the ``scene``,
    a rest half a second to two.
    """
    rng = np.random.default_rng((*seed, 0))
    shots: list[Shot] = []
    while sum(shot.frames for shot in shots) < round(seconds * scene.fps):
        before, after = (round(rest * scene.fps) for rest in rng.uniform(*_REST, 2))
        action = max(16, 2 * round(scene.frames * rng.uniform(*_ACTION) / 2))
        shots.append(Shot(int(rng.integers(len(scene.classes))), before, action, after))
    return tuple(shots)


def film_segments(scene: Scene, shots: tuple[Shot, ...]) -> tuple[Segment, ...]:
    """Returns the actions of a film with their times in seconds."""
    found: list[Segment] = []
    frame = 0
    for shot in shots:
        start = frame + shot.before
        times = start / scene.fps, (start + shot.action) / scene.fps
        found.append(Segment(label=scene.classes[shot.label], start=times[0], end=times[1]))
        frame += shot.frames
    return tuple(found)


def write_films(
    out: Path | str,
    scene: Scene,
    *,
    films: Mapping[str, int],
    seconds: float,
    seed: int,
    crf: int = 20,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Writes ``out/<split>/film_0000.mp4`` …, each of about ``seconds``, and ``out/segments.csv``: path, start, end
    (seconds), label and split of every action.

    ``films`` has the number of films of each split. Files that are there are kept, so that an interrupted call can be
    repeated; other arguments are those of `write_dataset`. Returns how many films it wrote. Raises ``ValueError`` for
    a scene of pictures, for no films or seconds, and for a folder that holds anything else.
    """
    out = Path(out)
    if scene.is_still or not films or min(films.values()) < 1 or not seconds > 0:
        raise ValueError(f"films show videos for more than 0 s, 1 or more a split: not {dict(films)} of {seconds:g} s")
    made_from = {
        "renderer": RENDERER,
        "seed": seed,
        "crf": crf,
        "films": dict(films),
        "seconds": seconds,
        "scene": scene.plain(),
    }
    claim_folder(out, made_from)
    tasks: list[tuple[Path, tuple[int, ...]]] = []
    rows: list[tuple[str, ...]] = []
    for split, count in films.items():
        (out / split).mkdir(exist_ok=True)
        for number in range(count):
            name, own = f"{split}/film_{number:04d}.mp4", (seed, zlib.crc32(split.encode()), number)
            tasks.append((out / name, own))
            for segment in film_segments(scene, plan_film(scene, seconds, own)):
                rows.append((name, f"{segment.start:.4f}", f"{segment.end:.4f}", segment.label, split))
    write_csv(out / SEGMENTS, _HEADER, rows)
    missing = [task for task in tasks if not task[0].exists()]
    write = partial(_write_film, scene, seconds, crf)
    for done, _ in enumerate(run_tasks(write, missing, workers), start=len(tasks) - len(missing) + 1):
        if progress:
            progress(done, len(tasks))
    return len(missing)


def _write_film(scene: Scene, seconds: float, crf: int, task: tuple[Path, tuple[int, ...]]) -> None:
    path, seed = task
    write_video(path, _film_frames(scene, seconds, seed), fps=scene.fps, crf=crf)


def _film_frames(scene: Scene, seconds: float, seed: tuple[int, ...]) -> Iterator[np.ndarray]:
    for number, shot in enumerate(plan_film(scene, seconds, seed)):
        acted = replace(scene, frames=shot.action)
        yield from render(acted, shot.label, (*seed, 1, number), still=(shot.before, shot.after)).frames
