"""An explanation as files: a video, a GIF, a contact sheet, the map, and what it is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dualformer.explain import heatmap
from dualformer.explain.explanation import Explanation, Part
from dualformer.explain.heatmap import INK, Pixels, Words
from dualformer.explain.map_geometry import Box
from dualformer.files import atomic_write, write_json
from dualformer.scoring.plots import short_text
from dualformer.video.encode import write_image, write_video

_MARGIN, _GAP = 12, 8
_SHEET_FRAMES = 8
_SHEET_SIDE = 160
_GIF_WIDTH = 600
_UNKNOWN_RATE = 8.0


def save(explanation: Explanation, folder: Path) -> dict[str, Path]:
    """See `Explanation.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    endings = {"video": "mp4", "gif": "gif", "sheet": "png", "map": "npy", "json": "json"}
    paths = {kind: folder / f"{explanation.method}.{ending}" for kind, ending in endings.items()}
    frames, rate = film(explanation), playing_rate(explanation)
    write_video(paths["video"], frames, fps=rate, crf=16)
    atomic_write(paths["gif"], lambda temporary: _write_gif(temporary, frames, rate))
    write_image(paths["sheet"], contact_sheet(explanation))

    def write_map(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, explanation.map)

    atomic_write(paths["map"], write_map)
    write_json(paths["json"], explanation.to_dict())
    return paths


def playing_rate(explanation: Explanation) -> float:
    """Frames a second at which the clip plays as fast as what was filmed, within 2 to 30."""
    times = explanation.clip.times
    steps = np.diff(times) if times is not None else np.zeros(0)
    steps = steps[steps > 0]  # the last frame of a short video repeats
    return float(np.clip(1 / np.median(steps), 2, 30)) if len(steps) else _UNKNOWN_RATE


def film(explanation: Explanation) -> Pixels:
    """(T, H, W, 3), sides even: the clip, and beside it the clip with the map over it, between words and a scale."""
    panels = [plain(explanation), *(overlaid(explanation, part) for part in explanation.heat.parts)]
    titles = ["the clip", *(part.title for part in explanation.heat.parts)]
    across = heatmap.beside(panels, _GAP)
    frames, _, wide = across.shape[:3]
    width = wide + 2 * _MARGIN + wide % 2
    top, bottom = _heading(explanation, width), 44
    step = panels[0].shape[2] + _GAP
    captions = heatmap.words(
        width,
        22,
        (
            Words(short_text(title, max(8, step // 7)), _MARGIN + number * step, 16, 9)
            for number, title in enumerate(titles)
        ),
    )
    start = len(top) + len(captions)
    height = start + across.shape[1] + bottom
    out = np.full((frames, height + height % 2, width, 3), 255, dtype=np.uint8)
    out[:, : len(top)], out[:, len(top) : start] = top, captions
    out[:, start : start + across.shape[1], _MARGIN : _MARGIN + wide] = across
    legend = _legend(explanation, panels[0].shape[2])
    for number, picture in enumerate(out):
        below = picture[start + across.shape[1] + 6 :, _MARGIN:]
        bars = heatmap.course(explanation.map, panels[0].shape[2], 30, number)
        below[: len(bars), : bars.shape[1]] = bars
        place = panels[0].shape[2] + _GAP
        below[: len(legend), place : place + legend.shape[1]] = legend
    return out


def contact_sheet(explanation: Explanation) -> Pixels:
    """(H, W, 3): frames from the first to the last, without the map and with it."""
    count = min(_SHEET_FRAMES, len(explanation.map))
    chosen = np.rint(np.linspace(0, len(explanation.map) - 1, count)).astype(int)
    rows = [plain(explanation), *(overlaid(explanation, part) for part in explanation.heat.parts)]
    strips = [heatmap.beside([_shrunk(frame) for frame in row[chosen]], 4) for row in rows]
    wide = strips[0].shape[1]
    width = wide + 2 * _MARGIN
    times, step = explanation.clip.times, (wide + 4) / count
    moments = (
        Words(
            f"{times[number]:.2f} s" if times is not None else f"frame {explanation.clip.numbers[number]}",
            _MARGIN + place * step,
            15,
            8,
        )
        for place, number in enumerate(chosen.tolist())
    )
    pieces = [_heading(explanation, width), heatmap.words(width, 20, moments)]
    for strip in strips:
        pieces += [_framed(strip, width), np.full((4, width, 3), 255, dtype=np.uint8)]
    course = heatmap.course(explanation.map, wide, 34, None)
    pieces += [np.full((4, width, 3), 255, dtype=np.uint8), _framed(course, width)]
    pieces += [np.full((6, width, 3), 255, dtype=np.uint8), _framed(_legend(explanation, wide), width)]
    return np.concatenate(pieces)


def plain(explanation: Explanation) -> Pixels:
    """The frames as they are (T, H, W, 3), with what is marked in them."""
    return _marked(explanation, explanation.clip.frames.copy())


def overlaid(explanation: Explanation, part: Part) -> Pixels:
    """The frames (T, H, W, 3) with a map over what the network saw of them, and the rest dimmed."""
    frames = explanation.clip.frames
    top, left, height, width = explanation.clip.box
    out = heatmap.dimmed(frames)
    place = np.s_[:, top : top + height, left : left + width]
    heat = heatmap.enlarged(part.map, height, width, smooth=explanation.method == "gradcam")
    out[place] = heatmap.heated(frames[place], heat)
    return _marked(explanation, out)


def _marked(explanation: Explanation, frames: Pixels) -> Pixels:
    """With the view outlined where it is not the whole frame, the token in its frames (faintly in the others), and its
    window."""
    heat, (top, left, height, width) = explanation.heat, explanation.clip.box
    if (height, width) != frames.shape[1:3]:
        for frame in frames:
            heatmap.outline(frame, top, left, top + height, left + width, thick=1, colour=heatmap.CROP)
    for box, thick in ((heat.window_box, 1), (heat.token_box, 2)):
        if box is None:
            continue
        for number, frame in enumerate(frames):
            here = box.first[0] <= number < box.end[0]
            if here or thick == 2:
                heatmap.outline(frame, *_shown(explanation, box), thick=thick, faint=not here)
    return frames


def _shown(explanation: Explanation, box: Box) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a box of the view in the frames as they are drawn."""
    top, left, height, width = explanation.clip.box
    _, rows, columns = explanation.map.shape
    down, across = height / rows, width / columns
    return (
        top + round(box.first[1] * down),
        left + round(box.first[2] * across),
        top + round(box.end[1] * down),
        left + round(box.end[2] * across),
    )


def _heading(explanation: Explanation, width: int) -> Pixels:
    """The class with its probability; what is shown, and where it is from."""
    label, probability = explanation.label, explanation.probability
    predicted, most = explanation.predicted
    instead = "" if predicted == label else f"   (predicted: {short_text(predicted, 24)} {most:.0%})"
    times = explanation.clip.times
    when = "" if times is None else f", {times[0]:.1f} to {times[-1]:.1f} s"
    letters = max(12, width // 9)
    first = f"{short_text(label, letters // 2)}  {probability:.1%}{instead}"
    second = f"{explanation.heat.about} · {Path(explanation.source).name}{when}"
    return heatmap.words(
        width,
        52,
        (
            Words(short_text(first, letters), _MARGIN, 24, 13, INK, bold=True),
            Words(short_text(second, width // 6), _MARGIN, 44, 8.5),
        ),
    )


def _legend(explanation: Explanation, width: int) -> Pixels:
    """The colour scale with its ends named."""
    high = {
        "gradcam": "1: speaks most for it",
        "attention": "1: most attention",
        "pyramid": "1: most attention in a scale",
    }[explanation.method]
    named = heatmap.words(
        width,
        20,
        (
            Words("0", 0, 14, 8),
            Words("¼", width / 2, 14, 8, align="center"),
            Words(high, width, 14, 8, align="right"),
        ),
    )
    return np.concatenate([heatmap.colour_scale(width, 12), named])


def _framed(strip: Pixels, width: int) -> Pixels:
    out = np.full((len(strip), width, 3), 255, dtype=np.uint8)
    out[:, _MARGIN : _MARGIN + strip.shape[1]] = strip
    return out


def _shrunk(frame: Pixels) -> Pixels:
    height, width = frame.shape[:2]
    scale = _SHEET_SIDE / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def _write_gif(path: Path, frames: NDArray[np.uint8], rate: float) -> None:
    height, width = frames.shape[1:3]
    size = (width, height) if width <= _GIF_WIDTH else (_GIF_WIDTH, round(height * _GIF_WIDTH / width))
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in frames]
    # One palette for all frames, or colours would flicker: taken from a few of them side by side.
    some = [np.asarray(picture) for picture in pictures[:: max(1, len(pictures) // 6)]]
    scale = heatmap.colour_scale(size[0], size[1])  # hot places are few, and their colours matter most
    mosaic = Image.fromarray(np.concatenate([*some, scale], axis=1))
    palette = mosaic.quantize(256, method=Image.Quantize.MEDIANCUT)
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    # A GIF counts hundredths of a second, and some programs slow down what is shown for less than two.
    first, *rest = drawn
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=max(20, 10 * round(100 / rate)), loop=0)
