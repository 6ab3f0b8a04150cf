"""The local × global bench: rendered clips that are told apart by fine detail, by what lies far apart, or by both.

Every clip shows two round patches of stripes that never move from their places. Once in the clip the stripes of each
drift through its still outline by exactly one wavelength, to the right or to the left. The first to drift is the *cue*,
the later one, elsewhere, the *gesture*. The tasks ask whether the gesture drifted left or right (``local``), or whether
both drifted the same way (``global``, where both are large, coarse and slow, and ``both``, where the gesture is small,
fine and brief: the very clips of ``local`` with another question).

docs/relations.md describes the tasks and their difficulties, and which shortcuts the construction rules out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

RelationTask = Literal["local", "global", "both"]
TASKS: tuple[RelationTask, ...] = ("local", "global", "both")

_COARSE_RADIUS, _COARSE_WAVELENGTH, _COARSE_DURATION = 11.0, 16.0, 6
"""Of the cue, and in ``global`` of the gesture: pixels, pixels, frames."""
_LARGEST_RADIUS = 12.0
_ROUNDING = 1e-9
_MARGIN = 1.0
CELL = 4
"""Side in pixels of the cells in which the truth of what drifts is given."""
_TILT = 0.35
"""Largest angle of a drift with the horizontal, radians."""


@dataclass(frozen=True, kw_only=True)
class Relations:
    """The scene that all clips of a task share. Lengths are pixels, times are frames."""

    task: RelationTask = "both"
    size: int = 64
    """Side of the square frame."""
    frames: int = 16
    fps: int = 16
    """Frames per second written into video files."""
    radius: tuple[float, float] = (2.5, 7.0)
    """Least and largest radius of the fine gesture."""
    wavelength: float = 5.0
    """Wavelength of its stripes: how fine it is."""
    duration: int = 4
    """Frames in which it drifts through its wavelength: how brief it is."""
    distance: tuple[float, float] = (24.0, 60.0)
    """Least and largest distance between the centres of cue and gesture."""
    gap: tuple[int, int] = (0, 4)
    """Fewest and most frames between the cue's end and the gesture's begin."""
    contrast: float = 0.35
    """Largest amplitude of the stripes, of the whole range of brightness; each patch draws its own, from 2/3 of it."""
    noise: float = 32.0
    """Standard deviation of the noise of every pixel and frame, in levels of 255."""

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"Relations.task is {self.task!r}; it must be one of {', '.join(TASKS)}")
        if self.size < 48 or self.size % CELL:
            raise ValueError(f"Relations.size is {self.size}; it must be a multiple of {CELL} and at least 48")
        smallest, largest = self.radius
        if not 2 <= smallest <= largest <= _LARGEST_RADIUS:
            raise ValueError(
                f"Relations.radius is {self.radius}; it must be two rising numbers from 2 to {_LARGEST_RADIUS:g}"
            )
        low, high = self.distance
        if not self.reach - _ROUNDING <= low <= high:
            raise ValueError(
                f"Relations.distance is {self.distance}; the patches overlap below {self.reach:g}, so it must be two "
                "rising numbers above that"
            )
        # The farthest that two patches can be: in opposite corners.
        most = math.hypot(*2 * [self.size - self.gesture(1.0).radius - _COARSE_RADIUS - 2 * _MARGIN])
        if low > most - 2 + _ROUNDING:
            raise ValueError(f"Relations.distance is at least {low:g}, and there is room for {most:.0f} only")
        if not 0 <= self.gap[0] <= self.gap[1]:
            raise ValueError(f"Relations.gap is {self.gap}; it must be two rising whole numbers from 0 on")
        if (needed := _COARSE_DURATION + self.gap[0] + self.gesture(1.0).duration + 1) > self.frames:
            raise ValueError(f"Relations.frames is {self.frames}; cue, gap and gesture take {needed}")
        for name, low, high in (
            ("wavelength", 2, 32), ("duration", 3, 12), ("contrast", 0.02, 0.45), ("noise", 0, 64)
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"Relations.{name} is {getattr(self, name)}; it must lie between {low} and {high}")

    @property
    def classes(self) -> tuple[str, ...]:
        return ("left", "right") if self.task == "local" else ("opposite", "same")

    def gesture(self, largeness: float) -> Patch:
        """Returns the gesture's patch, from the smallest there is at ``largeness`` 0 to the largest at 1."""
        smallest, largest = self.radius
        radius = smallest + largeness * (largest - smallest)
        return CUE if self.task == "global" else Patch(radius, self.wavelength, self.duration)

    @property
    def reach(self) -> float:
        """Distance in pixels between the centres of the cue and the largest gesture where they touch."""
        return _COARSE_RADIUS + self.gesture(1.0).radius + _MARGIN

    @property
    def largest_radius(self) -> float:
        """Largest radius of a gesture for which size and distance leave room."""
        low = self.distance[0]
        room = self.size - _COARSE_RADIUS - 2 * _MARGIN - (low + 2) / math.sqrt(2)
        return min(_LARGEST_RADIUS, low - _COARSE_RADIUS - _MARGIN, room)

    @property
    def longest_duration(self) -> int:
        """Longest duration of a gesture for which the frames leave room."""
        return min(12, self.frames - 1 - _COARSE_DURATION - self.gap[0])

    def label(self, cue: int, gesture: int) -> int:
        """Returns the class of a clip by the directions of cue and gesture, 0 left and 1 right."""
        return gesture if self.task == "local" else int(cue == gesture)

    def render(self, label: int, seed: Sequence[int]) -> RelationClip:
        """Renders a clip of class ``classes[label]`` from ``seed``, which draws what the class leaves open as well."""
        if not 0 <= label < 2:
            raise ValueError(f"label {label} is outside the scene's 2 classes")
        drawn = int(np.random.default_rng((*seed, 1)).integers(2))
        cue, gesture = (drawn, label) if self.task == "local" else (drawn, drawn if label else 1 - drawn)
        return render_relation(self, cue, gesture, seed)

    def plain(self) -> dict:
        """Returns the scene as values that JSON knows."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class Patch(NamedTuple):
    """A round patch of stripes."""

    radius: float
    wavelength: float
    duration: int


CUE = Patch(_COARSE_RADIUS, _COARSE_WAVELENGTH, _COARSE_DURATION)


class RelationDifficulty(NamedTuple):
    """How hard a clip is."""

    distance: float
    """Pixels between the centres of cue and gesture."""
    gap: int
    """Frames from the cue's end to the gesture's begin."""
    radius: float
    """Of the gesture, pixels."""


class Layout(NamedTuple):
    """Where and when patches drift in a clip, cue first."""

    patches: tuple[Patch, Patch]
    where: np.ndarray
    """2 × 2: (x, y) of the centres, pixels."""
    begins: tuple[int, int]
    """The last frames in which they stand still before they drift."""

    @property
    def difficulty(self) -> RelationDifficulty:
        (x, y), (cue, gesture) = self.where[1] - self.where[0], self.begins
        return RelationDifficulty(math.hypot(x, y), gesture - cue - CUE.duration, self.patches[1].radius)


class RelationClip(NamedTuple):
    """A clip and its ground truth."""

    frames: np.ndarray
    """T H W 3, uint8, RGB."""
    label: int
    cue: int
    """Which way the cue drifts: 0 left, 1 right."""
    gesture: int
    difficulty: RelationDifficulty
    drifts: np.ndarray
    """T h w 2, float32: of cue and gesture, the share of each cell of `CELL` × `CELL` pixels that it covers, while it
    drifts: positive to the right, negative to the left. 0 while it stands."""


def render_relation(scene: Relations, cue: int, gesture: int, seed: int | Sequence[int]) -> RelationClip:
    """Renders the clip of ``seed``, in which the cue drifts to the right if ``cue`` is 1 and to the left if it is 0,
    and the gesture likewise. The same arguments always give the same clip; directions change nothing else of it.

    Raises ``ValueError`` for directions that are neither 0 nor 1.
    """
    if cue not in (0, 1) or gesture not in (0, 1):
        raise ValueError(f"a direction is 0 (left) or 1 (right), not {cue} and {gesture}")
    rng = np.random.default_rng(seed)
    layout = draw_layout(scene, rng)
    base = rng.uniform(0.45, 0.55)
    view = np.full((scene.frames, scene.size, scene.size), 255 * base, dtype=np.float32)
    cells = scene.size // CELL
    drifts = np.zeros((scene.frames, cells, cells, 2), dtype=np.float32)
    directions = 2 * cue - 1, 2 * gesture - 1
    for number, (patch, centre, begin, direction) in enumerate(zip(*layout, directions, strict=True)):
        cover = _draw(view, scene, patch, centre, begin, direction, rng)
        share = cover.reshape(cells, CELL, cells, CELL).mean((1, 3))
        drifts[begin : begin + patch.duration + 1, :, :, number] = direction * share
    if scene.noise:
        view += scene.noise * rng.standard_normal(view.shape, dtype=np.float32)
    view += 0.5
    grey = np.clip(view, 0, 255, out=view).astype(np.uint8)
    return RelationClip(
        frames=np.repeat(grey[..., None], 3, axis=-1),
        label=scene.label(cue, gesture),
        cue=cue,
        gesture=gesture,
        difficulty=layout.difficulty,
        drifts=drifts,
    )


def draw_layout(scene: Relations, rng: np.random.Generator) -> Layout:
    """Draws places and times at random; the first thing that `render_relation` does with its generator."""
    patches = CUE, scene.gesture(rng.random())
    return Layout(patches, _places(scene, rng), _times(scene, patches, rng))


def _places(scene: Relations, rng: np.random.Generator) -> np.ndarray:
    """Draws the centres of cue and gesture, 2 × 2 (x, y) pixels, uniformly over all that are as far apart and leave
    room in the frame for the largest gesture; so how large it is has nothing to do with where it is."""
    margin = np.array([[patch.radius + _MARGIN] for patch in (CUE, scene.gesture(1.0))])
    low, high = scene.distance
    while True:
        drawn = rng.uniform(margin, scene.size - margin, (64, 2, 2))
        apart = np.hypot(*(drawn[:, 1] - drawn[:, 0]).T)
        if len(fitting := drawn[(apart >= low) & (apart <= high)]):
            return fitting[0]


def _times(scene: Relations, patches: tuple[Patch, Patch], rng: np.random.Generator) -> tuple[int, int]:
    """Draws the last frames in which cue and gesture stand still before they drift."""
    cue, gesture = patches
    room = scene.frames - 1 - cue.duration - gesture.duration
    gap = int(rng.integers(scene.gap[0], min(scene.gap[1], room) + 1))
    begin = int(rng.integers(room - gap + 1))
    return begin, begin + cue.duration + gap


def _draw(
    view: np.ndarray,
    scene: Relations,
    patch: Patch,
    centre: np.ndarray,
    begin: int,
    direction: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Adds a patch to ``view`` (T H W, levels of 255); returns what it covers of every pixel (H W)."""
    amplitude = 255 * scene.contrast * rng.uniform(2 / 3, 1)
    tilt, phase = rng.uniform(-_TILT, _TILT), rng.uniform(0, 2 * np.pi)
    pixels = np.arange(scene.size, dtype=np.float32) + 0.5
    x, y = pixels - np.float32(centre[0]), (pixels - np.float32(centre[1]))[:, None]
    cover = np.clip(patch.radius + 0.5 - np.hypot(x, y), 0, 1)
    stripes = (2 * np.pi / patch.wavelength) * (math.cos(tilt) * x + math.sin(tilt) * y) + phase
    # Steps of a drift, 0 before it and `duration` after it, where the stripes are back where they were.
    steps = np.clip(np.arange(scene.frames) - begin, 0, patch.duration)
    shift = (direction * 2 * np.pi / patch.duration) * steps.astype(np.float32)
    view += (amplitude * cover).astype(np.float32) * np.cos(stripes - shift[:, None, None]).astype(np.float32)
    return cover


