"""Draws cones with round ends: which of them is in front at each pixel, and what colour it has there.

A cone is the area that a disc covers which goes from one end to the other while its radius changes. All cones of all
people and frames are drawn at once, in rectangles of a few sizes; each pixel keeps the nearest, and only that one is
shaded. Fast cones have soft edges across their way, as in a picture of long exposure.

Shape legend: C cones, T frames, S 2 edges of a frame's time, K = C × T cones in frames, M pixels that are covered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dualformer.datasets.rendered_people.bodies import Palette
from dualformer.datasets.rendered_people.camera import NEAREST, Camera
from dualformer.datasets.rendered_people.textures import PATTERN, patterns

_SIDES = np.array([6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 512, 1024])
"""Sides of rectangles in pixels; others are drawn in the next larger one."""
_NEAR, _DEPTHS = 0.1, 1 << 24
_SOLID = 1 << 60


class Pieces(NamedTuple):
    """The cones of all people."""

    ends: np.ndarray
    """2 × C × T × S × 3 metres, as the camera sees them."""
    radii: np.ndarray
    """C × 2 metres."""
    materials: np.ndarray
    """C × 2: up to ``split`` and from there."""
    split: np.ndarray
    """C."""
    part: np.ndarray
    """C."""
    person: np.ndarray
    """C, from 1."""
    hair: np.ndarray
    """C × T × 3: where hair grows from, as the camera sees it; zero where none does."""


class Light(NamedTuple):
    """Of a distant lamp, and from everywhere."""

    direction: np.ndarray
    """3, towards the lamp, as the camera sees it."""
    ambient: float
    """Part of the light that comes from everywhere, 0 to 1."""


class Layer(NamedTuple):
    """What is seen of people, at the pixels that they cover."""

    at: np.ndarray
    """M: number of the pixel among T × H × W."""
    cover: np.ndarray
    """M, 0 to 1."""
    colour: np.ndarray
    """M × 3, 0 to 1."""
    person: np.ndarray
    """M, from 1."""
    part: np.ndarray
    """M, from 1."""
    velocity: np.ndarray
    """M × 2, pixels a frame."""


class _Flat(NamedTuple):
    """Cones in frames as they lie in the picture; arrays of K."""

    frame: np.ndarray
    start: np.ndarray
    """K × 2 pixels."""
    way: np.ndarray
    """K × 2 pixels from one end to the other."""
    radius: np.ndarray
    """K × 2 pixels."""
    depth: np.ndarray
    """K × 2 metres."""
    velocity: np.ndarray
    """2 × K × 2 pixels a frame, of both ends."""
    soft: np.ndarray
    """Breadth of the edge, pixels."""
    strength: np.ndarray
    """Most that it covers."""
    cone: np.ndarray
    bulge: np.ndarray
    """Metres by which the middle is nearer than the edge."""


def _flatten(pieces: Pieces, camera: Camera, shutter: float) -> _Flat:
    _, cones, frames = pieces.ends.shape[:3]
    still = camera.project(pieces.ends)
    velocity = (still[:, :, :, 1] - still[:, :, :, 0]).reshape(2, -1, 2)
    middle = still.mean(3)  # 2 C T 2
    if not camera.is_still:
        middle = camera.moved(middle.transpose(2, 0, 1, 3)).transpose(1, 2, 0, 3)
    depth = pieces.ends[..., 2].mean(3).reshape(2, -1).T
    zoom = np.tile(camera.zoom, cones)[:, None]
    radius = np.repeat(pieces.radii, frames, axis=0) * camera.focal / depth * zoom
    start, end = middle.reshape(2, -1, 2)
    way = end - start
    length = np.maximum(np.linalg.norm(way, axis=1), 1e-3)
    across = np.stack((-way[:, 1], way[:, 0]), axis=-1) / length[:, None]
    mean = velocity.mean(0)
    speed = np.where(length > radius.mean(1), np.abs((mean * across).sum(1)), np.linalg.norm(mean, axis=1))
    blur = np.minimum(shutter * speed, 3 * radius.mean(1) + 2)
    soft = np.sqrt(1 + blur**2)
    strength = np.minimum(1.0, 2 * (radius.max(1) + 0.5) / np.maximum(soft, 1e-6))
    frame = np.tile(np.arange(frames), cones)
    return _Flat(
        frame,
        start,
        way,
        radius,
        depth,
        velocity,
        soft,
        strength,
        np.repeat(np.arange(cones), frames),
        np.repeat(pieces.radii.mean(1), frames),
    )


class _Hits(NamedTuple):
    at: np.ndarray
    which: np.ndarray
    cover: np.ndarray
    depth: np.ndarray


def _rectangles(flat: _Flat, size: int) -> list[tuple[np.ndarray, int, int, np.ndarray, np.ndarray]]:
    """Cones by the size of the rectangle that they are drawn in: numbers, height, width, left and top edges."""
    pad = flat.radius.max(1) + flat.soft / 2 + 0.5
    low = np.floor(np.minimum(flat.start, flat.start + flat.way) - pad[:, None]).astype(np.int64)
    high = np.ceil(np.maximum(flat.start, flat.start + flat.way) + pad[:, None]).astype(np.int64)
    low, high = np.maximum(low, 0), np.minimum(high, size)
    sides = high - low
    seen = np.flatnonzero((sides > 0).all(1) & (flat.depth.min(1) > 1.1 * NEAREST) & (flat.radius.max(1) < size / 3))
    # The others would fill the picture.
    classes = np.searchsorted(_SIDES, sides[seen])
    code = classes[:, 0] * len(_SIDES) + classes[:, 1]
    found = []
    for one in np.unique(code).tolist():
        row, column = divmod(one, len(_SIDES))
        width, height = min(int(_SIDES[row]), size), min(int(_SIDES[column]), size)
        which = seen[code == one]
        left, top = (np.minimum(low[which, axis], size - side) for axis, side in ((0, width), (1, height)))
        found.append((which, height, width, left, top))
    return found


def _hits(flat: _Flat, size: int) -> _Hits:
    """Every pixel that a cone covers, cone by cone."""
    f32 = np.float32
    along = (flat.way / np.maximum((flat.way**2).sum(1), 1e-6)[:, None]).astype(f32)
    way = flat.way.astype(f32)
    # What a pixel must be inside of: the cone and half of its soft edge.
    outer = (flat.radius[:, 0] + flat.soft / 2).astype(f32)
    grows = (flat.radius[:, 1] - flat.radius[:, 0]).astype(f32)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for which, height, width, left, top in _rectangles(flat, size):
        x = (left[:, None] + np.arange(width) + 0.5 - flat.start[which, :1]).astype(f32)[:, None, :]
        y = (top[:, None] + np.arange(height) + 0.5 - flat.start[which, 1:]).astype(f32)[:, :, None]
        k = (slice(None), None, None)
        t = x * along[which, 0][k] + y * along[which, 1][k]
        np.clip(t, 0, 1, out=t)
        dx = t * way[which, 0][k]
        np.subtract(x, dx, out=dx)
        dy = t * way[which, 1][k]
        np.subtract(y, dy, out=dy)
        dx *= dx
        dy *= dy
        dx += dy
        np.sqrt(dx, out=dx)
        inside = t * grows[which][k]
        inside += outer[which][k]
        inside -= dx
        inside, t = inside.reshape(-1), t.reshape(-1)
        hit = np.flatnonzero(inside > 0)
        row, place = np.divmod(hit, height * width)
        corner = (flat.frame[which] * size + top) * size + left
        offset = (np.arange(height)[:, None] * size + np.arange(width)).reshape(-1)
        found.append((corner[row] + offset[place], which[row], inside[hit], t[hit]))
    if not found:
        empty = np.zeros(0, dtype=np.int64)
        return _Hits(empty, empty, empty.astype(f32), empty.astype(f32))
    at, which, inside, t = (np.concatenate(column) for column in zip(*found, strict=True))
    sharp, strength, depth = (1 / flat.soft).astype(f32), flat.strength.astype(f32), flat.depth.astype(f32)
    cover = inside * sharp[which]
    np.minimum(cover, 1, out=cover)
    cover *= strength[which]
    # A cone is nearer in its middle than at its edge.
    bulge = (flat.bulge / np.maximum(flat.radius.mean(1), 0.5)).astype(f32)
    inside *= bulge[which]
    deep = t * (depth[:, 1] - depth[:, 0])[which]
    deep += depth[:, 0][which]
    deep -= inside
    return _Hits(at, which, cover, deep)


def draw(pieces: Pieces, palette: Palette, light: Light, camera: Camera, *, shutter: float) -> Layer:
    """Draws the pieces as the camera sees them. ``shutter`` is the part of a frame's time that it is open."""
    frames, size = pieces.ends.shape[2], camera.size
    flat = _flatten(pieces, camera, shutter)
    hits = _hits(flat, size)
    per_metre = (camera.focal / np.maximum(flat.depth.mean(1), _NEAR)).astype(np.float32)
    depth = hits.depth
    near = (np.float32(_DEPTHS) * np.float32(_NEAR) / np.maximum(depth, np.float32(_NEAR))).astype(np.int64)
    solid = hits.cover >= 0.5 * flat.strength.astype(np.float32)[hits.which]
    key = (near << 24) + hits.which + solid * np.int64(_SOLID) + 1
    front = np.zeros(frames * size * size, dtype=np.int64)
    np.maximum.at(front, hits.at, key)
    cover = np.zeros(frames * size * size, dtype=np.float32)
    np.maximum.at(cover, hits.at, hits.cover)
    at = np.flatnonzero(front)
    which = (front[at] & ((1 << 24) - 1)) - 1
    return _shade(at, which, cover[at], flat, pieces, palette, light, size, per_metre)


