"""The camera: where it stands and how it shakes, and where on its picture things are seen.

Camera axes: x to the right, y downwards, z away from the camera, in metres. The picture is square; its pixels count
from its upper left corner.

Shape legend: T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NEAREST = 0.15
"""Metres: what comes nearer is drawn as if it were as far."""


@dataclass(frozen=True)
class Camera:
    """A view of a world, and how it moves over time."""

    place: np.ndarray
    """3: metres, in the world."""
    axes: np.ndarray
    """3 × 3: rows are the camera's x, y, z in the world."""
    focal: float
    """Pixels."""
    centre: np.ndarray
    """2: pixels, where its axis meets the picture."""
    shift: np.ndarray
    """T × 2 pixels by which the picture is displaced."""
    zoom: np.ndarray
    """T: factor about the middle of the picture."""
    roll: np.ndarray
    """T: radians, clockwise about the middle."""
    size: int
    """Side of the picture in pixels."""

    def seen(self, points: np.ndarray) -> np.ndarray:
        """… × 3 metres in the world, seen from the camera."""
        away = points - self.place
        away = away @ self.axes.T
        away[..., 2] = np.maximum(away[..., 2], NEAREST)
        return away

    def project(self, seen: np.ndarray) -> np.ndarray:
        """… × 2 pixels of … × 3 metres as the camera sees them, if it does not move."""
        return seen[..., :2] * (self.focal / seen[..., 2:]) + self.centre

    def moved(self, pixels: np.ndarray) -> np.ndarray:
        """T × … × 2 pixels in the moving picture."""
        middle = self.size / 2
        spare = (1,) * (pixels.ndim - 2)
        cos, sin = (np.reshape(f(self.roll) * self.zoom, (-1, *spare)) for f in (np.cos, np.sin))
        away = pixels - middle
        turned = np.stack((cos * away[..., 0] - sin * away[..., 1], sin * away[..., 0] + cos * away[..., 1]), axis=-1)
        return turned + middle + self.shift.reshape(-1, *spare, 2)

    @property
    def horizon(self) -> float:
        """Row of the picture, pixels, at which a floor without end ends."""
        down = self.axes[2, 1]
        return float(self.centre[1] + self.focal * down / max(math.sqrt(1 - down * down), 1e-3))

    @property
    def is_still(self) -> bool:
        return not (np.any(self.shift) or np.any(self.roll) or np.any(self.zoom != 1))


def look_at(place: np.ndarray, target: np.ndarray) -> np.ndarray:
    """3 × 3: axes of an upright camera at ``place`` whose axis goes through ``target``."""
    forwards = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forwards, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    return np.stack((right, np.cross(forwards, right), forwards))


def to_and_fro(frames: int, rng: np.random.Generator, slowest: float = 1.5) -> np.ndarray:
    """T, -1 to 1: smooth, ``slowest`` to 6 cycles a clip."""
    cycles, phase = rng.uniform(slowest, 6, 3), rng.uniform(0, 2 * np.pi, 3)
    weight = rng.dirichlet((1, 1, 1))
    time = np.arange(frames)[:, None] / frames
    return (weight * np.sin(2 * np.pi * cycles * time + phase)).sum(1)


def draw_azimuth(around: float, partner: bool, rng: np.random.Generator) -> float:
    """Radians, 0 is +z: from before or from the side, or in a share ``around`` of all draws from anywhere.

    Two people are seen from the side in most clips, so that both are seen."""
    free = rng.uniform(0, 2 * np.pi)
    side = rng.choice((-1, 1)) * np.pi / 2 + rng.normal(0, 0.25)
    before = rng.normal(0, 0.25)
    draws = rng.random(2)
    if partner:
        return float(free if draws[0] < 0.4 * around else side)
    return float(free if draws[0] < around else side if draws[1] < 0.67 else before)


def draw_camera(
    points: np.ndarray,
    *,
    size: int,
    frames: int,
    azimuth: float,
    around: float,
    shake: float,
    smallest: float,
    largest: float,
    rng: np.random.Generator,
) -> Camera:
    """A camera that sees the ``points`` (N × 3 metres, of those who matter) in a part of the picture.

    It stands in the direction ``azimuth`` (radians, 0 is +z), at eye level, or with ``around`` up to 1 at any height.
    ``shake`` is the largest displacement as a part of the picture. They fill a part of the picture's side from
    ``smallest`` to ``largest``.
    """
    low, high = points.min(0), points.max(0)
    target = (low + high) / 2
    anywhere = rng.choice((rng.uniform(-12, 25), rng.uniform(15, 55)))
    lifted = math.radians(rng.uniform(-8, 8) if rng.random() > around else anywhere)
    distance = float(np.exp(rng.uniform(math.log(2.6), math.log(2.6 + 5 * max(around, 0.4)))))
    direction = np.array((
        math.sin(azimuth) * math.cos(lifted), math.sin(lifted), math.cos(azimuth) * math.cos(lifted)
    ))  # fmt: skip
    place = target + distance * direction
    place[1] = max(place[1], 0.25)
    camera = Camera(
        place, look_at(place, target), 1.0, np.zeros(2), np.zeros((frames, 2)), np.ones(frames), np.zeros(frames), size
    )
    flat = camera.project(camera.seen(points))
    extent = float(np.max(flat.max(0) - flat.min(0)))
    share = rng.uniform(smallest, largest)
    focal = size * share / max(extent, 1e-3)
    middle = (flat.max(0) + flat.min(0)) / 2 * focal
    spare = max(0.0, 1 - share) * size / 2
    centre = size / 2 - middle + rng.uniform(-1, 1, 2) * spare * 0.8
    reach = shake * size
    return Camera(
        place,
        camera.axes,
        focal,
        centre,
        np.stack([reach * to_and_fro(frames, rng) for _ in range(2)], axis=-1),
        1 + shake * to_and_fro(frames, rng),
        0.7 * shake * to_and_fro(frames, rng) + (rng.normal(0, 0.05) if shake else 0.0),
        size,
    )
