"""Clips of rendered people as a data set: as many as wanted and as hard as wanted, with the truth of what they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
from dualformer.datasets.rendered_people.scene import PeopleScene


class PeopleClips(Dataset[dict[str, torch.Tensor]]):
    """``length`` fresh clips in memory. Clip ``i`` depends on ``(seed, i)`` alone: not on workers, order, or the past.

    An item is a dict of tensors: ``clip`` (T H W 3, uint8), ``label`` (int64 scalar), and the truth of
    ``RenderedPeople`` under its names: ``moving``, ``distractors``, ``velocity``, ``person``, ``part``, ``action``,
    ``actions``, ``targets``, ``joints``. ``difficulty`` overrides the scene's: a constant, or a function of ``i``, such
    as a schedule from plain to hard (of module level if workers are spawned). Raises ``ValueError`` for a length below
    1.
    """

    def __init__(
        self,
        scene: PeopleScene,
        length: int,
        *,
        seed: int,
        difficulty: PeopleDifficulty | Callable[[int], PeopleDifficulty] | None = None,
    ) -> None:
        if length < 1:
            raise ValueError(f"length is {length}; it must be at least 1")
        self.scene = scene
        self.length = length
        self.seed = seed
        self.difficulty = difficulty

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if not 0 <= i < self.length:
            raise IndexError(f"clip {i} is outside 0 to {self.length - 1}")
        scene = self.scene
        if self.difficulty is not None:
            difficulty = self.difficulty if isinstance(self.difficulty, PeopleDifficulty) else self.difficulty(i)
            scene = replace(scene, difficulty=difficulty)
        label = int(np.random.default_rng((self.seed, i, 0)).integers(len(scene.classes)))
        clip = scene.render(label, (self.seed, i, 1))
        truth = ("moving", "distractors", "velocity", "person", "part", "action", "actions", "targets", "joints")
        return {
            "clip": torch.from_numpy(clip.frames),
            "label": torch.tensor(label),
            **{name: torch.from_numpy(getattr(clip, name)) for name in truth},
        }
