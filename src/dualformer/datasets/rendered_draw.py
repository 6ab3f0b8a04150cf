"""Draws the clips of ``rendered_scene``: background, distractors, actor, camera; and their ground truth.

Shape legend: T frames, H W pixels, h w cells of ``CELL`` × ``CELL`` pixels, P the side of a patch around a sprite.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dualformer.datasets.rendered_scene import (
    CELL,
    Difficulty,
    MotionClass,
    Scene,
    actor_path,
    camera_shake,
    path_positions,
    still_place,
)


@dataclass(frozen=True)
class Rendered:
    """A rendered clip with its ground truth."""

    frames: np.ndarray
    """T H W 3, uint8, RGB."""
    label: int
    """Index into the scene's classes."""
    moving: np.ndarray
    """T h w, float32: the share of each cell that the actor covers."""
    distractors: np.ndarray
    """T h w, float32: the share of each cell in which a distractor is seen."""
    velocity: np.ndarray
    """T h w 2, float32: pixels per frame, x to the right and y downwards, of what covers the cell: the mean over actor
    and distractors by coverage, 0 where neither is. Central differences between frames, one-sided at the clip's ends;
    so it is near 0 at a turn. The camera's shake is not in it."""


class _Sprite(NamedTuple):
    """An actor or a distractor."""

    shape: str
    radius: float
    angle: float
    colour: np.ndarray
    """3, in levels of 255."""
    waves: np.ndarray
    """2 × 3: of two waves the frequency in x and y (radians per pixel) and the phase, in the sprite's coordinates."""
    texture: float
    """Amplitude of the waves in levels of 255."""


def render(
    scene: Scene,
    label: int,
    seed: int | Sequence[int],
    *,
    times: Sequence[int] | np.ndarray | None = None,
    still: tuple[int, int] = (0, 0),
) -> Rendered:
    """Renders the clip of class ``scene.classes[label]`` that ``seed`` names, always the same one.

    A picture is a clip of one frame, in which nothing moves and no camera shakes.

    ``times`` are the frames to draw, for instance every second one; ``None`` draws all. They are the same frames as in
    the whole clip, but velocities are per frame drawn. ``still``: frames before and after the scene's, in which the
    actor rests where it begins and ends, and all else goes on; ``times`` then count from the first of them. Raises
    ``ValueError`` for a label or a time outside the scene.
    """
    if not 0 <= label < len(scene.classes):
        raise ValueError(f"label {label} is outside the scene's {len(scene.classes)} classes")
    length = scene.frames + sum(still)
    taken = np.arange(length) if times is None else np.asarray(times, dtype=np.int64)
    least = 1 if scene.is_still else 2
    if taken.ndim != 1 or len(taken) < least or taken.min() < 0 or taken.max() >= length:
        raise ValueError(f"times must be {least} or more frame numbers from 0 to {length - 1}")
    if scene.is_still:
        scene = replace(scene, difficulty=replace(scene.difficulty, shake=0.0))
    name, difficulty, size = scene.classes[label], scene.difficulty, scene.size
    # Two generators: the order, which is the class, must not shift the draws of anything else.
    look = np.random.default_rng(seed)
    order = look.spawn(1)[0]

    radius = size * look.uniform(difficulty.smallest, difficulty.largest) / 2
    reach = difficulty.shake * size
    shake = camera_shake(reach, length, look)
    if scene.is_still:
        way = still_place(name, scene, radius, look)
    else:
        motion = MotionClass.of(name)
        way = actor_path(path_positions(motion, scene.frames, order), motion, scene, radius, look)
        way = np.pad(way, (still, (0, 0)), mode="edge")
    base, step = _brightness(look, difficulty)
    actor = _random_sprite(look, difficulty, radius, base + step)
    distractors = _distractors(look, scene, length, radius, base, step)
    view = _camera_view(*_background(look, difficulty, size, base), shake[taken], size)

    seen: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    for sprite, where in (*distractors, (actor, way)):
        seen.append(_draw_sprite(view, seen, sprite, (where + shake)[taken]))
        shown = where[taken]
        steps.append((np.gradient(shown, axis=0) if len(shown) > 1 else np.zeros_like(shown)).astype(np.float32))
    return Rendered(_expose(look, view, difficulty, taken, length), label, *_ground_truth(seen, steps))


def _brightness(rng: np.random.Generator, difficulty: Difficulty) -> tuple[float, float]:
    """Draws the brightness of the background and the difference of the actor's, from 0 to 1."""
    base = rng.uniform(0.12, 0.88 - difficulty.contrast)
    return (1 - base, -difficulty.contrast) if rng.random() < difficulty.dark else (base, difficulty.contrast)


def _colour(rng: np.random.Generator, brightness: float, strength: float) -> np.ndarray:
    """3, in levels of 255."""
    chroma = rng.uniform(-1, 1, 3)
    return 255 * (brightness + 0.3 * strength * (chroma - chroma.mean()))


