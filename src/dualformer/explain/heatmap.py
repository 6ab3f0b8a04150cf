"""Draws heat maps over frames, and text, bars and scales around them, as arrays of pixels (H, W, 3), uint8.

Heat has the colours of "inferno", whose brightness rises evenly, so that it reads the same in grey and to the
colour-blind. The frame under it loses its own colours, and what is cold stays visible.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dualformer.scoring.fonts import fonts_for

Pixels = NDArray[np.uint8]

INK, FAINT = "#1f2328", "#59636e"
MARK = (0, 229, 255)
"""Colour of what is outlined on a frame: no heat has it."""
CROP = (208, 215, 222)
"""Colour of the outline of what the network sees."""

_MOST_OPAQUE = 0.8
_GIF_WIDTH = 600
_DPI = 100


@cache
def _colours() -> NDArray[np.float32]:
    """Returns the colours (256, 3), 0 to 255, without the dark end, which would hide the frame."""
    return (255 * colormaps["inferno"](np.linspace(0.12, 1.0, 256))[:, :3]).astype(np.float32)


def overlay(frames: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """Draws heat (…, H, W), 0 to 1, over frames (…, H, W, 3). Colours go by its root: a map often has one peak, and
    half as hot is still worth seeing."""
    grey = frames.astype(np.float32) @ np.array((0.299, 0.587, 0.114), dtype=np.float32)
    base = 0.75 * grey[..., None] + 0.1 * frames
    shown = np.sqrt(heat)
    opaque = (_MOST_OPAQUE * shown)[..., None]
    colour = _colours()[np.rint(255 * shown).astype(np.int64)]
    return np.rint((1 - opaque) * base + opaque * colour).astype(np.uint8)


def dim(frames: Pixels) -> Pixels:
    """Darkens frames and takes their colours away, for what the network did not see."""
    grey = frames.astype(np.float32) @ np.array((0.299, 0.587, 0.114), dtype=np.float32)
    return np.repeat((0.35 * grey).astype(np.uint8)[..., None], 3, axis=-1)


def resize_map(heat: NDArray[np.float32], height: int, width: int, *, smooth: bool) -> NDArray[np.float32]:
    """Resizes heat (T, h, w) to (T, height, width)."""
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in heat])


def draw_box(
    frame: Pixels,
    top: int,
    left: int,
    bottom: int,
    right: int,
    *,
    thick: int,
    faint: bool = False,
    colour: tuple[int, int, int] = MARK,
) -> None:
    """Draws a box into a frame, with a dark line inside it; dashed where ``faint``."""
    height, width = frame.shape[:2]
    top, left, bottom, right = max(0, top), max(0, left), min(height, bottom), min(width, right)
    inside = np.zeros((height, width), dtype=bool)
    inside[top:bottom, left:right] = True
    for shade, deep in (((16, 16, 16), thick + 1), (colour, thick)):
        line = inside.copy()
        line[top + deep : max(top + deep, bottom - deep), left + deep : max(left + deep, right - deep)] = False
        if faint:
            rows, columns = np.ogrid[:height, :width]
            line &= (rows + columns) // 6 % 2 == 0
        frame[line] = shade


class TextLine(NamedTuple):
    text: str
    x: float
    """Of its left end, in pixels."""
    y: float
    """Of its baseline, in pixels from the top."""
    size: float
    """In points."""
    colour: str = FAINT
    bold: bool = False
    align: Literal["left", "center", "right"] = "left"
    """Where of the text ``x`` is."""


def draw_text(width: int, height: int, lines: Iterable[TextLine]) -> Pixels:
    """Draws lines of text on a white strip."""
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    for line in lines:
        figure.text(
            line.x / width,
            1 - line.y / height,
            line.text,
            fontsize=line.size,
            color=line.colour,
            fontweight="bold" if line.bold else "normal",
            horizontalalignment=line.align,
            parse_math=False,
        )
    canvas = FigureCanvasAgg(figure)
    with fonts_for(figure):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:height, :width, :3].copy()


def colour_scale(width: int, height: int) -> Pixels:
    """Draws heat from 0 to 1, from left to right, over a grey frame; a quarter lies in the middle."""
    heat = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32) ** 2, (height, width))
    return overlay(np.full((height, width, 3), 128, dtype=np.uint8), heat)


def draw_bars(heat: NDArray[np.float32], width: int, height: int, now: int | None) -> Pixels:
    """Draws every frame's mean heat as a bar, the hottest frame's the highest; that of frame ``now`` stands out."""
    means = heat.mean(axis=(1, 2))
    tops = means / means.max() if means.max() > 0 else means
    picture = np.full((height, width, 3), 255, dtype=np.uint8)
    picture[-1] = (208, 215, 222)
    edges = np.rint(np.linspace(0, width, len(tops) + 1)).astype(int)
    for frame, top in enumerate(tops.tolist()):
        left, right = edges[frame], max(edges[frame] + 1, edges[frame + 1] - (2 if width >= 4 * len(tops) else 0))
        if frame == now:
            picture[:, left:right] = (255, 224, 178)
        bar = max(1, round(top * height))
        picture[height - bar :, left:right] = (217, 72, 1) if frame == now else (140, 149, 159)
    return picture


def side_by_side(pictures: list[Pixels], gap: int) -> Pixels:
    """Joins pictures of one height (…, H, w, 3) from left to right."""
    height = pictures[0].shape[-3]
    between = np.full((*pictures[0].shape[:-3], height, gap, 3), 255, dtype=np.uint8)
    row = [piece for picture in pictures for piece in (picture, between)]
    return np.concatenate(row[:-1], axis=-2)


def shrink(frame: Pixels, side: int) -> Pixels:
    """Resizes a frame to a short side of ``side`` pixels."""
    height, width = frame.shape[:2]
    scale = side / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def write_gif(path: Path, frames: Pixels, rate: float) -> None:
    """Writes frames (T, H, W, 3) as a GIF at ``rate`` frames a second, at most 600 pixels wide."""
    height, width = frames.shape[1:3]
    size = (width, height) if width <= _GIF_WIDTH else (_GIF_WIDTH, round(height * _GIF_WIDTH / width))
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in frames]
    # One palette for all frames, or colours would flicker: taken from a few of them side by side.
    some = [np.asarray(picture) for picture in pictures[:: max(1, len(pictures) // 6)]]
    scale = colour_scale(size[0], size[1])  # hot places are few, and their colours matter most
    mosaic = Image.fromarray(np.concatenate([*some, scale], axis=1))
    palette = mosaic.quantize(256, method=Image.Quantize.MEDIANCUT)
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    # A GIF counts hundredths of a second, and some programs slow down what is shown for less than two.
    first, *rest = drawn
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=max(20, 10 * round(100 / rate)), loop=0)
