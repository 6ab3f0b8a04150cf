"""The settings of rendered clips: classes, difficulty, and the law of motion. ``rendered_draw`` draws them.

A class says in which direction the actor starts and in how many strokes (1 to 4) it fills the clip. Frames without
their order tell the axis and nothing else: docs/data.md states this law and its limits. With ``wrap=True`` every single
frame shows the actor anywhere alike. Look, background, noise, camera and distractors are drawn independently of it.

Pictures are scenes of one frame, with classes of their own: a name says in which of 3 × 3 places the actor is. Nothing
else depends on the class.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from dualformer.plurals import counted

CELL = 4
"""Side in pixels of the cells of the ground truth."""

_AXES = (("right", "left"), ("down", "up"))
_MOST_STROKES = 4


def _classes(axis: int) -> tuple[str, ...]:
    starts = [(strokes, first) for strokes in range(1, _MOST_STROKES + 1) for first in (0, 1)]
    return tuple("-".join(_AXES[axis][(first + k) % 2] for k in range(strokes)) for strokes, first in starts)


HORIZONTAL = _classes(0)
VERTICAL = _classes(1)
ALL = HORIZONTAL + VERTICAL

PLACES = tuple(
    "-".join(dict.fromkeys((row, column)))
    for row in ("top", "centre", "bottom")
    for column in ("left", "centre", "right")
)
"""Row by row: top-left, top-centre, …, centre-left, centre, …"""


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """The difficulty of clips. Lengths are fractions of the frame's side. The defaults are the easiest."""

    background: float = 0.0
    """0 a flat colour; up to 1/3 a gradient fades in, then soft blotches, from 1/2 fine grain and sharp patches."""
    texture: float = 0.0
    """Strength of the pattern on the actor, 0 to 1."""
    contrast: float = 0.6
    """Difference of brightness between actor and background, of the whole range, 0.05 to 0.7."""
    dark: float = 0.0
    """Share of clips in which the actor is darker than the background instead of brighter."""
    colour: float = 0.0
    """Strength of random colours, 0 (grey) to 1."""
    smallest: float = 0.2
    """Smallest diameter of an actor."""
    largest: float = 0.3
    """Largest diameter of an actor."""
    distractors: int = 0
    """Most distractors in a clip, 0 to 3; the number is drawn from 0 to this. Smaller and fainter than the actor."""
    drift: float = 0.0
    """Longest way of a distractor over the clip, at constant velocity in a random direction; half of them stay put."""
    shake: float = 0.0
    """Largest displacement of the whole view (background, actor, distractors together) by a shaking camera."""
    noise: float = 0.0
    """Standard deviation of the noise of every pixel and frame, in levels of 255."""
    flicker: float = 0.0
    """Standard deviation of the brightness of whole frames, relative."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("background", 0, 1), ("texture", 0, 1), ("contrast", 0.05, 0.7), ("dark", 0, 1), ("colour", 0, 1),
            ("smallest", 0.1, 0.4), ("largest", 0.1, 0.4), ("distractors", 0, 3), ("drift", 0, 0.5), ("shake", 0, 0.1),
            ("noise", 0, 64), ("flicker", 0, 0.3),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"Difficulty.{name} is {value}; it must lie between {low} and {high}")
        if self.smallest > self.largest:
            raise ValueError(f"Difficulty.smallest is {self.smallest}, more than largest ({self.largest})")

    @classmethod
    def at(cls, level: float) -> Difficulty:
        """Returns all settings at a level from 0, a bright actor on flat background, to 1, all of them hard."""
        if not 0 <= level <= 1:
            raise ValueError(f"the level of difficulty is {level}; it must lie between 0 and 1")
        return cls(
            background=level,
            texture=level,
            contrast=0.6 - 0.38 * level,
            dark=0.5 * level,
            colour=level,
            smallest=0.2 - 0.06 * level,
            distractors=round(3 * level),
            drift=0.15 * level,
            shake=0.04 * level,
            noise=10.0 * level,
            flicker=0.05 * level,
        )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The settings that all clips of a data set share."""

    size: int = 64
    """Side of the square frame in pixels, a multiple of 4, 32 or more."""
    frames: int = 32
    """Frames of a clip, an even number, 16 or more; 1 for pictures."""
    fps: int = 16
    """Frames per second written into video files."""
    classes: tuple[str, ...] = HORIZONTAL
    """Class names, from ``ALL`` or, for pictures, from ``PLACES``; a label is an index into them."""
    difficulty: Difficulty = Difficulty()
    wrap: bool = False
    """Whether the actor leaves at one edge and comes back at the opposite one, instead of staying inside the frame."""

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % CELL:
            raise ValueError(f"Scene.size is {self.size}; it must be a multiple of {CELL} and at least 32")
        if not self.is_still and (self.frames < 16 or self.frames % 2):
            raise ValueError(f"Scene.frames is {self.frames}; it must be even and at least 16, or 1 for pictures")
        if self.fps < 1:
            raise ValueError(f"Scene.fps is {self.fps}; it must be at least 1")
        known = PLACES if self.is_still else ALL
        unknown = [name for name in self.classes if name not in known]
        if unknown or not self.classes or len(set(self.classes)) < len(self.classes):
            what = f"the unknown class {unknown[0]!r}" if unknown else "no class, or one twice"
            raise ValueError(f"Scene.classes has {what}; {counted(self.frames, 'frame')} can be of {', '.join(known)}")

    @property
    def is_still(self) -> bool:
        """Whether it is of pictures."""
        return self.frames == 1

    def plain(self) -> dict:
        """Returns the scene as values for JSON."""
        return {**asdict(self), "classes": list(self.classes)}


