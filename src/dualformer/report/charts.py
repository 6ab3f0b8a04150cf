"""Charts as SVG within a page: text stays text, colours follow the page's, and light and dark both work.

What something looks like says the page's style sheet, by class; here are only places and words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from markupsafe import Markup, escape

COLOURS = 6
"""Series that are told apart by colour."""

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 22, 12, 44

Place = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What runs along a side. ``ticks``: values with their words."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def at(self, value: float) -> float:
        """How far along the axis a value lies: 0 at ``low``, 1 at ``high``."""
        if self.log:
            return (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together. ``colour``: a number from 0; ``words``: one for each point, shown on hovering."""

    name: str
    points: Sequence[Place]
    spans: Sequence[tuple[float, float] | None] = ()
    """Interval of each point, from and to."""
    colour: int = 0
    line: bool = True
    dashed: bool = False
    dots: bool = False
    marks: Sequence[str] = ()
    """A letter or two beside each point."""
    words: Sequence[str] = ()


def numbers(values: Iterable[float], label: str, *, zero: bool = True, show: Callable[[float], str] = "{:g}".format):
    """An axis with round numbers that holds ``values``; ``zero``: from 0 on."""
    known = [value for value in values if isfinite(value)]
    low, high = (0.0 if zero else min(known, default=0.0)), max(known, default=1.0)
    if high <= low:
        low, high = (low, low + 1) if zero else (low - 0.5, low + 0.5)
    step = _round_step((high - low) / 5)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    ticks = tuple((i * step, show(round(i * step, 12))) for i in range(first, last + 1))
    return Axis(label=label, low=first * step, high=last * step, ticks=ticks)


def shares(values: Iterable[float], label: str, *, whole: bool = False) -> Axis:
    """An axis in per cent around ``values``, within 0 to 100 %; ``whole``: all of that."""
    known = list(values)
    if whole or not known:
        low, high = 0.0, 100.0
    else:
        low, high = 100 * min(known), 100 * max(known)
        room = max(2.0, 0.06 * (high - low))
        low, high = max(0.0, low - room), min(100.0, high + room)
    step = 20.0 if whole or not known else _round_step((high - low) / 5)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    ticks = tuple((i * step / 100, f"{i * step:g}%") for i in range(first, last + 1))
    return Axis(label=label, low=first * step / 100, high=last * step / 100, ticks=ticks)


def powers(values: Iterable[float], label: str) -> Axis:
    """A logarithmic axis with ticks at 1, 2 and 5 of every power of ten, or at the powers alone where it is long.

    It is long enough to have several.
    """
    known = [value for value in values if value > 0]
    low, high = min(known, default=1.0), max(known, default=1.0)
    room = max(1.3, (10 / (high / low)) ** 0.5)
    low, high = low / room, high * room
    steps = (1, 2, 5) if high / low < 300 else (1,)
    found = [digit * 10.0**power for power in range(floor(log10(low)), ceil(log10(high)) + 1) for digit in steps]
    ticks = tuple((value, f"{value:,.12g}") for value in found if low <= value <= high)
    return Axis(label=label, low=low, high=high, ticks=ticks, log=True)


def counted(values: Iterable[int], label: str) -> Axis:
    """An axis of whole numbers, with a tick at each of ``values``; of many, at some."""
    known = sorted(set(values))
    every = ceil(len(known) / 10)
    room = 0.5 if len(known) < 2 else 0.04 * (known[-1] - known[0])
    ticks = tuple((float(value), str(value)) for value in known[::every])
    return Axis(label=label, low=known[0] - room, high=known[-1] + room, ticks=ticks)


