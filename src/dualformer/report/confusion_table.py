"""The confusion matrix within a page: cells with counts where they can be read, an image where there are too many."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

from dualformer.report.charts import tag
from dualformer.scoring.plots import short_text

MOST_NAMED = 40
"""Classes, up to which rows and columns have names and cells their counts."""
_LETTERS = 24
_RIGHT, _WRONG = (31, 111, 214), (214, 82, 31)


def confusion_picture(cells: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """``cells``: true class, predicted class, count. Depth of colour: the share of the true class's videos."""
    about = f"Confusion matrix of {len(classes)} classes; what is wrong in it is in the tables below"
    totals: dict[int, int] = {}
    for row, _, count in cells:
        totals[row] = totals.get(row, 0) + count
    if len(classes) > MOST_NAMED:
        return _image(cells, totals, len(classes), about)
    return _table(cells, totals, classes, about)


def _table(cells: Sequence[Sequence[int]], totals: dict[int, int], classes: Sequence[str], about: str) -> Markup:
    names = [short_text(name, _LETTERS) for name in classes]
    size = 30 if len(classes) <= 20 else 22
    margin = 30 + 6.6 * max(map(len, names))
    inside = size * len(classes)
    parts: list[Markup] = [tag("rect", x=margin, y=margin, width=inside, height=inside, class_="ground")]
    for number, (name, short) in enumerate(zip(classes, names, strict=True)):
        middle = margin + size * (number + 0.5)
        full = tag("title", name)
        parts.append(tag("text", full, short, x=margin - 6, y=middle + 4, class_="tick", text_anchor="end"))
        turned = f"rotate(-90 {middle:.1f} {margin - 6:.1f})"
        parts.append(tag("text", full, short, x=middle + 4, y=margin - 6, class_="tick", transform=turned))
    for row, column, count in cells:
        share = count / totals[row]
        left, top = margin + size * column, margin + size * row
        said = f"{classes[row]} taken for {classes[column]}: {count} of {totals[row]}"
        kind = "right" if row == column else "wrong"
        box = {"x": left, "y": top, "width": size, "height": size, "fill_opacity": 0.15 + 0.85 * share}
        parts.append(tag("rect", tag("title", said), class_=f"cell {kind}", **box))
        deep = "deep" if share > 0.55 else "light"
        at = {"x": left + size / 2, "y": top + size / 2 + 4, "text_anchor": "middle"}
        parts.append(tag("text", str(count), class_=f"number {deep}", **at))
    for number in range(len(classes) + 1):
        at = margin + size * number
        parts.append(tag("line", x1=margin, x2=margin + inside, y1=at, y2=at, class_="grid"))
        parts.append(tag("line", x1=at, x2=at, y1=margin, y2=margin + inside, class_="grid"))
    middle = margin + inside / 2
    parts.append(tag("text", "predicted", x=middle, y=14, class_="name", text_anchor="middle"))
    turned = f"rotate(-90 14 {middle:.1f})"
    parts.append(tag("text", "true", x=14, y=middle, class_="name", text_anchor="middle", transform=turned))
    side = margin + inside + 2
    view = f"0 0 {side:.0f} {side:.0f}"
    return tag("svg", *parts, viewBox=view, width=round(side), role="img", aria_label=about, class_="confusion")


def _image(cells: Sequence[Sequence[int]], totals: dict[int, int], classes: int, about: str) -> Markup:
    """One pixel a cell, transparent where there is nothing, so that it goes with a light and a dark page."""
    pixels = np.zeros((classes, classes, 4), dtype=np.uint8)
    for row, column, count in cells:
        depth = 0.4 + 0.6 * count / totals[row]  # a single video shall be seen
        pixels[row, column] = (*(_RIGHT if row == column else _WRONG), round(255 * depth))
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, format="PNG", optimize=True)
    source = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    return tag("img", src=source, alt=about, width=classes, height=classes, class_="confusion pixels")
