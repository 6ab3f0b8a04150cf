"""Walls, floors and skies behind people, as a still picture that the camera moves over.

Shape legend: T frames, H W pixels, D samples along the side of the still picture.
"""

from __future__ import annotations

import math

import numpy as np

from dualformer.datasets.rendered_people.bodies import colour
from dualformer.datasets.rendered_people.camera import Camera
from dualformer.datasets.rendered_people.textures import PICTURE, pictures

_DENSITY = 1.5
"""Samples per pixel where the camera moves."""


def _surface(
    across: np.ndarray, along: np.ndarray, strength: float, colourful: float, rng: np.random.Generator
) -> np.ndarray:
    """… × 3, 0 to 1: a random picture at places given in its samples."""
    base = colour(rng, 0.8 * colourful, 0.15, 0.85).astype(np.float32)
    contrast, tint = strength * rng.uniform(0.04, 0.26), colourful * rng.uniform(0.3, 1)
    picture = pictures()[rng.integers(len(pictures()))]
    if not strength:
        return np.broadcast_to(base, (*np.broadcast_shapes(across.shape, along.shape), 3))
    place = along.astype(np.int32) & (PICTURE - 1)
    place *= PICTURE
    place += across.astype(np.int32) & (PICTURE - 1)
    mix = contrast * np.array(((1, 1, 1), (tint, 0, 0), (0, tint, 0), (0, 0, tint)), dtype=np.float32)
    return (picture[place.reshape(-1)] @ mix + base).reshape(*place.shape, 3)


def backdrop(
    camera: Camera, *, level: float, colourful: float, floor_dark: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Returns a still picture, D × D × 3, float32, 0 to 1, and its samples per pixel; the middles of it and of the
    camera's picture are the same.

    ``level`` 0 is a flat colour; the higher, the stronger the pictures on wall and floor. ``floor_dark`` darkens the
    floor towards the wall.
    """
    size = camera.size
    density = 1.0 if camera.is_still else _DENSITY
    reach = 0 if camera.is_still else int(np.abs(camera.shift).max() + size * 0.12 + 2)
    side = int(density * (size + 2 * reach))
    at = ((np.arange(side, dtype=np.float32) + 0.5) / density - reach).astype(np.float32)
    x, y = at[None, :], at[:, None]
    scale = float(np.exp(rng.uniform(math.log(0.5), math.log(2.5)))) * 112 / size
    turn = rng.normal(0, 0.05) if rng.random() < 0.7 else rng.uniform(-math.pi, math.pi)
    offset = rng.uniform(0, PICTURE, 2)
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    horizon = camera.horizon
    base = horizon + (size - horizon) * rng.uniform(0.05, 0.4) if horizon < size else horizon
    if not level:
        return np.ascontiguousarray(_surface(x, y, 0.0, colourful, rng)), density
    low = int(np.searchsorted(at, base + 1)) if horizon < size else side
    high = int(np.searchsorted(at, base - 1)) if horizon < size else side
    picture = np.empty((side, side, 3), dtype=np.float32)
    shift = 40 * PICTURE
    upper = y[:low]
    picture[:low] = _surface(
        cos * x - sin * upper + (offset[0] + shift), sin * x + cos * upper + (offset[1] + shift), level, colourful, rng
    )
    if high < side:
        floor = _floor(camera, x, at[high:], level=level, colourful=colourful, dark=floor_dark, rng=rng)
        edge = np.clip((at[high:low] - base) / 1.5 + 0.5, 0, 1)[:, None, None].astype(np.float32)
        picture[high:low] += edge * (floor[: low - high] - picture[high:low])
        picture[low:] = floor[low - high :]
    if level > 0.3 and rng.random() < 0.5:  # light falls from one side
        slope = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
        picture *= (1 + slope[0] * (x / size - 0.5) + slope[1] * (y / size - 0.5))[..., None]
    return picture, density


def _floor(
    camera: Camera, x: np.ndarray, rows: np.ndarray, *, level: float, colourful: float, dark: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """rows × D × 3: a floor in perspective, at columns ``x`` (1 × D) and rows of the picture, pixels."""
    height = max(float(camera.place[1]), 0.2)
    away = np.minimum(camera.focal * height / np.maximum(rows - camera.horizon, 2.0), 30.0).astype(np.float32)
    grain = float(np.exp(rng.uniform(math.log(15), math.log(90))))
    heading = rng.uniform(0, 2 * math.pi)
    sideways = (x - np.float32(camera.centre[0])) * (away / np.float32(camera.focal))[:, None]
    cos, sin = grain * math.cos(heading), grain * math.sin(heading)
    far, shift = away[:, None], 40 * PICTURE
    floor = _surface(cos * sideways - sin * far + shift, sin * sideways + cos * far + shift, level, colourful, rng)
    # Fine grain far away would only flicker.
    clear = np.clip(3.0 / (grain * away / camera.focal), 0, 1)[:, None, None].astype(np.float32)
    mean = floor[::7, ::7].mean((0, 1))
    fade = (1 - dark * np.clip((away - 2) / 12, 0, 1)).astype(np.float32)[:, None, None]
    floor -= mean
    floor *= clear * fade
    floor += mean * fade
    return floor


def filmed(picture: np.ndarray, density: float, camera: Camera, frames: int) -> np.ndarray:
    """T × H × W × 3, uint8: the still picture as the moving camera sees it."""
    size = camera.size
    levels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    if camera.is_still:
        return np.repeat(levels[None], frames, axis=0)
    side = len(levels)
    packed = np.zeros((side, side, 4), dtype=np.uint8)
    packed[..., :3] = levels
    packed = packed.reshape(-1).view(np.uint32)
    at = np.arange(size, dtype=np.float32) + 0.5 - size / 2
    cos = (np.cos(camera.roll) / camera.zoom * density).astype(np.float32)
    sin = (np.sin(camera.roll) / camera.zoom * density).astype(np.float32)
    back = -camera.shift
    start_x = (cos * back[:, 0] + sin * back[:, 1] + side / 2).astype(np.float32)
    start_y = (cos * back[:, 1] - sin * back[:, 0] + side / 2).astype(np.float32)
    # T H W, from the inverse turn of a pixel's place.
    column = (cos[:, None] * at + start_x[:, None])[:, None, :] + (sin[:, None] * at)[:, :, None]
    row = (start_y[:, None] - sin[:, None] * at)[:, None, :] + (cos[:, None] * at)[:, :, None]
    np.clip(column, 0, side - 1, out=column)
    np.clip(row, 0, side - 1, out=row)
    number = row.astype(np.int32)
    number *= side
    number += column.astype(np.int32)
    return packed[number].view(np.uint8).reshape(frames, size, size, 4)[..., :3]
