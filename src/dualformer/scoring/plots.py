"""Draws the confusion matrix, and saves the matplotlib figures of all rooms.

Figures are made without pyplot: that needs no screen, and no figure is shared with other code in this process.
"""

from pathlib import Path
from textwrap import shorten

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dualformer.files import atomic_write
from dualformer.scoring.fonts import fonts_for
from dualformer.text_encoding import without_surrogates

_COUNTS_UP_TO = 20  # classes; beyond, numbers no longer fit into the cells
_DPI = 110


def draw_confusion(path: Path, matrix: NDArray[np.int64], classes: tuple[str, ...], *, title: str) -> None:
    """Draws a PNG of the confusion matrix (rows: true classes) in shares of a row, with counts up to 20 classes."""
    n = len(classes)
    if matrix.shape != (n, n):
        raise ValueError(f"a confusion matrix of {n} classes is {n}x{n}, not {matrix.shape}")
    names = [short_text(name, 32) for name in classes]
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
    save_figure(path, figure, trim=True)


def short_text(text: str, most: int) -> str:
    """Returns one line of ``most`` letters; a single long word is cut in its middle, where file names differ least."""
    text = " ".join(without_surrogates(text).split())
    if len(text) <= most:
        return text
    shortened = shorten(text, most, placeholder=" …")
    return shortened if len(shortened) > most // 2 else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"


def save_figure(path: Path, figure: Figure, *, trim: bool = False) -> None:
    """Saves a PNG. ``trim`` cuts off empty margins: square axes move inside their place, and labels with them."""
    box = "tight" if trim else None
    with fonts_for(figure):
        atomic_write(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI, bbox_inches=box))
