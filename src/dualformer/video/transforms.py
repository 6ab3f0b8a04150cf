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

from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import Preprocessing

_LONGEST = 16
"""Times the short side: of a longer picture only the middle is used."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """One draw of the training augmentation: a box of the source frame, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def resize(clip: Tensor, height: int, width: int, *, antialias: bool = True) -> Tensor:
    """Resizes a uint8 clip (T, H, W, 3) to (T, height, width, 3), bilinear."""
    if clip.shape[1:3] == (height, width):
        return clip
    planes = clip.permute(0, 3, 1, 2)  # a view: channels-last memory, which picks torch's fast uint8 path
    resized = F.interpolate(planes, size=(height, width), mode="bilinear", antialias=antialias, align_corners=False)
    return resized.permute(0, 2, 3, 1).contiguous()


def resize_short_side(clip: Tensor, size: int, *, antialias: bool = True) -> Tensor:
    """Resizes a clip (T, H, W, 3) so that the shorter of H and W is ``size``, keeping the shape of the picture."""
    height, width = clip.shape[1:3]
    short = min(height, width)
    height, width = (max(size, round(side * size / short)) for side in (height, width))
    return resize(clip, height, width, antialias=antialias)


def cut_long(frames: Tensor) -> Tensor:
    """Returns the middle of frames (..., H, W, 3) that are longer than `_LONGEST` times their short side, others as
    they are: what memory a picture takes depends on its pixels, not on its shape."""
    height, width = frames.shape[-3:-1]
    most = _LONGEST * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return frames if top == left == 0 else frames[..., top : top + most, left : left + most, :]


