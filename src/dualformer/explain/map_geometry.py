"""Maps tokens to the pixels of a clip: interpolation, boxes, the hottest token."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.model.config import Size3


@dataclass(frozen=True, kw_only=True)
class Box:
    """Part of a clip: frames, rows and columns from ``first`` up to, but without, ``end``."""

    first: Size3
    end: Size3


def to_pixels(tokens: Tensor, reduction: Size3, size: Size3, *, smooth: bool) -> Tensor:
    """Resizes a map T' H' W' to the T H W pixels of a clip, where a token is ``reduction`` frames, rows and columns.

    ``smooth`` interpolates between centres of tokens; else every pixel has the value of its token. The last tokens may
    stick out of the clip, as the last patches do: what lies outside is cut off.
    """
    t, h, w = (length * step for length, step in zip(tokens.shape, reduction, strict=True))
    if any(had < wanted for had, wanted in zip((t, h, w), size, strict=True)):
        raise ValueError(f"tokens {tuple(tokens.shape)} of {reduction} pixels do not cover a clip of {size}")
    mode, corners = ("trilinear", False) if smooth else ("nearest", None)
    pixels = F.interpolate(tokens[None, None].float(), size=(t, h, w), mode=mode, align_corners=corners)[0, 0]
    return pixels[: size[0], : size[1], : size[2]]


def normalised(pixels: Tensor) -> Tensor:
    """Divides a map by its largest value, so that it lies in 0..1; a map of zeros stays one."""
    largest = pixels.max()
    return pixels / largest if largest > 0 else torch.zeros_like(pixels)


def cells_box(first: Size3, extent: Size3, reduction: Size3, size: Size3) -> Box:
    """Returns the pixels of ``extent`` tokens from the token ``first`` on, as far as they lie in a clip of ``size``."""
    low = tuple(place * step for place, step in zip(first, reduction, strict=True))
    high = tuple(
        min((place + count) * step, length)
        for place, count, step, length in zip(first, extent, reduction, size, strict=True)
    )
    (t, h, w), (t_end, h_end, w_end) = low, high
    return Box(first=(t, h, w), end=(t_end, h_end, w_end))


def hottest_token(pixels: Tensor, reduction: Size3, size: Size3) -> Size3:
    """Returns the token of a map of ``size`` tokens whose pixels are the hottest on average."""
    # With these two settings, a token that sticks out of the clip counts by the pixels that it has.
    means = F.avg_pool3d(pixels[None], reduction, ceil_mode=True, count_include_pad=False)[0]
    assert means.shape == size, "the map is not one of this clip"
    place = int(means.argmax())
    return place // (size[1] * size[2]), place // size[2] % size[1], place % size[2]
