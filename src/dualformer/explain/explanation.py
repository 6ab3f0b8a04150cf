"""The explanation of a clip, a heat map over its frames, drawn as a video, a GIF and a contact sheet."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dualformer.explain import heatmap
from dualformer.explain.heatmap import INK, Pixels, TextLine
from dualformer.explain.map_geometry import Box
from dualformer.explain.shown_clip import ShownClip
from dualformer.files import atomic_write, write_json
from dualformer.model.config import Size3
from dualformer.scoring.plots import short_text
from dualformer.video.encode import write_image, write_video

Method = Literal["gradcam", "attention", "pyramid"]

_MARGIN, _GAP = 12, 8
_SHEET_FRAMES = 8
_SHEET_SIDE = 160
_UNKNOWN_FPS = 8.0


@dataclass(frozen=True, kw_only=True, eq=False)
class HeatMapPart:
    """A map to draw: the whole heat map, or the part of one scale of the pyramid."""

    title: str
    map: NDArray[np.float32]
    """(T, h, w), 0 to 1, 1 being the hottest place in the clip; on the pixels of the view."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeatMap:
    """The map that a method computes for a clip, and the part of the network that it is from."""

    about: str
    """The method in words, and the part of the network that it looks into."""
    map: NDArray[np.float32]
    """(T, h, w), 0 to 1: how hot each pixel of the view is, 1 being the hottest place in the clip."""
    parts: tuple[HeatMapPart, ...]
    """The maps to draw: the map; for a pyramid, one for each scale."""
    tokens: NDArray[np.float32]
    """(T', H', W'): the map as the network has it. Of attention, weights that sum to 1; of Grad-CAM, in no unit."""
    stage: int
    """Counted from 1, as are block and half."""
    block: int
    half: int
    token: Size3 | None = None
    """t, y, x of the token that looks, in the stage's map, counted from 0; None for Grad-CAM."""
    token_box: Box | None = None
    """Its pixels in the view."""
    window_box: Box | None = None
    """Those of its window; None where there are no windows."""


@dataclass(frozen=True, kw_only=True)
class DeletionCheck:
    """Probabilities of the explained class with parts of the clip deleted: see `check_deletion`."""

    share: float
    """How much of the clip was deleted."""
    whole: float
    """Probability for the clip as it is."""
    hottest: float
    """Probability without its hottest part."""
    random: tuple[float, ...]
    """Probabilities without as much of it at random places."""

    @property
    def drop(self) -> float:
        """The drop in probability without the hottest part."""
        return self.whole - self.hottest

    @property
    def random_drop(self) -> float:
        """The mean drop in probability without random parts."""
        return self.whole - float(np.mean(self.random))

    @property
    def passed(self) -> bool:
        """Whether the hottest part matters more than random ones. A single clip may fail by chance; many do not."""
        return self.drop > self.random_drop

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers, ready for JSON."""
        return {**asdict(self), "random": list(self.random), "passed": self.passed}

    def __str__(self) -> str:
        low, high = min(self.random), max(self.random)
        share = f"{self.share:.0%}" if self.share >= 0.01 else f"{self.share:.2%}"
        return (
            f"{self.whole:.1%} as it is, {self.hottest:.1%} without its hottest {share}, "
            f"{np.mean(self.random):.1%} without {share} elsewhere ({len(self.random)} draws: {low:.1%} to "
            f"{high:.1%})"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """The explanation of one clip of a video, as `explain_video` makes it."""

    source: str
    """The file, or "frames"."""
    method: Method
    label: str
    """The class that is explained."""
    probability: float
    """Of that class, for this clip alone."""
    predicted: tuple[str, float]
    """The clip's most likely class and its probability."""
    heat: HeatMap
    clip: ShownClip
    """The frames, and where the view lies in them."""
    check: DeletionCheck | None = None
    """The result of `check_deletion`, where it was run."""

    @property
    def map(self) -> NDArray[np.float32]:
        """(T, h, w), 0 to 1: how hot each pixel of the view is, 1 being the hottest place in the clip."""
        return self.heat.map

    def to_dict(self) -> dict[str, Any]:
        """Returns all but the arrays, ready for JSON. ``crop``: top, left, height and width of the view, as shares of
        the frame's height and width."""
        heat, times = self.heat, self.clip.times
        top, left, height, width = self.clip.box
        _, rows, columns, _ = self.clip.frames.shape
        return {
            "source": self.source,
            "method": self.method,
            "about": heat.about,
            "label": self.label,
            "probability": self.probability,
            "predicted": {"label": self.predicted[0], "probability": self.predicted[1]},
            "stage": heat.stage,
            "block": heat.block,
            "half": heat.half,
            "token": None if heat.token is None else list(heat.token),
            "tokens": list(heat.tokens.shape),
            "map": list(heat.map.shape),
            "frames": self.clip.numbers.tolist(),
            "seconds": None if times is None else [round(float(second), 4) for second in times],
            "crop": [round(part, 4) for part in (top / rows, left / columns, height / rows, width / columns)],
            "check": None if self.check is None else self.check.to_dict(),
        }

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Writes the clip with the map over it and the map itself into ``folder``; returns the paths.

        ``video`` and ``gif`` play it, ``sheet`` is a PNG of some of the frames, ``map`` an NPY file of `map`, ``json``
        the words and numbers. The files have the method's name; those of an earlier explanation are replaced.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        endings = {"video": "mp4", "gif": "gif", "sheet": "png", "map": "npy", "json": "json"}
        paths = {kind: folder / f"{self.method}.{ending}" for kind, ending in endings.items()}
        frames, rate = draw_video(self), playback_fps(self)
        write_video(paths["video"], frames, fps=rate, crf=16)
        atomic_write(paths["gif"], lambda temporary: heatmap.write_gif(temporary, frames, rate))
        write_image(paths["sheet"], draw_contact_sheet(self))

        def write_map(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, self.map)

        atomic_write(paths["map"], write_map)
        write_json(paths["json"], self.to_dict())
        return paths


