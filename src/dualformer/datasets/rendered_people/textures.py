"""Procedural textures: patterns for clothes and tileable pictures for walls and floors, made once in a process.

Always the same ones; clips differ in which part they take, how large, turned and in which colours.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

PATTERN = 64
"""Side of a pattern in samples."""
PICTURE = 256
"""Side of a picture in samples."""
_SEED = 20_140


def _waves(side: int) -> np.ndarray:
    """side × side: length of the wave vector of each Fourier coefficient."""
    axis = np.fft.fftfreq(side) * side
    return np.sqrt(axis[:, None] ** 2 + axis**2)


def _fractal(rng: np.random.Generator, side: int, falloff: float) -> np.ndarray:
    """side × side, tileable noise whose amplitudes fall with frequency; mean 0, standard deviation 1."""
    waves = _waves(side)
    waves[0, 0] = 1
    spectrum = np.fft.fft2(rng.standard_normal((side, side))) / waves**falloff
    spectrum[0, 0] = 0
    noise = np.fft.ifft2(spectrum).real
    return noise / noise.std()


def _unit(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1, most of them inside."""
    return np.clip(0.5 + values / 4, 0, 1)


@lru_cache(maxsize=1)
def patterns() -> np.ndarray:
    """patterns × PATTERN × PATTERN, float32, 0 to 1 and tileable: what a cloth has of its second colour."""
    rng = np.random.default_rng(_SEED)
    at = np.arange(PATTERN) / PATTERN
    x, y = at[None, :], at[:, None]
    found: list[np.ndarray] = [np.zeros((PATTERN, PATTERN))]
    for count in (2, 3, 5, 8):
        found.append(np.broadcast_to((y * count % 1 < 0.5) * 1.0, (PATTERN, PATTERN)))
        found.append(np.broadcast_to((x * count % 1 < 0.35) * 1.0, (PATTERN, PATTERN)))
    for count in (2, 4, 6):
        found.append(((x * count % 1 < 0.5) ^ (y * count % 1 < 0.5)) * 1.0)
        found.append((x * count % 1 < 0.3) * 0.5 + (y * count % 1 < 0.3) * 0.5)
        spots = (x * count % 1 - 0.5) ** 2 + (y * count % 1 - 0.5) ** 2
        found.append((spots < 0.09) * 1.0)
    found.append(((x + y) * 4 % 1 < 0.5) * 1.0)
    for falloff in (0.5, 1.0, 1.5, 2.0, 2.5):
        noise = _fractal(rng, PATTERN, falloff)
        found += [_unit(noise), (noise > 0.3) * 1.0]
    return np.stack(found).astype(np.float32)


def _noise_picture(rng: np.random.Generator) -> np.ndarray:
    falloff = rng.uniform(0.8, 2.2)
    brightness = _fractal(rng, PICTURE, falloff)
    colours = np.stack([_fractal(rng, PICTURE, falloff + 0.4) for _ in range(3)], axis=-1)
    return brightness[..., None] + 0.5 * colours


def _leaves_picture(rng: np.random.Generator) -> np.ndarray:
    """Dead leaves: shapes of all sizes that cover each other."""
    picture = np.zeros((PICTURE, PICTURE, 3))
    base = rng.standard_normal(3) * 0.5
    shape = rng.integers(3)
    spread = rng.uniform(0.3, 0.8)
    for _ in range(500):
        radius = int(min(90, 5 / rng.uniform(0.05, 1) ** 0.9))
        row, column = rng.integers(0, PICTURE, 2)
        across = np.arange(-radius, radius + 1)
        ratio = rng.uniform(0.4, 2.5)
        if shape == 0 or (shape == 2 and rng.random() < 0.5):
            inside = across[:, None] ** 2 + (across * ratio) ** 2 <= radius**2
        else:
            inside = np.broadcast_to(np.abs(across * ratio) <= radius, (len(across), len(across)))
        rows, columns = np.nonzero(inside)
        colour = base + rng.standard_normal() * spread + 0.35 * rng.standard_normal(3)
        picture[(rows + row - radius) % PICTURE, (columns + column - radius) % PICTURE] = colour
    return picture


def _room_picture(rng: np.random.Generator) -> np.ndarray:
    """Large soft and sharp rectangles side by side: doors, windows, shelves, houses."""
    picture = np.zeros((PICTURE, PICTURE, 3)) + rng.standard_normal(3) * 0.3
    for _ in range(rng.integers(8, 40)):
        height, width = (int(side) for side in np.exp(rng.uniform(np.log(8), np.log(150), 2)))
        row, column = rng.integers(0, PICTURE, 2)
        rows, columns = (row + np.arange(height)) % PICTURE, (column + np.arange(width)) % PICTURE
        colour = rng.standard_normal() * 0.9 + 0.5 * rng.standard_normal(3)
        slope = rng.uniform(-0.7, 0.7) * np.linspace(-1, 1, height)
        picture[rows[:, None], columns] = colour + slope[:, None, None]
    return picture


def _grid_picture(rng: np.random.Generator) -> np.ndarray:
    """Bricks, tiles, boards."""
    rows, columns = 2 ** rng.integers(2, 6), 2 ** rng.integers(1, 6)
    at = np.arange(PICTURE)
    row = at * rows // PICTURE
    shift = (row % 2) * (PICTURE // columns // 2) * rng.integers(2)
    column = ((at[None] + shift[:, None]) % PICTURE) * columns // PICTURE
    tone = rng.standard_normal((rows, columns)) * rng.uniform(0.1, 0.9)
    tint = rng.standard_normal((rows, columns, 3)) * 0.2
    picture = tone[row[:, None], column][..., None] + tint[row[:, None], column]
    joint = (at * rows % PICTURE < 2 * rows)[:, None] | (
        ((at[None] + shift[:, None]) * columns) % PICTURE < 2 * columns
    )
    picture[joint] = rng.normal(0, 1.2)
    return picture + 0.25 * _fractal(rng, PICTURE, 1.2)[..., None]


def _blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    falloff = np.exp(-((_waves(PICTURE) * radius / PICTURE) ** 2) * 20)[..., None]
    return np.fft.ifft2(np.fft.fft2(picture, axes=(0, 1)) * falloff, axes=(0, 1)).real


@lru_cache(maxsize=1)
def pictures() -> np.ndarray:
    """pictures × PICTURE² × 4, float32, tileable: brightness, and what the three colours have more than that; together
    of mean 0 and standard deviation 1 in each picture."""
    rng = np.random.default_rng(_SEED + 1)
    found = []
    for number in range(48):
        make = (_noise_picture, _leaves_picture, _room_picture, _grid_picture)[number % 4]
        picture = make(rng)
        if number % 3:
            picture = _blurred(picture, rng.uniform(0.5, 6))
        picture = picture - picture.mean((0, 1))
        picture = np.clip(picture / picture.std(), -2.5, 2.5).reshape(-1, 3)
        grey = picture.mean(1, keepdims=True)
        found.append(np.concatenate((grey, picture - grey), axis=1).astype(np.float32))
    return np.stack(found)