def resized_bytes(frame: Tensor, pre: Preprocessing) -> int:
    """Returns the bytes of a frame (H, W, 3), which `cut_long` has seen, after `resize_frames`."""
    height, width = frame.shape[-3:-1]
    return 3 * pre.resize**2 * (max(height, width) // min(height, width) + 1 if pre.crop_mode == "center" else 1)


def resize_frames(clip: Tensor, pre: Preprocessing) -> Tensor:
    """Resizes a clip (T, H, W, 3) to the pictures that test views are cut from: with a short side of ``pre.resize``,
    or squares of ``pre.resize`` with all of the picture where ``pre`` pads. Very long pictures are cut by `cut_long`.
    """
    clip = cut_long(clip)
    if pre.crop_mode == "center":
        return resize_short_side(clip, pre.resize, antialias=pre.antialias)
    scale = pre.resize / max(clip.shape[1:3])
    height, width = (max(1, round(side * scale)) for side in clip.shape[1:3])
    return pad_to_square(resize(clip, height, width, antialias=pre.antialias), pre)


def pad_to_square(frames: Tensor, pre: Preprocessing) -> Tensor:
    """Puts frames uint8 (..., H, W, 3) into the middle of squares of the mean colour, as large as the longer side."""
    height, width = frames.shape[-3:-1]
    if height == width:
        return frames
    size = max(height, width)
    colour = torch.tensor([round(value) for value in pre.mean], dtype=torch.uint8, device=frames.device)
    squares = colour.expand(*frames.shape[:-3], size, size, 3).clone()
    top, left = (size - height) // 2, (size - width) // 2
    squares[..., top : top + height, left : left + width, :] = frames
    return squares


def square_crops(clip: Tensor, size: int, crops: int = 1) -> Tensor:
    """Returns squares (crops, T, size, size, 3) of a clip (T, H, W, 3): the centre, or 3 along the longer side.

    Raises ``ValueError`` for other numbers of crops, and where the square does not fit.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops must be 1 or 3, not {crops}")
    height, width = clip.shape[1:3]
    if size > min(height, width):
        raise ValueError(f"a crop of {size} does not fit into frames of {height}x{width}")
    down, right = height - size, width - size
    if crops == 1:
        top, left = down // 2, right // 2
        return clip[None, :, top : top + size, left : left + size]
    corners = [(at, right // 2) for at in (0, down // 2, down)]
    if height <= width:
        corners = [(down // 2, at) for at in (0, right // 2, right)]
    return torch.stack([clip[:, top : top + size, left : left + size] for top, left in corners])


def crop_views(clip: Tensor, pre: Preprocessing, crops: int = 1) -> Tensor:
    """Returns test views (crops, T, crop, crop, 3) of a clip (T, H, W, 3): resized, then cropped."""
    return square_crops(resize_frames(clip, pre), pre.crop, crops)


def draw_crop(height: int, width: int, size: int, augmentation: Augmentation, rng: np.random.Generator) -> Crop:
    """Draws the crop of a training clip, for an input of ``size`` pixels, and its mirroring.

    A random resized crop has a uniform share of the frame's area, and a ratio that is uniform in its logarithm. Where
    ten draws do not fit, it is the largest centred box of an allowed ratio. With ``scale_jitter`` it is a square of
    ``size`` pixels out of a frame that is resized to a short side drawn from that range; the crop is given in the
    frame's own pixels: it is cut first and resized once. Raises ``ValueError`` for short sides that are too small.
    """
    if augmentation.scale_jitter:
        shortest, longest = augmentation.scale_jitter
        if shortest < size:
            raise ValueError(f"short sides of {shortest} to {longest} pixels do not hold crops of {size}")
        h = w = max(1, round(min(height, width) * size / int(rng.integers(shortest, longest + 1))))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    elif box := random_box(height, width, rng, area=augmentation.area, ratio=augmentation.ratio):
        top, left, h, w = box
    else:
        aspect = min(max(width / height, augmentation.ratio[0]), augmentation.ratio[1])
        h, w = min(height, max(1, round(width / aspect))), min(width, max(1, round(height * aspect)))
        top, left = (height - h) // 2, (width - w) // 2
    return Crop(top=top, left=left, height=h, width=w, flip=bool(rng.random() < augmentation.flip))


def random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float],
    ratio: tuple[float, float],
    smaller: bool = False,
) -> tuple[int, int, int, int] | None:
    """Draws top, left, height and width of a box in a frame; None if ten draws do not fit.

    ``area``: least and largest share of the frame's area. ``ratio``: width over height. ``smaller``: the box must be
    lower and narrower than the frame.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        aspect = exp(rng.uniform(log(ratio[0]), log(ratio[1])))
        h, w = round(sqrt(pixels / aspect)), round(sqrt(pixels * aspect))
        if 0 < h <= height - smaller and 0 < w <= width - smaller:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    return None


def cut(frames: Tensor, crop: Crop) -> Tensor:
    """Returns the box of ``crop`` out of frames (..., H, W, 3): a view, not a copy.

    The paper resizes the short side to 256 first and crops then. Areas and ratios are shares of the frame, so cutting
    from the source draws from the same distribution; it resamples once instead of twice.
    """
    return frames[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width, :]


def resize_and_flip(box: Tensor, crop: Crop, pre: Preprocessing) -> Tensor:
    """Resizes boxes (T, h, w, 3) that are cut already to (T, pre.crop, pre.crop, 3), and mirrors them if ``crop`` says
    so."""
    view = resize(box, pre.crop, pre.crop, antialias=pre.antialias)
    return view.flip(2) if crop.flip else view.contiguous()


def normalize(clips: Tensor, pre: Preprocessing, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns the model's input (B, 3, T, H, W) of uint8 clips (B, T, H, W, 3), on their device: (x - mean) / std.

    The one function from frames to the model's input: training, evaluation, prediction, streaming and exports call it.
    Computed in float32 whatever ``dtype`` is, and rounded once at the end.
    """
    if clips.dtype != torch.uint8 or clips.dim() != 5 or clips.shape[-1] != 3:
        raise ValueError(f"normalize takes uint8 clips B T H W 3, not {clips.dtype} {tuple(clips.shape)}")
    pixels = clips.permute(0, 4, 1, 2, 3).contiguous().float()  # bytes are moved faster than numbers
    mean, std = (torch.tensor(three, dtype=torch.float32, device=clips.device) for three in (pre.mean, pre.std))
    return pixels.sub_(mean.view(3, 1, 1, 1)).div_(std.view(3, 1, 1, 1)).to(dtype)