def playback_fps(explanation: Explanation) -> float:
    """Returns the frames a second at which the clip plays as fast as it was filmed, within 2 to 30."""
    times = explanation.clip.times
    steps = np.diff(times) if times is not None else np.zeros(0)
    steps = steps[steps > 0]  # the last frame of a short video repeats
    return float(np.clip(1 / np.median(steps), 2, 30)) if len(steps) else _UNKNOWN_FPS


def draw_video(explanation: Explanation) -> Pixels:
    """Draws frames (T, H, W, 3), sides even: the clip, beside it the clip under the map, with text and a scale."""
    panels = [draw_clip(explanation), *(draw_overlay(explanation, part) for part in explanation.heat.parts)]
    titles = ["the clip", *(part.title for part in explanation.heat.parts)]
    row = heatmap.side_by_side(panels, _GAP)
    frames, _, wide = row.shape[:3]
    width = wide + 2 * _MARGIN + wide % 2
    top, bottom = _draw_heading(explanation, width), 44
    step = panels[0].shape[2] + _GAP
    named = (short_text(title, max(8, step // 7)) for title in titles)
    lines = (TextLine(title, _MARGIN + number * step, 16, 9) for number, title in enumerate(named))
    captions = heatmap.draw_text(width, 22, lines)
    start = len(top) + len(captions)
    height = start + row.shape[1] + bottom
    out = np.full((frames, height + height % 2, width, 3), 255, dtype=np.uint8)
    out[:, : len(top)], out[:, len(top) : start] = top, captions
    out[:, start : start + row.shape[1], _MARGIN : _MARGIN + wide] = row
    legend = _draw_legend(explanation, panels[0].shape[2])
    for number, picture in enumerate(out):
        below = picture[start + row.shape[1] + 6 :, _MARGIN:]
        bars = heatmap.draw_bars(explanation.map, panels[0].shape[2], 30, number)
        below[: len(bars), : bars.shape[1]] = bars
        place = panels[0].shape[2] + _GAP
        below[: len(legend), place : place + legend.shape[1]] = legend
    return out


def draw_contact_sheet(explanation: Explanation) -> Pixels:
    """Draws a picture (H, W, 3) of some frames from the first to the last, without the map and with it."""
    count = min(_SHEET_FRAMES, len(explanation.map))
    chosen = np.rint(np.linspace(0, len(explanation.map) - 1, count)).astype(int)
    rows = [draw_clip(explanation), *(draw_overlay(explanation, part) for part in explanation.heat.parts)]
    strips = [heatmap.side_by_side([heatmap.shrink(frame, _SHEET_SIDE) for frame in row[chosen]], 4) for row in rows]
    wide = strips[0].shape[1]
    width = wide + 2 * _MARGIN
    times, step = explanation.clip.times, (wide + 4) / count
    captions: list[TextLine] = []
    for place, number in enumerate(chosen.tolist()):
        when = f"{times[number]:.2f} s" if times is not None else f"frame {explanation.clip.numbers[number]}"
        captions.append(TextLine(when, _MARGIN + place * step, 15, 8))
    return np.concatenate(
        [
            _draw_heading(explanation, width),
            heatmap.draw_text(width, 20, captions),
            *(_with_margins(strip, width, below=4) for strip in strips),
            _with_margins(heatmap.draw_bars(explanation.map, wide, 34, None), width, above=4),
            _with_margins(_draw_legend(explanation, wide), width, above=6),
        ]
    )


def draw_clip(explanation: Explanation) -> Pixels:
    """Draws the frames (T, H, W, 3) with the outlines of view, token and window."""
    return _draw_outlines(explanation, explanation.clip.frames.copy())


def draw_overlay(explanation: Explanation, part: HeatMapPart) -> Pixels:
    """Draws the frames (T, H, W, 3) with a map over what the network saw of them, and the rest dimmed."""
    frames = explanation.clip.frames
    top, left, height, width = explanation.clip.box
    out = heatmap.dim(frames)
    place = np.s_[:, top : top + height, left : left + width]
    heat = heatmap.resize_map(part.map, height, width, smooth=explanation.method == "gradcam")
    out[place] = heatmap.overlay(frames[place], heat)
    return _draw_outlines(explanation, out)


def _draw_outlines(explanation: Explanation, frames: Pixels) -> Pixels:
    """Outlines in ``frames`` the view where it is not the whole frame, the token in its frames (faintly in the others),
    and its window."""
    heat, (top, left, height, width) = explanation.heat, explanation.clip.box
    if (height, width) != frames.shape[1:3]:
        for frame in frames:
            heatmap.draw_box(frame, top, left, top + height, left + width, thick=1, colour=heatmap.CROP)
    for box, thick in ((heat.window_box, 1), (heat.token_box, 2)):
        if box is None:
            continue
        for number, frame in enumerate(frames):
            here = box.first[0] <= number < box.end[0]
            if here or thick == 2:
                heatmap.draw_box(frame, *_box_in_frames(explanation, box), thick=thick, faint=not here)
    return frames


def _box_in_frames(explanation: Explanation, box: Box) -> tuple[int, int, int, int]:
    """Returns top, left, bottom and right of a box of the view, in pixels of the drawn frames."""
    top, left, height, width = explanation.clip.box
    _, rows, columns = explanation.map.shape
    down, across = height / rows, width / columns
    return (
        top + round(box.first[1] * down),
        left + round(box.first[2] * across),
        top + round(box.end[1] * down),
        left + round(box.end[2] * across),
    )


def _draw_heading(explanation: Explanation, width: int) -> Pixels:
    """Draws the class with its probability, what is shown, and where it is from."""
    label, probability = explanation.label, explanation.probability
    predicted, most = explanation.predicted
    instead = "" if predicted == label else f"   (predicted: {short_text(predicted, 24)} {most:.0%})"
    times = explanation.clip.times
    when = "" if times is None else f", {times[0]:.1f} to {times[-1]:.1f} s"
    letters = max(12, width // 9)
    first = f"{short_text(label, letters // 2)}  {probability:.1%}{instead}"
    second = f"{explanation.heat.about} · {Path(explanation.source).name}{when}"
    lines = (
        TextLine(short_text(first, letters), _MARGIN, 24, 13, INK, bold=True),
        TextLine(short_text(second, width // 6), _MARGIN, 44, 8.5),
    )
    return heatmap.draw_text(width, 52, lines)


def _draw_legend(explanation: Explanation, width: int) -> Pixels:
    """Draws the colour scale with its ends named."""
    high = {
        "gradcam": "1: speaks most for it",
        "attention": "1: most attention",
        "pyramid": "1: most attention in a scale",
    }[explanation.method]
    middle = TextLine("¼", width / 2, 14, 8, align="center")
    lines = (TextLine("0", 0, 14, 8), middle, TextLine(high, width, 14, 8, align="right"))
    return np.concatenate([heatmap.colour_scale(width, 12), heatmap.draw_text(width, 20, lines)])


def _with_margins(strip: Pixels, width: int, *, above: int = 0, below: int = 0) -> Pixels:
    out = np.full((above + len(strip) + below, width, 3), 255, dtype=np.uint8)
    out[above : above + len(strip), _MARGIN : _MARGIN + strip.shape[1]] = strip
    return out