class RelationClips(Dataset[dict[str, torch.Tensor]]):
    """``length`` fresh clips in memory. Clip ``i`` depends on ``(seed, i)`` alone.

    An item is a dict of tensors: ``clip`` (T H W 3, uint8), ``label`` (int64), and the truth of what drifts where,
    ``drifts`` (T h w 2), as in `RelationClip`.

    ``curriculum`` says for every clip how easy it is and how likely its cue drifts to the right; without it all clips
    are as hard as ``scene`` says, and either direction is as likely.
    """

    def __init__(
        self, scene: Relations, length: int, *, seed: int, curriculum: RelationCurriculum | None = None
    ) -> None:
        if length < 1:
            raise ValueError(f"length is {length}; it must be at least 1")
        self.scene, self.length, self.seed, self.curriculum = scene, length, seed, curriculum

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if not 0 <= i < self.length:
            raise IndexError(f"clip {i} is outside 0 to {self.length - 1}")
        scene, lean = self.curriculum(i, self.scene) if self.curriculum else (self.scene, 0.5)
        choice = np.random.default_rng((self.seed, i, 0))
        cue, gesture = int(choice.random() < lean), int(choice.integers(2))
        clip = render_relation(scene, cue, gesture, (self.seed, i, 1))
        return {
            "clip": torch.from_numpy(clip.frames),
            "label": torch.tensor(clip.label),
            "drifts": torch.from_numpy(clip.drifts),
        }

    def difficulty(self, i: int) -> RelationDifficulty:
        """Returns how hard clip ``i`` is, without rendering it."""
        return draw_layout(self.scene, np.random.default_rng((self.seed, i, 1))).difficulty


