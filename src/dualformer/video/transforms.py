"""Turns clips into the model's input: resizes, crops, flips and normalises them.

Everything up to :func:`normalize` works on uint8 clips (T, H, W, 3), channels last: that is how frames are decoded, and
the antialiased uint8 resize on that layout is several times faster than on planes or floats.
"""

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dualformer.video.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Crop:
    """One draw of the training augmentation: a box of the source frame, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def resize(clip: Tensor, height: int, width: int) -> Tensor:
    """Resizes a uint8 clip (T, H, W, 3) to (T, height, width, 3), bilinear and antialiased."""
    if clip.shape[1:3] == (height, width):
        return clip
    planes = clip.permute(0, 3, 1, 2)  # a view: channels-last memory, which picks torch's fast uint8 path
    resized = F.interpolate(planes, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.permute(0, 2, 3, 1).contiguous()


def resize_short_side(clip: Tensor, size: int) -> Tensor:
    """Resizes a clip (T, H, W, 3) so that the shorter of H and W is ``size``, keeping the shape of the picture."""
    height, width = clip.shape[1:3]
    short = min(height, width)
    return resize(clip, max(size, round(height * size / short)), max(size, round(width * size / short)))


def centre_crop(clip: Tensor, size: int) -> Tensor:
    """Returns the middle square (T, size, size, 3) of a clip (T, H, W, 3)."""
    top, left = _square_corners(clip, size, 1)[0]
    return clip[:, top : top + size, left : left + size]


def three_crops(clip: Tensor, size: int) -> Tensor:
    """Returns three squares (3, T, size, size, 3) at the start, centre and end of the longer side."""
    return torch.stack([clip[:, t : t + size, x : x + size] for t, x in _square_corners(clip, size, 3)])


def crop_views(clip: Tensor, pre: Preprocessing, crops: int = 1) -> Tensor:
    """Returns test views (crops, T, crop, crop, 3) of a clip (T, H, W, 3): resized to ``pre.resize``, then cropped.

    ``crops``: 1 (centre) or 3 along the longer side, else ``ValueError``.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops must be 1 or 3, not {crops}")
    clip = resize_short_side(clip, pre.resize)
    return centre_crop(clip, pre.crop)[None] if crops == 1 else three_crops(clip, pre.crop)


def draw_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Crop:
    """Draws a random resized crop of a frame, and its mirroring with probability ``flip``.

    ``area``: share of the frame's area, uniform. ``ratio``: width over height, uniform in its logarithm. A draw that
    does not fit is drawn anew, ten times at most; after that it is the largest centred box of an allowed ratio.
    """
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(f"area must be two rising shares within 0..1, not {area}")
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"ratio must be two rising positive numbers, not {ratio}")
    if not 0 <= flip <= 1:
        raise ValueError(f"flip must be a probability, not {flip}")
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        aspect = exp(rng.uniform(log(ratio[0]), log(ratio[1])))
        h, w = round(sqrt(pixels / aspect)), round(sqrt(pixels * aspect))
        if 0 < h <= height and 0 < w <= width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            break
    else:
        aspect = min(max(width / height, ratio[0]), ratio[1])
        h, w = min(height, max(1, round(width / aspect))), min(width, max(1, round(height * aspect)))
        top, left = (height - h) // 2, (width - w) // 2
    return Crop(top=top, left=left, height=h, width=w, flip=bool(rng.random() < flip))


def draw_scaled_crop(
    height: int, width: int, size: int, rng: np.random.Generator, *, short_side: tuple[int, int], flip: float = 0.5
) -> Crop:
    """Draws a square of ``size`` pixels out of a frame that is resized to a short side drawn from ``short_side``.

    The crop is given in the frame's own pixels: it is cut first and resized once. The short side is uniform over the
    whole numbers of its range, both ends among them.
    """
    if not size <= short_side[0] <= short_side[1]:
        raise ValueError(f"short sides of {short_side[0]} to {short_side[1]} pixels do not hold crops of {size}")
    side = round(min(height, width) * size / int(rng.integers(short_side[0], short_side[1] + 1)))
    side = max(1, side)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return Crop(top=top, left=left, height=side, width=side, flip=bool(rng.random() < flip))


def cut(frames: Tensor, crop: Crop) -> Tensor:
    """Returns the box of ``crop`` out of frames (..., H, W, 3): a view, not a copy.

    The paper resizes the short side to 256 first and crops then. Areas and ratios are shares of the frame, so cutting
    from the source draws from the same distribution; it resamples once instead of twice.
    """
    return frames[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width, :]


def resize_and_flip(box: Tensor, crop: Crop, size: int) -> Tensor:
    """Resizes boxes (T, h, w, 3) that are cut already to (T, size, size, 3), and mirrors them if ``crop`` says so."""
    view = resize(box, size, size)
    return view.flip(2) if crop.flip else view.contiguous()


def normalize(clips: Tensor, pre: Preprocessing, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns the model's input (B, 3, T, H, W) of uint8 clips (B, T, H, W, 3), on their device: (x - mean) / std.

    The one function from frames to the model's input: training, evaluation, prediction, streaming and exports call it.
    Computed in float32 whatever ``dtype`` is, and rounded once at the end.
    """
    if clips.dtype != torch.uint8 or clips.dim() != 5 or clips.shape[-1] != 3:
        raise ValueError(f"normalize takes uint8 clips B T H W 3, not {clips.dtype} {tuple(clips.shape)}")
    mean = torch.tensor(pre.mean, dtype=torch.float32, device=clips.device)
    std = torch.tensor(pre.std, dtype=torch.float32, device=clips.device)
    return ((clips.float() - mean) / std).to(dtype).permute(0, 4, 1, 2, 3).contiguous()


def _square_corners(clip: Tensor, size: int, crops: int) -> list[tuple[int, int]]:
    """Returns (top, left) of squares along the longer side, centred on the other."""
    height, width = clip.shape[1:3]
    if size > min(height, width):
        raise ValueError(f"a crop of {size} does not fit into frames of {height}x{width}")
    down, right = height - size, width - size
    if crops == 1:
        return [(down // 2, right // 2)]
    if height > width:
        return [(0, right // 2), (down // 2, right // 2), (down, right // 2)]
    return [(down // 2, 0), (down // 2, right // 2), (down // 2, right)]