def chart(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    about: str,
    lines: Sequence[tuple[float, str]] = (),
    legend: bool = True,
) -> Markup:
    """Points and lines between axes, with a legend where there are several. ``about``: what it shows, for those who
    do not see it. ``lines``: upright ones at a value of x, with a word."""

    def place(point: Place) -> Place:
        return _across(x, point[0]), _up(y, point[1])

    parts = [_axes(x, y)]
    for value, word in lines:
        across = _across(x, value)
        parts.append(tag("line", x1=across, x2=across, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="mark"))
        left = across > _WIDTH / 2
        at = {"x": across + (-4 if left else 4), "y": _TOP + 11, "text_anchor": "end" if left else "start"}
        parts.append(tag("text", word, class_="note", **at))
    for each in series:
        places = [place(point) for point in each.points]
        inside: list[Markup] = []
        if each.line and len(places) > 1:
            path = "M" + "L".join(f"{across:.1f},{up:.1f}" for across, up in places)
            inside.append(tag("path", d=path, class_="line dashed" if each.dashed else "line"))
        for number, (across, up) in enumerate(places):
            word = tag("title", each.words[number]) if each.words else Markup()
            if each.spans and (span := each.spans[number]) is not None:
                inside.append(_whisker(across, _up(y, span[0]), _up(y, span[1])))
            if each.dots or len(places) == 1:
                inside.append(tag("circle", word, cx=across, cy=up, r=4, class_="dot"))
            if each.marks:
                inside.append(tag("text", each.marks[number], x=across + 7, y=up - 6, class_="note"))
        parts.append(tag("g", *inside, class_=f"s{each.colour % COLOURS}"))
    picture = _picture(parts, about)
    return picture + _legend(series) if legend and len(series) > 1 else picture


def strip(share: float, interval: Sequence[float], reference: float | None = None, *, about: str = "") -> Markup:
    """A share between 0 and 100 % with its interval, and a tick at what it should be held against.

    Without words ``about`` it is for the eye only, beside the same as a number.
    """
    width, height = 200, 16
    parts = [
        tag("rect", x=0, y=6, width=width, height=4, rx=2, class_="track"),
        tag("rect", x=width * interval[0], y=4, width=width * (interval[1] - interval[0]), height=8, class_="range"),
        tag("circle", cx=min(width - 4, max(4, width * share)), cy=8, r=4, class_="dot"),
    ]
    if reference is not None:
        across = width * reference
        parts.insert(1, tag("line", x1=across, x2=across, y1=0, y2=height, class_="mark"))
    known = {"role": "img", "aria_label": about} if about else {"aria_hidden": "true"}
    return tag("svg", *parts, viewBox=f"0 0 {width} {height}", class_="strip s0", **known)


