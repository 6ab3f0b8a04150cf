"""Augments the pixels of training clips: RandAugment, colour jitter, random erasing.

A change is drawn once and applied to all frames of a clip alike. Statistics are those of the whole clip, too: contrast
is stretched by its darkest and brightest value, so that augmentation adds no flicker.

Pillow changes the pixels, as in the recipes that these come from; on a CPU it is several times as fast as kornia
(docs/experiments.md has the figures).
"""

from collections.abc import Callable, Sequence
from math import cos, radians, sin
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.preprocessing import KINETICS_STD, Preprocessing
from dualformer.video.transforms import random_box

ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)

Colour = tuple[int, int, int]


class Change(NamedTuple):
    """An operation and its amount: a factor, degrees, a share of the frame, bits or a grey value."""

    name: str
    amount: float = 0.0


def augment(clip: Tensor, augmentation: Augmentation, pre: Preprocessing, rng: np.random.Generator) -> Tensor:
    """Returns a clip uint8 (T, H, W, 3) with randomly augmented pixels.

    Pixels from outside the frame have the mean colour that ``pre`` subtracts.
    """
    fill = (round(pre.mean[0]), round(pre.mean[1]), round(pre.mean[2]))
    clip = apply_changes(clip, draw_changes(augmentation, rng), fill=fill)
    return _erase(clip, pre, rng) if augmentation.erasing and rng.random() < augmentation.erasing else clip


def draw_changes(augmentation: Augmentation, rng: np.random.Generator) -> list[Change]:
    """Draws colour jitter in a random order, then RandAugment."""
    changes: list[Change] = []
    if augmentation.colour_jitter:
        for name in rng.permutation(("brightness", "contrast", "saturation")).tolist():
            changes.append(Change(name, 1 + rng.uniform(-1, 1) * augmentation.colour_jitter))
    if augmentation.randaugment:
        changes += _draw_randaugment(augmentation.randaugment, rng)
    return changes


def apply_changes(clip: Tensor, changes: Sequence[Change], *, fill: Colour = (128, 128, 128)) -> Tensor:
    """Applies changes to a clip (T, H, W, 3), one after another. ``fill``: R, G, B of pixels from outside the frame."""
    if not changes:
        return clip
    count, height, width, _ = clip.shape
    # All frames stacked into one picture, whose colours and histograms are those of the clip.
    picture = Image.fromarray(clip.numpy().reshape(count * height, width, 3))
    for name, amount in changes:
        if name in _COLOURS:
            picture = _COLOURS[name](picture, amount)
        else:
            # These read neighbouring pixels, which must not come from the next frame.
            for top in range(0, count * height, height):
                frame = picture.crop((0, top, width, top + height))
                picture.paste(_in_frame(frame, name, amount, fill), (0, top))
    return torch.from_numpy(np.array(picture)).view(clip.shape)


def _erase(clip: Tensor, pre: Preprocessing, rng: np.random.Generator) -> Tensor:
    box = random_box(clip.shape[1], clip.shape[2], rng, area=ERASED_AREA, ratio=ERASED_RATIO, smaller=True)
    if box is None:
        return clip
    top, left, height, width = box
    # The noise has the spread of real pictures even where `pre.std` is 1.
    noise = rng.standard_normal((height, width, 3)) * KINETICS_STD + pre.mean
    clip = clip.clone()
    clip[:, top : top + height, left : left + width] = torch.from_numpy(noise.round().clip(0, 255).astype(np.uint8))
    return clip


def _draw_randaugment(settings: RandAugment, rng: np.random.Generator) -> list[Change]:
    changes: list[Change] = []
    for _ in range(settings.number):
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        done, sign = rng.random() < 0.5, 1 if rng.random() < 0.5 else -1
        magnitude = settings.magnitude + settings.std * rng.standard_normal()
        if done:
            changes.append(Change(name, _AMOUNTS[name](min(max(magnitude, 0.0), 10.0) / 10, sign)))
    return changes


def _factor(strength: float, sign: int) -> float:
    return 1 + sign * 0.9 * strength


_AMOUNTS: dict[str, Callable[[float, int], float]] = {
    "autocontrast": lambda strength, sign: 0.0,
    "equalize": lambda strength, sign: 0.0,
    "invert": lambda strength, sign: 0.0,
    "rotate": lambda strength, sign: sign * 30 * strength,
    "posterize": lambda strength, sign: max(1, 4 - int(4 * strength)),
    "solarize": lambda strength, sign: 256 - int(256 * strength),
    "solarize_add": lambda strength, sign: int(110 * strength),
    "saturation": _factor,
    "contrast": _factor,
    "brightness": _factor,
    "sharpness": _factor,
    "shear_x": lambda strength, sign: sign * 0.3 * strength,
    "shear_y": lambda strength, sign: sign * 0.3 * strength,
    "translate_x": lambda strength, sign: sign * 0.45 * strength,
    "translate_y": lambda strength, sign: sign * 0.45 * strength,
}
"""The amount of each operation at a strength from 0 to 1, with the ranges of timm and SlowFast."""

OPERATIONS = tuple(_AMOUNTS)
"""What RandAugment draws from, uniformly."""


def _solarize_add(picture: Image.Image, amount: float) -> Image.Image:
    table = [min(255, value + int(amount)) if value < 128 else value for value in range(256)]
    return picture.point(table * 3)


_COLOURS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda picture, _: ImageOps.autocontrast(picture),
    "equalize": lambda picture, _: ImageOps.equalize(picture),
    "invert": lambda picture, _: ImageOps.invert(picture),
    "posterize": lambda picture, bits: ImageOps.posterize(picture, int(bits)),
    "solarize": lambda picture, threshold: ImageOps.solarize(picture, int(threshold)),
    "solarize_add": _solarize_add,
    "saturation": lambda picture, factor: ImageEnhance.Color(picture).enhance(factor),
    "contrast": lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor),
    "brightness": lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor),
}


def _in_frame(frame: Image.Image, name: str, amount: float, fill: Colour) -> Image.Image:
    if name == "sharpness":
        return ImageEnhance.Sharpness(frame).enhance(amount)
    return frame.transform(
        frame.size,
        Image.Transform.AFFINE,
        _coefficients(name, amount, frame.width, frame.height),
        resample=Image.Resampling.BILINEAR,
        fillcolor=fill,
    )


def _coefficients(name: str, amount: float, width: int, height: int) -> tuple[float, ...]:
    """Returns (a, b, c, d, e, f) of a map about the centre: pixel (x, y) comes from (ax + by + c, dx + ey + f)."""
    a, b, d, e = 1.0, 0.0, 0.0, 1.0
    x, y = width / 2, height / 2
    if name == "rotate":
        a, b, d, e = cos(radians(amount)), sin(radians(amount)), -sin(radians(amount)), cos(radians(amount))
    elif name == "shear_x":
        b = amount
    elif name == "shear_y":
        d = amount
    elif name == "translate_x":
        x += amount * width
    elif name == "translate_y":
        y += amount * height
    else:
        raise ValueError(f"there is no change called {name!r}")
    return a, b, x - a * width / 2 - b * height / 2, d, e, y - d * width / 2 - e * height / 2
