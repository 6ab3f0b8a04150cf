"""From what is seen to what a cheap camera keeps: brightness, noise, blur, and blocks of 8 × 8 of a coarse codec."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def tones(gain: float, gamma: float, tint: np.ndarray) -> np.ndarray:
    """3 × 256, uint8: what becomes of each level of each colour. ``gain`` 1 keeps brightness, ``tint`` (3)
    is near 1."""
    level = (np.arange(256) / 255) ** gamma
    return np.clip(level * gain * tint[:, None] * 255 + 0.5, 0, 255).astype(np.uint8)


def soften(frames: np.ndarray) -> np.ndarray:
    """T × H × W × 3, uint8: each pixel mixed with its neighbours, 1 2 1 in both directions."""
    wide = frames.astype(np.uint16)
    out = 2 * wide
    out[:, 1:] += wide[:, :-1]
    out[:, :-1] += wide[:, 1:]
    out[:, [0, -1]] += wide[:, [0, -1]]
    wide = 2 * out
    wide[:, :, 1:] += out[:, :, :-1]
    wide[:, :, :-1] += out[:, :, 1:]
    wide[:, :, [0, -1]] += out[:, :, [0, -1]]
    wide += 8
    return (wide >> 4).astype(np.uint8)


def add_noise(frames: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """T × H × W × 3, uint8, with noise of a standard deviation in levels of 255."""
    count, length = len(frames), frames[0].size
    # Frames read one bank of noise from random places: a tenth of the time of fresh noise for every pixel.
    bank = np.clip(deviation * rng.standard_normal(2 * length, dtype=np.float32), -127, 127).astype(np.int16)
    noisy = frames.reshape(count, -1).astype(np.int16)
    for frame, start in zip(noisy, rng.integers(0, length, count).tolist(), strict=True):
        frame += bank[start : start + length]
    np.clip(noisy, 0, 255, out=noisy)
    return noisy.astype(np.uint8).reshape(frames.shape)


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """8 × 8, orthonormal: rows are the waves of the discrete cosine transform."""
    k, n = np.arange(8)[:, None], np.arange(8)[None]
    waves = np.cos(math.pi * k * (2 * n + 1) / 16) / 2
    waves[0] /= math.sqrt(2)
    return waves.astype(np.float32)


def compress(frames: np.ndarray, coarseness: float) -> np.ndarray:
    """T × H × W × 3, uint8, sides multiples of 8: brightness in blocks of 8 × 8 as steps of ``coarseness`` levels, more
    for fine detail; colours at half the resolution."""
    count, height, width, _ = frames.shape
    pixels = frames.astype(np.float32)
    light = pixels @ np.array((0.299, 0.587, 0.114), dtype=np.float32)
    rest = pixels - light[..., None]
    small = (rest[:, ::2, ::2] + rest[:, 1::2, ::2] + rest[:, ::2, 1::2] + rest[:, 1::2, 1::2]) / 4
    waves = _cosines()
    # Along rows, then, turned, along columns; products of many rows with one matrix are fast.
    found = (light.reshape(-1, 8) @ waves.T).reshape(count, height, width).swapaxes(1, 2)
    found = (np.ascontiguousarray(found).reshape(-1, 8) @ waves.T).reshape(count, width, height)
    order = np.arange(8)
    step = (coarseness * (1 + 0.6 * (order[:, None] + order))).astype(np.float32)
    steps = np.tile(step, (width // 8, height // 8))
    found /= steps
    np.rint(found, out=found)
    found *= steps
    found = (found.reshape(-1, 8) @ waves).reshape(count, width, height).swapaxes(1, 2)
    light = (np.ascontiguousarray(found).reshape(-1, 8) @ waves).reshape(count, height, width)
    coarse = 2 * coarseness
    rest = (np.rint(small / coarse) * coarse).repeat(2, axis=1).repeat(2, axis=2)
    rest += light[..., None]
    rest += 0.5
    return np.clip(rest, 0, 255, out=rest).astype(np.uint8)