def _shade(
    at: np.ndarray, which: np.ndarray, cover: np.ndarray, flat: _Flat, pieces: Pieces, palette: Palette, light: Light,
    size: int, per_metre: np.ndarray,
) -> Layer:  # fmt: skip
    f32 = np.float32
    cone = flat.cone[which]
    rows, x = np.divmod(at, size)
    y = rows % size
    square = np.maximum((flat.way**2).sum(1), 1e-6)
    length = np.sqrt(square)
    table = np.stack(
        (
            flat.start[:, 0] - 0.5, flat.start[:, 1] - 0.5, flat.way[:, 0], flat.way[:, 1], 1 / square, length,
            flat.radius[:, 0], flat.radius[:, 1] - flat.radius[:, 0], per_metre,
        ),
        axis=0,
    ).astype(f32)  # fmt: skip
    x0, y0, wx, wy, inverse, long, r0, dr, scale = table[:, which]
    dx, dy = x.astype(f32) - x0, y.astype(f32) - y0
    t = np.clip((dx * wx + dy * wy) * inverse, 0, 1)
    radius = np.maximum(r0 + t * dr, 0.3)
    nx, ny = (dx - t * wx) / radius, (dy - t * wy) / radius
    flat_part = np.minimum(nx * nx + ny * ny, 1)
    nz = -np.sqrt(1 - flat_part)
    lamp = light.direction.astype(f32)
    lit = np.maximum(nx * lamp[0] + ny * lamp[1] + nz * lamp[2], 0)
    lit = f32(light.ambient) + f32(1.15 * (1 - light.ambient)) * lit

    material = pieces.materials[cone, (t >= pieces.split.astype(f32)[cone]).astype(np.int64)]
    head = np.any(pieces.hair[:, 0] != 0, axis=1)[cone]
    if head.any():
        place = np.flatnonzero(head)
        frame = flat.frame[which[place]]
        towards = pieces.hair[cone[place], frame].astype(f32)
        hairy = nx[place] * towards[:, 0] + ny[place] * towards[:, 1] + nz[place] * towards[:, 2] > 0.12
        material[place] = pieces.materials[cone[place], hairy.astype(np.int64)]
    side = (nx * wy - ny * wx) / np.maximum(long, 1)
    scales = palette.scale.astype(f32)
    u = (t * long / scale * scales[material, 0] * PATTERN).astype(np.int64) % PATTERN
    v = ((side + 1.5) * scales[material, 1] * PATTERN).astype(np.int64) % PATTERN
    share = patterns().reshape(-1)[(palette.pattern[material] * PATTERN + u) * PATTERN + v]
    first = palette.first.astype(f32)
    colour = (palette.second.astype(f32) - first)[material]
    colour *= share[:, None]
    colour += first[material]
    colour *= lit[:, None]
    velocity = flat.velocity.astype(f32)
    moved = velocity[0, which]
    moved += t[:, None] * (velocity[1, which] - moved)
    return Layer(at, cover, colour, pieces.person[cone], pieces.part[cone], moved)