def _random_sprite(rng: np.random.Generator, difficulty: Difficulty, radius: float, brightness: float) -> _Sprite:
    frequency = 2 * np.pi / (radius * rng.uniform(0.5, 1.2, 2))
    direction, phase = rng.uniform(0, np.pi, 2), rng.uniform(0, 2 * np.pi, 2)
    return _Sprite(
        shape=tuple(_DISTANCES)[rng.integers(len(_DISTANCES))],
        radius=radius,
        angle=rng.uniform(0, 2 * np.pi),
        colour=_colour(rng, brightness, difficulty.colour),
        waves=np.stack((frequency * np.cos(direction), frequency * np.sin(direction), phase), axis=-1),
        texture=255 * 0.1 * difficulty.texture,
    )


def _distractors(
    rng: np.random.Generator, scene: Scene, frames: int, radius: float, base: float, step: float
) -> list[tuple[_Sprite, np.ndarray]]:
    """Draws distractors and the place of each over ``frames`` (T × 2, pixels), all of it inside the frame."""
    difficulty, size = scene.difficulty, scene.size
    found = []
    for _ in range(rng.integers(difficulty.distractors + 1)):
        small = radius * rng.uniform(0.4, 0.6)
        margin = small + difficulty.shake * size + 1
        start = rng.uniform(margin, size - margin, 2)
        angle = rng.uniform(0, 2 * np.pi)
        length = size * difficulty.drift * rng.uniform(0.3, 1) * (rng.random() < 0.5)
        end = np.clip(start + length * np.array((math.cos(angle), math.sin(angle))), margin, size - margin)
        fainter = step * rng.uniform(0.4, 0.7) * rng.choice((-0.5, 1))
        sprite = _random_sprite(rng, difficulty, small, base + fainter)
        found.append((sprite, start + (end - start) * np.linspace(0, 1, frames)[:, None]))
    return found


@lru_cache(maxsize=64)
def _spread(side: int, cells: int) -> np.ndarray:
    """side × (cells + 1): interpolates between grid points with a smooth step."""
    at = np.arange(side) * (cells / side)
    left = at.astype(np.int64)
    part = at - left
    part = part * part * (3 - 2 * part)
    matrix = np.zeros((side, cells + 1), dtype=np.float32)
    matrix[np.arange(side), left] = 1 - part
    matrix[np.arange(side), left + 1] = part
    return matrix


def _value_noise(rng: np.random.Generator, side: int, cells: int, channels: int) -> np.ndarray:
    """channels × side × side, -1 to 1."""
    spread = _spread(side, cells)
    grid = rng.uniform(-1, 1, (channels, cells + 1, cells + 1)).astype(np.float32)
    return spread @ grid @ spread.T


def _background(rng: np.random.Generator, difficulty: Difficulty, size: int, base: float) -> tuple[np.ndarray, int]:
    """Draws a canvas (S × S × 3, levels of 255) with a border for the shake; returns it and its samples per pixel."""
    level = difficulty.background
    density = 2 if difficulty.shake else 1
    side = density * (size + 2 * math.ceil(difficulty.shake * size))
    flat = _colour(rng, base, difficulty.colour).astype(np.float32)
    if not level:
        return np.broadcast_to(flat, (side, side, 3)), density
    blotches = 0.15 * min(1.0, max(0.0, (level - 0.2) / 0.4))
    grain = 0.1 * max(0.0, (level - 0.5) / 0.5)
    patches = 0.15 * max(0.0, (level - 0.5) / 0.5)
    # Brightness, and three channels that colour it.
    canvas = np.zeros((4, side, side), dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    line = 0.12 * min(1.0, 3 * level) * np.linspace(-1, 1, side, dtype=np.float32)
    canvas[0] = math.cos(angle) * line + math.sin(angle) * line[:, None]
    for cells, strength in ((3, blotches), (6, blotches / 2), (12, grain), (24, grain)):
        if strength:
            # Fine detail is grey, as in photographs, and costs a quarter so.
            channels = 4 if cells < 12 else 1
            canvas[:channels] += strength * _value_noise(rng, side, cells, channels)
    if patches:
        edges = np.clip(8 * _value_noise(rng, side, int(rng.integers(3, 7)), 1), -1, 1)
        canvas += (patches * rng.uniform(-1, 1, (4, 1, 1))).astype(np.float32) * edges
    mix = np.array(((1, 1, 1), *(0.5 * difficulty.colour * np.eye(3))), dtype=np.float32)
    return flat + (255 * canvas.reshape(4, -1).T @ mix).reshape(side, side, 3), density


def _camera_view(canvas: np.ndarray, density: int, shake: np.ndarray, size: int) -> np.ndarray:
    """Returns T H W 3, float32: the view of the camera on the canvas."""
    view = np.empty((len(shake), size, size, 3), dtype=np.float32)
    # One canvas of whole pixels for each fraction of a pixel, so that a frame is a block of it.
    canvases = [[np.ascontiguousarray(canvas[y::density, x::density]) for x in range(density)] for y in range(density)]
    border = (canvas.shape[0] - density * size) // 2
    for frame, (x, y) in zip(view, border - np.rint(density * shake).astype(np.int64), strict=True):
        (left, right), (top, bottom) = divmod(int(x), density), divmod(int(y), density)
        frame[:] = canvases[bottom][right][top : top + size, left : left + size]
    return view


_DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "disc": lambda u, v, r: np.sqrt(u * u + v * v) - r,
    "ring": lambda u, v, r: np.abs(np.sqrt(u * u + v * v) - 0.72 * r) - 0.28 * r,
    "square": lambda u, v, r: np.maximum(np.abs(u), np.abs(v)) - r / math.sqrt(2),
    "triangle": lambda u, v, r: np.maximum(math.sqrt(0.75) * np.abs(u) - v / 2, v) - r / 2,
    "bar": lambda u, v, r: np.maximum(np.abs(u) - 0.92 * r, np.abs(v) - 0.38 * r),
    "cross": lambda u, v, r: np.minimum(
        np.maximum(np.abs(u) - 0.95 * r, np.abs(v) - 0.3 * r), np.maximum(np.abs(v) - 0.95 * r, np.abs(u) - 0.3 * r)
    ),
}
"""Distance in pixels from the outline of a shape inside the circle of radius r around 0, negative inside."""