def reliability(
    bins: Sequence[tuple[float, float, int, float | None, float | None]], *, about: str, yes: str
) -> Markup:
    """Bins from, to, count, mean confidence and share that is right: bars against the diagonal, and their counts below.

    A line in each bar is its confidence; what a bar lacks to it is drawn, too. ``yes``: what the upper axis is called.
    """
    x, y = shares([], "confidence", whole=True), shares([], yes, whole=True)
    parts = [_axes(x, y, words=False)]
    for low, high, count, confidence, right in bins:
        if right is None or confidence is None:
            continue
        left, wide = _across(x, low) + 1, _across(x, high) - _across(x, low) - 2
        said = f"{low:.0%} to {high:.0%}: {count:,}, said {confidence:.1%}, are {right:.1%}"
        bar = {"x": left, "width": wide, "y": _up(y, right), "height": _up(y, 0) - _up(y, right)}
        parts.append(tag("rect", tag("title", said), class_="bar", **bar))
        sure = _up(y, confidence)
        if confidence > right:
            gap = {"x": left, "width": wide, "y": sure, "height": _up(y, right) - sure}
            parts.append(tag("rect", tag("title", said), class_="gap", **gap))
        parts.append(tag("line", x1=left, x2=left + wide, y1=sure, y2=sure, class_="sure"))
    ends = {"x1": _across(x, 0), "y1": _up(y, 0), "x2": _across(x, 1), "y2": _up(y, 1)}
    parts.append(tag("line", class_="mark", **ends))
    top, height, most = _HEIGHT - _BOTTOM + 14, 46, max(each[2] for each in bins)
    for low, high, count, _, _ in bins:
        tall = height * count / most
        left, wide = _across(x, low) + 1, _across(x, high) - _across(x, low) - 2
        parts.append(tag("rect", x=left, width=wide, y=top + height - tall, height=tall, class_="count"))
    parts.append(tag("text", f"{most:,}", x=_LEFT - 6, y=top + 9, class_="tick", text_anchor="end"))
    parts.append(tag("text", "0", x=_LEFT - 6, y=top + height + 3, class_="tick", text_anchor="end"))
    base = top + height
    parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=base, y2=base, class_="axis"))
    for value, word in x.ticks:
        parts.append(tag("text", word, x=_across(x, value), y=base + 15, class_="tick", text_anchor="middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag("text", x.label, x=middle, y=base + 32, class_="name", text_anchor="middle"))
    return _picture(parts, about, height=base + 40)


def tag(name: str, *inside: str, **attributes: object) -> Markup:
    """An element. Text and attributes are escaped; ``class_`` is class, and other underscores are hyphens.

    What is inside of an ``img`` is nothing, and it is not closed.
    """
    words = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value)) for key, value in attributes.items()
    )
    if name == "img":
        return Markup("<{}{}>").format(name, words)
    return Markup("<{}{}>{}</{}>").format(name, words, Markup("").join(map(escape, inside)), name)


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _axes(x: Axis, y: Axis, *, words: bool = True) -> Markup:
    """Lines at the ticks, and words at both sides; ``words``: below, too."""
    parts: list[Markup] = []
    right, base = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value, word in y.ticks:
        up = _up(y, value)
        parts.append(tag("line", x1=_LEFT, x2=right, y1=up, y2=up, class_="grid"))
        parts.append(tag("text", word, x=_LEFT - 6, y=up + 4, class_="tick", text_anchor="end"))
    for value, word in x.ticks:
        across = _across(x, value)
        parts.append(tag("line", x1=across, x2=across, y1=base, y2=base + 4, class_="axis"))
        if words:
            parts.append(tag("text", word, x=across, y=base + 17, class_="tick", text_anchor="middle"))
    parts.append(tag("line", x1=_LEFT, x2=right, y1=base, y2=base, class_="axis"))
    middle = (_TOP + base) / 2
    turned = f"rotate(-90 13 {middle:.1f})"
    parts.append(tag("text", y.label, x=13, y=middle, class_="name", text_anchor="middle", transform=turned))
    if words:
        parts.append(tag("text", x.label, x=(_LEFT + right) / 2, y=base + 36, class_="name", text_anchor="middle"))
    return Markup("").join(parts)


def _whisker(across: float, low: float, high: float) -> Markup:
    path = f"M{across:.1f},{low:.1f}V{high:.1f}M{across - 4:.1f},{low:.1f}h8M{across - 4:.1f},{high:.1f}h8"
    return tag("path", d=path, class_="whisker")


def _legend(series: Sequence[Series]) -> Markup:
    items = []
    for each in series:
        kind = "line dashed" if each.dashed else "line"
        key = [tag("line", x1=0, x2=22, y1=6, y2=6, class_=kind)] if each.line else []
        if each.dots:
            key.append(tag("circle", cx=11, cy=6, r=4, class_="dot"))
        sample = tag("svg", *key, viewBox="0 0 22 12", aria_hidden="true", class_=f"key s{each.colour % COLOURS}")
        items.append(tag("li", sample, " ", each.name))
    return tag("ul", *items, class_="legend")


def _picture(parts: Iterable[Markup], about: str, *, height: float = _HEIGHT) -> Markup:
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {height:g}", role="img", aria_label=about, class_="chart")


def _across(x: Axis, value: float) -> float:
    return _LEFT + x.at(value) * (_WIDTH - _LEFT - _RIGHT)


def _up(y: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - y.at(value) * (_HEIGHT - _TOP - _BOTTOM)


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, no smaller than ``step``."""
    power = 10.0 ** floor(log10(step))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step * (1 - 1e-9))