def shadow(ends: np.ndarray, radii: np.ndarray, camera: Camera, lamp: np.ndarray, *, coarse: int = 2) -> np.ndarray:
    """T × H × W, 0 to 1: where cones (``ends`` 2 × C × T × 3 metres in the world, ``radii`` C × 2) throw a shadow on
    the floor, from a ``lamp`` in the direction (3, upwards). Found at every ``coarse`` pixels."""
    size, frames = camera.size, ends.shape[2]
    on_floor = ends - lamp * (ends[..., 1:2] / max(float(lamp[1]), 0.2))
    on_floor[..., 1] = 0.0
    seen = camera.seen(on_floor)
    middle = camera.project(seen)
    if not camera.is_still:
        middle = camera.moved(middle.transpose(2, 0, 1, 3)).transpose(1, 2, 0, 3)
    middle = np.clip(middle.reshape(2, -1, 2) / coarse, -2 * size, 3 * size)
    depth = seen[..., 2].reshape(2, -1).T
    # A disc on the floor is seen from the side: flatter than it is broad.
    slope = 0.35 + 0.65 * abs(float(camera.axes[2, 1]))
    radius = np.minimum(np.repeat(radii, frames, axis=0) * camera.focal / depth / coarse * slope, size / 4)
    count = len(radius)
    flat = _Flat(
        np.tile(np.arange(frames), count // frames), middle[0], middle[1] - middle[0], radius, depth,
        np.zeros((2, count, 2)), 1.2 + 0.5 * radius.mean(1), np.ones(count), np.arange(count), np.zeros(count),
    )  # fmt: skip
    small = size // coarse
    hits = _hits(flat, small)
    dark = np.zeros(frames * small * small, dtype=np.float32)
    np.maximum.at(dark, hits.at, hits.cover)
    return dark.reshape(frames, small, small).repeat(coarse, axis=1).repeat(coarse, axis=2)