def _draw_sprite(view: np.ndarray, seen: list[np.ndarray], sprite: _Sprite, centres: np.ndarray) -> np.ndarray:
    """Draws a sprite into ``view`` (T H W 3), in front of what is ``seen`` so far; returns its cover (T H W), 0 to 1.

    What is beyond an edge is drawn at the opposite edge.
    """
    count, size = view.shape[:2]
    side = min(size, math.ceil(2 * sprite.radius) + 3)
    corners = np.floor(centres - sprite.radius - 1).astype(np.int64)
    # T 2 P: pixel centres, seen from the sprite's centre.
    near = (np.arange(side) + 0.5 + (corners - centres)[..., None]).astype(np.float32)
    x, y = near[:, 0, None, :], near[:, 1, :, None]
    cos, sin = math.cos(sprite.angle), math.sin(sprite.angle)
    u, v = cos * x + sin * y, cos * y - sin * x
    cover = np.clip(0.5 - _DISTANCES[sprite.shape](u, v, sprite.radius), 0, 1)
    colour = np.broadcast_to(sprite.colour.astype(np.float32), (count, 1, 1, 3))
    if sprite.texture:
        (a, b, c), (d, e, f) = sprite.waves.tolist()
        colour = colour + sprite.texture * (np.sin(a * u + b * v + c) + np.sin(d * u + e * v + f))[..., None]
    whole = np.zeros((count, size, size), dtype=np.float32)
    across = np.arange(side)
    for t, (left, top) in enumerate((corners % size).tolist()):
        if max(left, top) <= size - side:
            # The common case: slices are several times faster than the indices that wrap around.
            place = t, slice(top, top + side), slice(left, left + side)
        else:
            place = t, ((top + across) % size)[:, None], (left + across) % size
        patch = view[place]
        patch += cover[t, ..., None] * (colour[t] - patch)
        view[place] = patch
        for earlier in seen:
            earlier[place] *= 1 - cover[t]
        whole[place] = cover[t]
    return whole


def _expose(
    rng: np.random.Generator, view: np.ndarray, difficulty: Difficulty, taken: np.ndarray, frames: int
) -> np.ndarray:
    """Returns T H W 3, uint8, with flicker and noise, drawn for all ``frames``, of which ``taken`` are seen."""
    if difficulty.flicker:
        gain = 1 + difficulty.flicker * rng.standard_normal(frames)
        view *= gain[taken].astype(np.float32)[:, None, None, None]
    if difficulty.noise:
        # Frames read one bank of noise from random places: a tenth of the time of fresh noise for every pixel.
        length = view[0].size
        bank = difficulty.noise * rng.standard_normal(2 * length, dtype=np.float32)
        for frame, start in zip(view, rng.integers(0, length, frames)[taken].tolist(), strict=True):
            frame += bank[start : start + length].reshape(frame.shape)
    view += 0.5
    return np.clip(view, 0, 255, out=view).astype(np.uint8)


def _ground_truth(seen: list[np.ndarray], steps: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns moving, distractors, velocity (see ``Rendered``) of the visible sprites and their steps, actor last."""
    count, size, _ = seen[0].shape
    cells = size // CELL
    pool = np.repeat(np.eye(cells, dtype=np.float32), CELL, axis=0) / (CELL * CELL)
    shares = [(cover @ pool).reshape(count, cells, CELL, cells).sum(2) for cover in seen]
    distractors = np.zeros_like(shares[-1])
    for share in shares[:-1]:
        distractors += share
    flow = np.zeros((*distractors.shape, 2), dtype=np.float32)
    for share, step in zip(shares, steps, strict=True):
        flow += share[..., None] * step[:, None, None]
    covered = distractors + shares[-1]
    return shares[-1], distractors, flow / np.where(covered > 0, covered, 1)[..., None]
