"""Draws matplotlib charts as SVG within a page: text stays text, colours follow the page, light or dark.

The page's style sheet sets the fonts, and holds the colours as variables: the colours used here are placeholders.
"""

import io
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

_VARIABLES = ("ink", "faint", "line", "paper", "raised", "on-deep", "s0", "s1", "s2", "s3", "s4", "s5")
INK, FAINT, LINE, PAPER, RAISED, ON_DEEP, *SERIES = (f"#0000{number:02d}" for number in range(1, 13))
DASHED = {"color": FAINT, "linestyle": (0, (3, 3)), "linewidth": 1.25}
"""How lines look that charts are read against."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dualformer",
    "text.parse_math": False,
    "text.color": FAINT,
    "font.size": 11.5,
    "axes.labelsize": 12,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 1,
    **dict.fromkeys(("axes.spines.top", "axes.spines.left", "axes.spines.right"), False),
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 1,
    **dict.fromkeys(("xtick.color", "ytick.color"), FAINT),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 11.5),
    "xtick.major.size": 4,
    "xtick.major.width": 1,
    "xtick.major.pad": 5,
    "ytick.major.size": 0,
    "ytick.major.pad": 6,
    "lines.linewidth": 2,
    "lines.dashed_pattern": (2.5, 1.5),
    "lines.markersize": 8,
    "lines.markeredgecolor": PAPER,
}
_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 22, 12, 44
_INSIDE = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_HOVER = "hover "


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart of a page."""

    svg: Markup
    legend: Sequence[dict[str, Any]] = ()
    """Name, number of the colour, and whether there is a line, a dashed one, and dots."""


def chart_style() -> AbstractContextManager[None]:
    """Returns the context in which everything in this module is called."""
    return mpl.rc_context(_STYLE)


def new_axes(x: str, y: str, *, below: int = _BOTTOM) -> Axes:
    """Axes of 382 by 244 pixels with labels, within a figure that has ``below`` pixels under them."""
    height = _HEIGHT - _BOTTOM + below
    figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72)
    axes = figure.add_axes((_LEFT / _WIDTH, below / height, _INSIDE[0] / _WIDTH, _INSIDE[1] / height))
    axes.grid(axis="y")
    axes.set_xlabel(x, va="baseline")
    axes.set_ylabel(y, va="baseline", rotation_mode="anchor")
    axes.xaxis.set_label_coords(0.5, -36 / _INSIDE[1])
    axes.yaxis.set_label_coords((13 - _LEFT) / _INSIDE[0], 0.5)
    return axes


def scale_numbers(axis: Axis, values: Iterable[float]) -> None:
    """Sets round ticks from 0 on, up to the largest of ``values``."""
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, max(filter(isfinite, values), default=0) or 1)
    _set_scale(axis, ticks, [f"{tick:g}" for tick in ticks])


def scale_percent(axis: Axis, values: Iterable[float] = ()) -> None:
    """Sets round percentages around ``values``, within 0 to 100 %; all of that where there are none."""
    known = [100 * value for value in values] or [0.0, 100.0]
    room = max(2.0, 0.06 * (max(known) - min(known)))
    low, high = max(0.0, min(known) - room), min(100.0, max(known) + room)
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    _set_scale(axis, [tick / 100 for tick in ticks], [f"{tick:g}%" for tick in ticks])


def scale_log(axis: Axis, values: Sequence[float]) -> None:
    """Sets powers of ten, where there is room also 2 and 5 times them. The axis is long enough for several ticks."""
    room = max(1.3, (10 * min(values) / max(values)) ** 0.5)
    low, high = min(values) / room, max(values) * room
    known = LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,), numticks=20).tick_values(low, high)
    ticks = [tick for tick in known if low <= tick <= high]
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_ticks([], minor=True)
    _set_scale(axis, ticks, [f"{tick:,.12g}" for tick in ticks], (low, high))


def scale_counts(axis: Axis, values: Iterable[int]) -> None:
    """Sets a tick at each of ``values``; of many, at some."""
    known = sorted(set(values))
    room = 0.5 if len(known) < 2 else 0.04 * (known[-1] - known[0])
    ticks = known[:: ceil(len(known) / 10)]
    _set_scale(axis, ticks, list(map(str, ticks)), (known[0] - room, known[-1] + room))


def _set_scale(
    axis: Axis, ticks: Sequence[float], words: Sequence[str], limits: tuple[float, float] | None = None
) -> None:
    axis.set_ticks(ticks, words)
    set_limits = axis.axes.set_xlim if axis is axis.axes.xaxis else axis.axes.set_ylim
    set_limits(limits or (ticks[0], ticks[-1]))


def set_hover(artist: Artist, words: str) -> None:
    """Shows ``words`` while the mouse is over ``artist``."""
    artist.set_gid(_HOVER + words)


def finish(axes: Axes, about: str) -> Chart:
    """Returns the chart, with a legend if there are several series with names.

    ``about``: what it shows, for those who do not see it.
    """
    legend = [
        {
            "name": name,
            "colour": SERIES.index(str(handle.get_color())),
            "line": True,
            "dashed": handle.get_linestyle() == "--",
            "dots": handle.get_marker() == "o",
        }
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        if isinstance(handle, Line2D)
    ]
    figure = axes.figure
    assert isinstance(figure, Figure)
    return Chart(svg=to_svg(figure, about, "chart"), legend=legend if len(legend) > 1 else ())


def to_svg(figure: Figure, about: str, css_class: str, **attributes: str) -> Markup:
    """Returns SVG for a page whose policy allows no style attributes, and which has other ids."""
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser's fonts are others
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style", "}clipPath")):
                parent.remove(child)
            if child.tag.endswith("}text") and not parent.get("id", "").startswith(_HOVER):
                child.set("pointer-events", "none")  # what lies below has the words
    for element in root.iter():
        _clean(element)
    view = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": about, "class": css_class}
    root.attrib.clear()
    root.attrib |= view | attributes
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _clean(element: ElementTree.Element) -> None:
    """Turns styles into attributes, colours into variables and words into titles; removes namespaces and fonts."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for style in filter(None, attributes.pop("style", "").split(";")):
        name, _, value = style.partition(":")
        attributes[name.strip()] = value.strip()
    if element.tag == "g" and (name := attributes.pop("id", "")).startswith(_HOVER):
        title = ElementTree.Element("title")
        title.text = name.removeprefix(_HOVER)
        element.insert(0, title)
    element.attrib.clear()
    for key, value in attributes.items():
        if not key.startswith(("font", "clip-path")):
            variable = value.startswith("#0000") and f"var(--{_VARIABLES[int(value[5:]) - 1]})"
            element.set(key, variable or value)