@dataclass(frozen=True, kw_only=True)
class MotionClass:
    """The motion that a class name stands for."""

    vertical: bool
    forward: bool
    """Whether the first stroke goes right or down."""
    strokes: int

    @classmethod
    def of(cls, name: str) -> MotionClass:
        directions = name.split("-")
        return cls(
            vertical=directions[0] in _AXES[1], forward=directions[0] in ("right", "down"), strokes=len(directions)
        )


def path_positions(motion: MotionClass, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Returns T positions along the path, in the order of the frames, in units of one step out of T over the path.

    Even and odd frames each visit 0, 2, 4 … T-2 once, and one of the two kinds is half a unit further on. That is a
    compromise: evenly spaced frames would want a whole unit for one stroke, none for two; half of one is never off by
    more than half a unit or so, and gives all numbers of strokes the same places, whether all frames are seen or every
    second. Turns vary by ±10 % of a stroke; they only decide which place is whose.
    """
    turns = np.arange(motion.strokes + 1) / motion.strokes
    turns[1:-1] += rng.uniform(-0.1, 0.1, motion.strokes - 1) / motion.strokes
    time = (np.arange(frames) + 0.5) / frames
    stroke = np.searchsorted(turns, time) - 1
    progress = (time - turns[stroke]) / (turns[stroke + 1] - turns[stroke])
    progress = np.where((stroke % 2 == 0) == motion.forward, progress, 1 - progress)
    places = np.empty(frames)
    for parity in (0, 1):
        places[parity::2][np.argsort(progress[parity::2], kind="stable")] = np.arange(0, frames, 2)
    # Which kind of frames is further on is free: the smoother motion.
    both = np.stack((places, places))
    both[0, 0::2] += 0.5
    both[1, 1::2] += 0.5
    return both[np.argmin(np.square(np.diff(both, 2)).sum(1))]


def actor_path(
    places: np.ndarray, motion: MotionClass, scene: Scene, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Returns T × 2 (x, y) pixels: the actor's centre at each of the ``path_positions``.

    All of the actor stays in the frame, or with ``scene.wrap`` lies anywhere, to be taken modulo the frame.

    The path covers 30 to 60 % of the side (less where a large actor leaves less room), never steeper than 45°. Along it
    the speed is uniform in half of the clips and varies smoothly in the others.
    """
    frames, size = len(places), scene.size
    speed = rng.uniform(-0.2, 0.2, 4) * (rng.random() < 0.5)
    margin = radius + scene.difficulty.shake * size + 1
    room = size - 2 * margin
    extent = min(size * rng.uniform(0.3, 0.6), room)
    slope, bend = rng.uniform(-0.55, 0.55), rng.uniform(-0.4, 0.4)
    start = rng.uniform(0.25, 1.25)

    def at(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phase = 2 * np.pi * (places + start) / frames
        # The integral of 1 + speed × (cos p, sin p, cos 2p, sin 2p), which stays above 0.2.
        waves = (np.sin(phase), 1 - np.cos(phase), np.sin(2 * phase) / 2, (1 - np.cos(2 * phase)) / 2)
        share = (phase + sum(a * wave for a, wave in zip(speed, waves, strict=True))) / (2 * np.pi)
        return extent * share, extent * (slope * share + bend * share * (1 - share))

    _, everywhere = at(np.arange(frames))
    low, high = everywhere.min(), everywhere.max()
    free = np.array((size, size) if scene.wrap else (room - extent, room - (high - low)))
    corner = margin + rng.uniform(0, 1, 2) * free - (0, low)
    along, across = at(places)
    way = np.stack((along, across), axis=-1) + corner
    return way[:, ::-1] if motion.vertical else way


def still_place(place: str, scene: Scene, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Draws 1 × 2 (x, y) pixels: the actor's centre, uniform in one of 3 × 3 equal places, all of it in the frame."""
    row, column = divmod(PLACES.index(place), 3)
    margin = radius + 1
    low = np.maximum(np.array((column, row)) * scene.size / 3, margin)
    high = np.minimum(np.array((column + 1, row + 1)) * scene.size / 3, scene.size - margin)
    return rng.uniform(low, high)[None]


def camera_shake(reach: float, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draws T × 2 (x, y) pixels by which the camera displaces the view: smooth, in half pixels, at most ``reach``."""
    cycles = rng.uniform(1.5, 6, (1, 3, 2))
    phase = rng.uniform(0, 2 * np.pi, (1, 3, 2))
    weight = rng.dirichlet((1, 1, 1), 2).T
    time = np.arange(frames)[:, None, None] / frames
    smooth = (weight * np.sin(2 * np.pi * cycles * time + phase)).sum(1)
    return np.trunc(2 * reach * smooth) / 2