@dataclass(frozen=True)
class RelationCurriculum:
    """A course of ``length`` clips from easy to as hard as the scene says.

    At first the gesture is as large, coarse and slow as the cue, or as the distance leaves room for, so that what sees
    one sees the other, and the cue always drifts to the right, so that the answer to ``both`` and ``global`` follows
    from the gesture alone. Over the first third the cue comes to lean to neither side, and the relation has to be
    found; in ``local``, where there is none to be found, only while the gesture comes to differ from it. Then the
    gesture shrinks, each clip by the same ratio, and the noise grows from a third. The last quarter is as hard as the
    scene.
    """

    length: int

    def __call__(self, i: int, scene: Relations) -> tuple[Relations, float]:
        """Returns the scene of clip ``i``, and the probability that its cue drifts to the right."""
        done = i / self.length
        balance = min(1.0, done / _CUE_BALANCED)
        part = min(1.0, max(0.0, (done - _CUE_BALANCED) / (_HARDEST - _CUE_BALANCED)))

        def shrunk(easy: float, hard: float) -> float:
            return max(easy, hard) ** (1 - part) * hard**part

        easy_radius = min(CUE.radius, scene.largest_radius)
        easy_duration = min(CUE.duration, scene.longest_duration)
        smallest, largest = (shrunk(easy_radius, radius) for radius in scene.radius)
        easier = replace(
            scene,
            radius=(smallest, largest),
            wavelength=shrunk(CUE.wavelength, scene.wavelength),
            duration=round(shrunk(easy_duration, scene.duration)),
            noise=scene.noise * (1 + 2 * part) / 3,
        )
        return easier, 1 - (part if scene.task == "local" else balance) / 2


_CUE_BALANCED, _HARDEST = 1 / 3, 3 / 4
"""Shares of the course after which the cue leans to neither side, and the clips are as hard as the scene."""
