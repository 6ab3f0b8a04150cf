"""Pictures of an evaluation: the confusion matrix, and videos as rows of frames.

Figures are made without pyplot: that needs no screen, and shares nothing with whatever else draws in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dualformer.weights.atomic import atomic_write

_COUNTS_UP_TO = 20  # classes; beyond, numbers no longer fit into the cells
_RIGHT, _WRONG = "#1a7f37", "#cf222e"
_DPI = 110


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


def draw_confusion(path: Path, matrix: NDArray[np.int64], classes: tuple[str, ...], *, title: str) -> None:
    """A PNG of the confusion matrix (row: true class). Colours: shares of a row. Up to 20 classes, counts too."""
    n = len(classes)
    if matrix.shape != (n, n):
        raise ValueError(f"a confusion matrix of {n} classes is {n}x{n}, not {matrix.shape}")
    names = [_short(name, 32) for name in classes]
    cell = min(0.55, max(0.13, 15 / n))
    font = min(10.0, 62 * cell)
    margin = 0.9 + max(map(len, names)) * font * 0.0088
    inside = max(n * cell, 2.6)
    figure = Figure(figsize=(inside + margin + 1.0, inside + margin + 0.5), layout="constrained")
    axes = figure.add_subplot()
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(range(n), labels=names, rotation=90, fontsize=font, parse_math=False)
    axes.set_yticks(range(n), labels=names, fontsize=font, parse_math=False)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#d0d7de", linewidth=min(0.8, cell))
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=11, parse_math=False)
    if n <= _COUNTS_UP_TO:
        for row, column in np.argwhere(matrix > 0).tolist():
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=font, color=colour)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.015, shrink=0.7, aspect=30)
    bar.set_label("share of the true class's videos")
    _save(path, figure, trim=True)


def draw_contact_sheet(path: Path, rows: Sequence[ContactRow], *, title: str = "") -> None:
    """A PNG with one row of frames per video, time from left to right; wrong predictions in red with a red frame."""
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
        lines = [(_short(row.label, 27), "black", 9.5, "bold")]
        if known:
            verdict = f"✗ {_short(row.predicted or '', 24)}{sure}" if wrong else f"✓{sure}"
            lines.append((verdict, _WRONG if wrong else _RIGHT, 9.5, "normal"))
        if row.note:
            lines.append((_short(row.note, 38), "#57606a", 6.5, "normal"))
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
    _save(path, figure)


def _strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (n, h, w, 3) side by side with white between: (h, w', 3)."""
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3 or len(frames) == 0:
        raise ValueError(f"frames of a contact sheet are uint8 (n, h, w, 3), not {frames.dtype} {frames.shape}")
    gap = np.full((frames.shape[1], max(1, frames.shape[2] // 50), 3), 255, dtype=np.uint8)
    pieces = [piece for frame in frames for piece in (frame, gap)]
    return np.concatenate(pieces[:-1], axis=1)


def _short(text: str, most: int) -> str:
    """In one line of ``most`` letters; a single long word is cut in its middle, where file names differ least."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    shortened = shorten(text, most, placeholder=" …")
    return shortened if len(shortened) > most // 2 else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"


def _save(path: Path, figure: Figure, *, trim: bool = False) -> None:
    """``trim`` fits the picture to what is drawn: square axes move inside their place, and labels with them."""
    box = "tight" if trim else None
    atomic_write(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI, bbox_inches=box))
