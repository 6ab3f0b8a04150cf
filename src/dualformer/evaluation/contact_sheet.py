"""Draws a contact sheet: videos of an evaluation as rows of frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dualformer.scoring.plots import save_figure, short_text

_RIGHT, _WRONG = "#1a7f37", "#cf222e"


@dataclass(frozen=True, kw_only=True, eq=False)
class ContactRow:
    """One video of a contact sheet."""

    frames: NDArray[np.uint8]
    """(n, h, w, 3), in the order in which they are shown, from left to right."""
    label: str
    """The true class."""
    predicted: str | None = None
    """None draws the row without a verdict, as for training data."""
    probability: float | None = None
    """Of the predicted class."""
    note: str = ""
    """Small print under the labels, such as the file's name."""


def draw_contact_sheet(path: Path, rows: Sequence[ContactRow], *, title: str = "") -> None:
    """Draws a PNG with one row of frames per video, time from left to right; wrong predictions are red."""
    if not rows:
        raise ValueError("a contact sheet needs at least one video")
    strips = [_strip(row.frames) for row in rows]
    height, text_width = 1.0, 2.45
    widths = [height * strip.shape[1] / strip.shape[0] for strip in strips]
    width = text_width + max(widths)
    total = len(rows) * height * 1.08 + (0.4 if title else 0.1)
    figure = Figure(figsize=(width + 0.1, total))
    for number, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        bottom = total - (0.35 if title else 0.05) - (number + 1) * height * 1.08
        place = (text_width / (width + 0.1), bottom / total, widths[number] / (width + 0.1), height / total)
        axes = figure.add_axes(place)
        axes.imshow(strip, aspect="auto", interpolation="lanczos")
        axes.set_axis_off()
        known = row.predicted is not None
        wrong = known and row.predicted != row.label
        if wrong:
            box = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=_WRONG, linewidth=3)
            axes.add_patch(box)
        sure = f" {row.probability:.0%}" if row.probability is not None else ""
        lines = [(short_text(row.label, 27), "black", 9.5, "bold")]
        if known:
            verdict = f"✗ {short_text(row.predicted or '', 24)}{sure}" if wrong else f"✓{sure}"
            lines.append((verdict, _WRONG if wrong else _RIGHT, 9.5, "normal"))
        if row.note:
            lines.append((short_text(row.note, 38), "#57606a", 6.5, "normal"))
        # Axes of their own, so that text that is wider than expected is cut off and does not run into the frames.
        beside = figure.add_axes((0, bottom / total, (text_width - 0.05) / (width + 0.1), height / total))
        beside.set_axis_off()
        for line, (text, colour, size, weight) in enumerate(lines):
            beside.text(
                0.035,
                0.78 - 0.24 * line,
                text,
                transform=beside.transAxes,
                clip_on=True,
                color=colour,
                fontsize=size,
                fontweight=weight,
                va="center",
                parse_math=False,
            )
    if title:
        figure.text(0.08 / width, 1 - 0.17 / total, title, fontsize=11, va="center", parse_math=False)
    save_figure(path, figure)


def _strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns frames (n, h, w, 3) side by side with white between: (h, w', 3)."""
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3 or len(frames) == 0:
        raise ValueError(f"frames of a contact sheet are uint8 (n, h, w, 3), not {frames.dtype} {frames.shape}")
    gap = np.full((frames.shape[1], max(1, frames.shape[2] // 50), 3), 255, dtype=np.uint8)
    pieces = [piece for frame in frames for piece in (frame, gap)]
    return np.concatenate(pieces[:-1], axis=1)
