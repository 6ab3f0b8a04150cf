"""Synthetic videos: rendered clips whose classes differ only in motion (see ``rendered_scene``).

``write_dataset`` writes H.264 files in one folder per class; ``RenderedClips`` renders in memory, with the ground truth
of what moves where. Scenes of one frame are images, whose classes differ only in the place of the actor; their files
are PNG. ``write_dataset`` takes other scenes (``OwnScene``), too.
"""

import json
import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from dualformer.datasets.rendered_draw import Rendered, render
from dualformer.datasets.rendered_scene import ALL, HORIZONTAL, PLACES, VERTICAL, Difficulty, Scene
from dualformer.files import write_json
from dualformer.video.encode import write_image, write_video

__all__ = [
    "ALL",
    "HORIZONTAL",
    "PLACES",
    "VERTICAL",
    "Difficulty",
    "OwnScene",
    "Rendered",
    "RenderedClips",
    "Scene",
    "render",
    "write_dataset",
]

RENDERER = 2
"""The version, raised when a seed gives other pixels: a folder is not completed by another version."""

MANIFEST = "rendered.json"


class RenderedClips(Dataset[dict[str, torch.Tensor]]):
    """``length`` fresh clips in memory. Clip ``i`` depends on ``(seed, i)`` alone: not on workers, order, or the past.

    An item is a dict of tensors: ``clip`` (T H W 3, uint8), ``label`` (int64 scalar), and the truth of ``Rendered``:
    ``moving`` and ``distractors`` (T h w, float32), ``velocity`` (T h w 2, float32, pixels per frame of the item).

    ``frames`` is the scene's number of frames (``None``) or half of it, which takes every second frame from the first
    or the second on; fewer would tell the class without their order (see ``rendered_scene``). ``difficulty`` overrides
    the scene's: a constant, or a function of ``i``, such as a schedule from plain to hard (of module level if workers
    are spawned). Raises ``ValueError`` for another number of frames.
    """

    def __init__(
        self,
        scene: Scene,
        length: int,
        *,
        seed: int,
        frames: int | None = None,
        difficulty: Difficulty | Callable[[int], Difficulty] | None = None,
    ) -> None:
        if length < 1:
            raise ValueError(f"length is {length}; it must be at least 1")
        if frames not in (None, scene.frames, scene.frames // 2):
            raise ValueError(f"frames is {frames}; it must be the scene's {scene.frames} or half of them")
        self.scene = scene
        self.length = length
        self.seed = seed
        self.frames = frames or scene.frames
        self.difficulty = difficulty

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if not 0 <= i < self.length:
            raise IndexError(f"clip {i} is outside 0 to {self.length - 1}")
        scene = self.scene
        if self.difficulty is not None:
            difficulty = self.difficulty if isinstance(self.difficulty, Difficulty) else self.difficulty(i)
            scene = replace(scene, difficulty=difficulty)
        choice = np.random.default_rng((self.seed, i, 0))
        label = int(choice.integers(len(scene.classes)))
        stride = scene.frames // self.frames
        times = np.arange(choice.integers(stride), scene.frames, stride)
        clip = render(scene, label, (self.seed, i, 1), times=times)
        truth = {name: torch.from_numpy(getattr(clip, name)) for name in ("moving", "distractors", "velocity")}
        return {"clip": torch.from_numpy(clip.frames), "label": torch.tensor(label), **truth}


class HasFrames(Protocol):
    @property
    def frames(self) -> np.ndarray:
        """T H W 3, uint8, RGB."""
        ...


class OwnScene(Protocol):
    """A scene of another kind, which renders its own clips. It must be picklable."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def fps(self) -> int: ...

    def render(self, label: int, seed: Sequence[int]) -> HasFrames:
        """Renders the clip of class ``classes[label]`` for ``seed``."""
        ...

    def plain(self) -> dict:
        """Returns the scene as values for JSON."""
        ...


def write_dataset(
    out: Path | str,
    scene: Scene | OwnScene,
    *,
    clips_per_class: Mapping[str, int],
    seed: int,
    crf: int = 20,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Writes ``out/<split>/<class>/<class>_0000.mp4`` (``.png`` for pictures) …, and ``out/rendered.json``, which says
    what they are made from.

    ``clips_per_class`` has the number of clips of every class for each split, such as ``{"train": 100, "val": 25}``; no
    two clips of any splits share a seed. ``crf`` is H.264's quality, lower is better. ``workers`` processes share the
    work, 0 does it in this one. ``progress(done, total)`` is called as files come. Files already there are kept, so an
    interrupted call can be repeated. Returns how many files it wrote. Raises ``ValueError`` for a folder that holds
    anything else.
    """
    out = Path(out)
    for split, count in clips_per_class.items():
        if count < 1 or not split or Path(split).name != split:
            raise ValueError(f"clips_per_class has {split!r}: {count}; a split is a folder name with at least 1 clip")
    if not clips_per_class:
        raise ValueError("clips_per_class is empty; name a split, such as {'train': 100}")
    settings = {"renderer": RENDERER, "seed": seed, "crf": crf, "clips_per_class": dict(clips_per_class)}
    claim_folder(out, settings | {"scene": scene.plain()})
    tasks = list(_tasks(out, scene, clips_per_class, seed))
    missing = [task for task in tasks if not task[0].exists()]
    done = len(tasks) - len(missing)
    for path in {path.parent for path, _, _ in missing}:
        path.mkdir(parents=True, exist_ok=True)
    if progress and done:
        progress(done, len(tasks))
    for count, _ in enumerate(run_tasks(partial(_render_file, scene, crf), missing, workers), start=done + 1):
        if progress:
            progress(count, len(tasks))
    return len(missing)


_RenderTask = tuple[Path, int, tuple[int, ...]]
"""The file, its label, its seed."""
_Task = TypeVar("_Task")


def _tasks(out: Path, scene: Scene | OwnScene, clips_per_class: Mapping[str, int], seed: int) -> Iterator[_RenderTask]:
    suffix = ".png" if isinstance(scene, Scene) and scene.is_still else ".mp4"
    for split, count in clips_per_class.items():
        # A number that belongs to the name: neither the order of splits nor another split changes a split's clips.
        number = zlib.crc32(split.encode())
        for i in range(count):
            for label, name in enumerate(scene.classes):
                yield out / split / name / f"{name}_{i:04d}{suffix}", label, (seed, number, label, i)


def _render_file(scene: Scene | OwnScene, crf: int, task: _RenderTask) -> None:
    path, label, seed = task
    frames = (render(scene, label, seed) if isinstance(scene, Scene) else scene.render(label, seed)).frames
    if path.suffix == ".png":
        write_image(path, frames[0])
    else:
        write_video(path, frames, fps=scene.fps, crf=crf)


def run_tasks(write: Callable[[_Task], None], tasks: list[_Task], workers: int) -> Iterator[None]:
    """Calls ``write`` for each task, in ``workers`` processes or in this one, and yields after each."""
    if workers < 1 or len(tasks) < 2:
        yield from map(write, tasks)
        return
    # Spawned, not forked: a fork of a process in which torch already runs threads can hang.
    with ProcessPoolExecutor(min(workers, len(tasks)), multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(write, tasks, chunksize=8 if len(tasks) > 64 * workers else 1)


def claim_folder(out: Path, manifest: dict) -> None:
    """Makes the folder of a data set, or checks that ``out`` is this one. Raises ``ValueError`` with what differs."""
    path = out / MANIFEST
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON ({error}); delete the folder or choose another") from error
        differing = [key for key in manifest if there.get(key) != manifest[key]]
        if differing:
            what = " and ".join(differing)
            raise ValueError(f"{out} holds rendered videos with another {what}; delete it or choose another folder")
        return
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and has no {MANIFEST}; choose a new or empty folder")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, manifest, ensure_ascii=True)
