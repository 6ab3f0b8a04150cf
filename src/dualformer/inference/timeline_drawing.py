"""Draws a timeline as a picture, and burns its labels into the video."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dualformer.inference.timeline import Timeline, format_time
from dualformer.plurals import counted
from dualformer.scoring.fonts import PLAIN_FONT, runs
from dualformer.scoring.plots import save_figure, short_text
from dualformer.segment import Segment
from dualformer.video.encode import write_video
from dualformer.video.memory_frames import MemoryFrames
from dualformer.video.playback import Playback
from dualformer.video.video_segment import Footage

_ROWS = 16
"""The most labels that get a row."""
_COLUMNS = 1600
"""The most stretches of time that are drawn; of more, neighbours are averaged."""
_LINE = "#cf222e"
_RATES = (1.0, 60.0)
"""Slowest and fastest frame rate of a labelled video."""


def draw_timeline(path: Path, timeline: Timeline) -> None:
    """Draws a PNG: one row for each label, probabilities over time as shades of blue, segments as red bars below them.

    Labels with segments come first, in the order in which they happen; then those that came nearest. Of more than 16,
    those that last the shortest are left out.
    """
    rows = _rows(timeline)
    probabilities, bounds = _thinned(timeline.probabilities[:, rows], timeline.bounds)
    names = [short_text(timeline.labels[c], 28) for c in rows]
    figure = Figure(figsize=(12, 1.3 + 0.34 * max(2, len(rows))), layout="constrained")
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(bounds, np.arange(len(rows) + 1), probabilities.T, cmap="Blues", vmin=0, vmax=1)
    row_of = {timeline.labels[c]: row for row, c in enumerate(rows)}
    for segment in timeline.segments:
        if segment.label in row_of:
            low = row_of[segment.label] + 0.86
            axes.fill_between([segment.start, segment.end], low, low + 0.14, color=_LINE, linewidth=0)
            axes.plot([segment.start] * 2, [low - 0.86, low + 0.14], color=_LINE, linewidth=0.6)
    axes.set_yticks(np.arange(len(rows)) + 0.5, labels=names, fontsize=9, parse_math=False)
    axes.set_ylim(len(rows), 0)
    axes.set_xlim(0, timeline.seconds)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_time(x, digits=0 if timeline.seconds > 20 else 1)))
    for row in range(1, len(rows)):
        axes.axhline(row, color="#d0d7de", linewidth=0.6)
    left_out = len({s.label for s in timeline.segments} - set(row_of))
    beside = f", {left_out} more labels not drawn" if left_out else ""
    name = short_text(Path(timeline.source).name, 60)
    axes.set_title(f"{name}: {counted(len(timeline.segments), 'segment')} (red){beside}", fontsize=10, parse_math=False)
    figure.colorbar(mesh, ax=axes, pad=0.01, aspect=20, label="probability")
    save_figure(path, figure)


def _rows(timeline: Timeline) -> list[int]:
    number = {label: c for c, label in enumerate(timeline.labels)}
    lasting: dict[int, float] = {}
    for segment in timeline.segments:
        c = number[segment.label]
        lasting[c] = lasting.get(c, 0.0) + segment.end - segment.start
    longest = set(sorted(lasting, key=lambda c: -lasting[c])[:_ROWS])
    chosen = [c for c in lasting if c in longest]
    near = np.argsort(-timeline.probabilities.max(axis=0), kind="stable").tolist()
    return chosen + [c for c in near if c not in chosen][: max(0, min(4, _ROWS - len(chosen)))]


def _thinned(
    probabilities: NDArray[np.float32], bounds: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Averages neighbouring stretches until there are at most `_COLUMNS`."""
    together = -(-len(probabilities) // _COLUMNS)
    if together == 1:
        return probabilities, bounds
    starts = np.arange(0, len(probabilities), together)
    sums = np.add.reduceat(probabilities * np.diff(bounds)[:, None], starts, axis=0)
    edges = np.append(bounds[starts], bounds[-1])
    return (sums / np.diff(edges)[:, None]).astype(np.float32), edges


def write_labelled_video(
    timeline: Timeline,
    path: Path,
    *,
    video: Footage | MemoryFrames | None = None,
    fps: float | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> None:
    """Writes the timeline's video with its labels burnt in, as MP4 without sound.

    The video is decoded a second time, as a label is known only after what follows it. The new video has a constant
    rate, the video's average one; frames of a variable rate are shown at their times. ``video``: what was read, where
    ``timeline.source`` names no file. ``fps``: the rate of a folder of frames. Raises ``VideoError`` where the video
    cannot be written.
    """
    with Playback(timeline.source if video is None else video, fps=fps) as playing:
        rate = (timeline.frames - 1) / timeline.seconds if timeline.frames > 1 else 1.0
        nominal = playing.rate
        rate = nominal if 0.97 * rate <= nominal <= 1.06 * rate else rate  # the header's is the exact one, or it lies
        rate = min(max(rate, _RATES[0]), _RATES[1])
        write_video(path, _frames(timeline, playing, rate, progress), fps=rate, crf=23)


def _frames(
    timeline: Timeline, playing: Playback, rate: float, progress: Callable[[float, float], None] | None
) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of a video of constant rate: at every tick, the frame that is on the screen."""
    banner = _Banner(timeline.segments)
    shown: NDArray[np.uint8] | None = None
    tick = 0
    for seen, (seconds, picture) in enumerate(playing, 1):
        while shown is not None and tick / rate < seconds - 0.5 / rate:
            yield banner.over(shown, tick / rate)
            tick += 1
        shown = picture().numpy()
        # H.264 needs even sides.
        shown = np.ascontiguousarray(shown[: max(2, len(shown) & ~1), : max(2, shown.shape[1] & ~1)])
        if progress is not None and seen % 100 == 0:
            progress(seconds, timeline.seconds)
        if seen == timeline.frames:  # what comes behind does not decode
            break
    if shown is not None:
        yield banner.over(shown, tick / rate)


class _Banner:
    """Draws the labels of a moment into a frame. A drawn banner is kept as long as it does not change."""

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self._segments = segments
        self._starts = [segment.start for segment in segments]
        self._longest = max((segment.end - segment.start for segment in segments), default=0.0)
        self._drawn: tuple[tuple[int, int], tuple[int, ...], NDArray[np.uint8]] | None = None

    def over(self, frame: NDArray[np.uint8], seconds: float) -> NDArray[np.uint8]:
        """Returns the frame (H, W, 3) with the labels of the moment at its lower edge."""
        last = bisect_right(self._starts, seconds)
        first = bisect_right(self._starts, seconds - self._longest - 1e-6)
        active = tuple(i for i in range(first, last) if self._segments[i].end > seconds)
        if not active:
            return frame
        size = (frame.shape[0], frame.shape[1])
        if self._drawn is None or self._drawn[:2] != (size, active):
            self._drawn = (size, active, self._draw(size, [self._segments[i] for i in active]))
        strip = self._drawn[2]
        frame = frame.copy()
        below = frame[len(frame) - len(strip) :]
        alpha = strip[..., 3:].astype(np.uint16)
        mixed = (strip[..., :3] * alpha + below * (255 - alpha) + 127) // 255
        below[:] = mixed.astype(np.uint8)
        return frame

    def _draw(self, size: tuple[int, int], active: list[Segment]) -> NDArray[np.uint8]:
        """Draws RGBA (h, W, 4): a dark strip with a line for each label; letters shrink until the longest line fits."""
        height, width = size
        lines = [f"{short_text(s.label, 60)}  {s.probability:.0%}" for s in active]
        points = max(8, round(height / 14))
        pieces = [runs(text) for text in lines]
        while True:
            fonts = {file: ImageFont.truetype(str(file), points) for line in pieces for file, _ in line}
            pad, line = max(2, points // 3), round(points * 1.25)
            lengths = [sum(fonts[file].getlength(text) for file, text in each) for each in pieces]
            if points <= 6 or (max(lengths) + 2 * pad <= width and line * len(lines) <= height / 2):
                break
            points -= 1
        strip = Image.new("RGBA", (width, min(height, line * len(lines) + pad)), (0, 0, 0, 150))
        drawing = ImageDraw.Draw(strip)
        ascent = ImageFont.truetype(str(PLAIN_FONT), points).getmetrics()[0]
        for row, each in enumerate(pieces):
            x, base = float(pad), pad // 2 + row * line + ascent
            for file, text in each:
                drawing.text((x, base), text, font=fonts[file], fill=(255, 255, 255, 255), anchor="ls")
                x += fonts[file].getlength(text)
        return np.array(strip)
