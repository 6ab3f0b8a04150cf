"""Draws the charts of a report from its data."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from math import floor, isfinite, log10
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from dualformer.report import svg_charts as svg
from dualformer.report.report_plan import headline_metric
from dualformer.scoring.plots import short_text
from dualformer.video.clip_reader import Views

NAMES = {"top1": "top-1 accuracy", "mean_average_precision": "mean average precision"}
MOST_NAMED = 40
"""Classes, up to which rows and columns of the confusion matrix have names and cells their counts."""
_LETTERS = 24
_RIGHT, _WRONG = (31, 111, 214), (214, 82, 31)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def headline_strip(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns arguments of the template's ``strip``: the main figure with its interval, and the baseline."""
    several = "top1" not in figures
    main = headline_metric(several)
    if f"{main}_interval" not in figures:
        return None
    reference = figures["chance" if several else "majority_class"]
    words = "a random order" if several else "always the commonest class"
    low, high = figures[f"{main}_interval"]
    about = f"{NAMES[main]} {figures[main]:.1%}, interval {low:.1%} to {high:.1%}; {words}: {reference:.1%}"
    return {"share": figures[main], "interval": (low, high), "reference": reference, "about": about}


def training_charts(details: Mapping[str, Any]) -> list[svg.Chart]:
    """Draws loss, accuracy and learning rate over the epochs, with a line at the epoch that the weights are of."""
    if details["training"] is None:
        return []
    log, epoch = details["training"]["epochs"], details["training"]["epoch"]
    found: list[svg.Chart] = []

    def finish_epochs(axes: Axes, about: str) -> None:
        svg.scale_counts(axes.xaxis, [each["epoch"] for each in log])
        if epoch is not None:
            axes.axvline(epoch, **svg.DASHED)
            ends = epoch > sum(axes.get_xlim()) / 2
            place = {"xytext": (-4 if ends else 4, -11), "ha": "right" if ends else "left"}
            axes.annotate(
                "these weights", (epoch, 1), xycoords=("data", "axes fraction"), textcoords="offset points", **place
            )
        found.append(svg.finish(axes, f"{about} over the epochs of the training"))

    axes = svg.new_axes("epoch", "cross-entropy")
    svg.scale_numbers(axes.yaxis, _plot_epochs(axes, log, "loss"))
    finish_epochs(axes, "Loss")
    several = any("val_map" in each for each in log)
    axes = svg.new_axes("epoch", "F1 and mAP" if several else "top-1 accuracy")
    scores = _plot_epochs(axes, log, "f1" if several else "top1")
    scores += _plot_epochs(axes, log, "map", "mAP") if several else []
    if scores:
        svg.scale_percent(axes.yaxis)
        finish_epochs(axes, "F1 and mean average precision" if several else "Top-1 accuracy")
    power = floor(log10(max((each["lr"] for each in log if each["lr"] > 0), default=1.0)))
    rates = [each["lr"] / 10**power for each in log]
    axes = svg.new_axes("epoch", f"learning rate, in 10{str(power).translate(_SUPERSCRIPT)}")
    _plot(axes, [each["epoch"] for each in log], rates, colour=3)
    svg.scale_numbers(axes.yaxis, rates)
    finish_epochs(axes, "Learning rate")
    return found


def calibration_chart(figures: Mapping[str, Any], details: Mapping[str, Any]) -> svg.Chart:
    """Draws accuracy, or how often a yes is right, by confidence: bars against the diagonal, and their counts below.

    A line in each bar is its mean confidence; the gap between bar and line is drawn, too.
    """
    several, bins = details["multi_label"], details["calibration"]["bins"]
    axes = svg.new_axes("", "share that is right" if several else "accuracy", below=100)
    svg.scale_percent(axes.xaxis)
    svg.scale_percent(axes.yaxis)
    axes.tick_params(axis="x", labelbottom=False)
    counts = axes.inset_axes((0, -60 / 244, 1, 46 / 244), xlabel="confidence")
    svg.scale_percent(counts.xaxis)
    most = max(each["count"] for each in bins)
    counts.set_yticks([0, most], ["0", f"{most:,}"])
    counts.set_ylim(0, most)
    for each in bins:
        right, sure = each["right"], each["confidence"]
        gap = 1 / 382
        left, wide = each["low"] + gap, each["high"] - each["low"] - 2 * gap
        counts.bar(left, each["count"], wide, align="edge", color=svg.FAINT, alpha=0.6)
        if right is None:
            continue
        bars = [*axes.bar(left, right, wide, align="edge", color=svg.SERIES[0], alpha=0.75)]
        if sure > right:
            bars += axes.bar(left, sure - right, wide, right, align="edge", color=svg.SERIES[1], alpha=0.4)
        for bar in bars:
            said = f"{each['count']:,}, said {sure:.1%}, are {right:.1%}"
            svg.set_hover(bar, f"{each['low']:.0%} to {each['high']:.0%}: {said}")
        axes.hlines(sure, left, left + wide, colors=svg.INK, linewidth=1.5)
    axes.plot([0, 1], [0, 1], **svg.DASHED)
    if several:
        return svg.finish(axes, "How often a yes is right, by its probability")
    return svg.finish(axes, f"Accuracy by confidence; expected calibration error {figures['calibration_error']:.3f}")


def coverage_chart(details: Mapping[str, Any]) -> svg.Chart | None:
    """Draws the share of mistakes among the surest videos."""
    if (surest := details["calibration"]["surest"]) is None:
        return None
    axes = svg.new_axes("share of the videos, the surest first", "mistakes among them")
    _plot(axes, *zip(*surest, strict=True), colour=1)
    svg.scale_percent(axes.xaxis)
    svg.scale_percent(axes.yaxis, [0.0, *(error for _, error in surest)])
    return svg.finish(axes, "Share of mistakes among the surest videos, by how many of them are taken")


def views_chart(figures: Mapping[str, Any]) -> svg.Chart | None:
    """Draws accuracy by the number of clips, a line for each number of crops (Fig. 6 of the paper)."""
    rows = [{**each, "count": Views.parse(each["views"])} for each in figures.get("by_views", ())]
    if len(rows) < 2:
        return None
    main = headline_metric("top1" not in figures)
    axes = svg.new_axes("clips of a video", NAMES[main])
    clips = [each["count"].clips for each in rows]
    all_crops = sorted({each["count"].crops for each in rows})
    for number, crops in enumerate(all_crops):
        own = [each for each in rows if each["count"].crops == crops]
        # Side by side, or the intervals of the two lines would lie on one another.
        apart = 0.0 if len(all_crops) < 2 else (-0.008, 0.008)[number] * max(clips)
        x = [each["count"].clips + apart for each in own]
        label = "1 crop" if crops == 1 else f"{crops} crops"
        _plot(axes, x, [each[main] for each in own], colour=number, label=label, marker="o")
        for place, each in zip(x, own, strict=True):
            words = f"{each['views']}: {each[main]:.1%}"
            _plot_point(axes, place, each[main], each.get(f"{main}_interval"), words, colour=number)
    svg.scale_counts(axes.xaxis, clips)
    svg.scale_percent(axes.yaxis, [bound for each in rows for bound in (each[main], *each.get(f"{main}_interval", ()))])
    return svg.finish(axes, f"{NAMES[main].capitalize()} by the number of views")


def compared_chart(details: Mapping[str, Any]) -> svg.Chart | None:
    """Draws accuracy by cost, on a logarithmic axis (Fig. 1 of the paper)."""
    if (rows := details["compared"]) is None:
        return None
    main = NAMES[headline_metric(details["multi_label"])]
    axes = svg.new_axes("GFLOPs a video (10⁹ multiply-adds, all views)", main)
    for number, row in enumerate(rows):
        words = f"{row['name']}, {row['views']}: {row['value']:.1%}"
        _plot_point(axes, row["gmacs"], row["value"], row["interval"], words, colour=number % len(svg.SERIES))
        axes.annotate(str(number + 1), (row["gmacs"], row["value"]), (7, 6), textcoords="offset points")
    svg.scale_log(axes.xaxis, [row["gmacs"] for row in rows])
    svg.scale_percent(axes.yaxis, [bound for row in rows for bound in (row["value"], *(row["interval"] or ()))])
    return svg.finish(axes, f"{main.capitalize()} by the cost of a video; the numbers are in the table")


def confusion_chart(cells: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Draws the confusion matrix: counts where they can be read, an image where there are too many classes.

    ``cells``: true class, predicted class, count. Depth of colour: the share of the true class's videos.
    """
    about = f"Confusion matrix of {len(classes)} classes; what is wrong in it is in the tables below"
    totals: dict[int, int] = {}
    for row, _, count in cells:
        totals[row] = totals.get(row, 0) + count
    if len(classes) > MOST_NAMED:
        return _confusion_image(cells, totals, len(classes), about)
    n = len(classes)
    names = [short_text(name, _LETTERS) for name in classes]
    inside = n * (30 if n <= 20 else 22)
    margin = 30 + 6.6 * max(map(len, names))
    side = round(margin + inside + 2)
    figure = Figure(figsize=(side / 72, side / 72), dpi=72)
    axes = figure.add_axes((margin / side, 2 / side, inside / side, inside / side), xlim=(0, n), ylim=(n, 0))
    axes.add_patch(Rectangle((0, 0), n, n, facecolor=svg.RAISED, zorder=0))
    axes.spines.bottom.set_visible(False)
    axes.xaxis.tick_top()
    middles = np.arange(n) + 0.5
    axes.set_xticks(middles, names, rotation=90, rotation_mode="anchor", ha="left", va="center")
    axes.set_yticks(middles, names)
    axes.tick_params(length=0, pad=6)
    for label, name in zip([*axes.get_xticklabels(), *axes.get_yticklabels()], [*classes, *classes], strict=True):
        svg.set_hover(label, name)
    middle = (margin + inside / 2) / side
    figure.text(middle, 1 - 14 / side, "predicted", ha="center")
    figure.text(14 / side, 1 - middle, "true", ha="center", rotation=90, rotation_mode="anchor")
    for row, column, count in cells:
        share = count / totals[row]
        colour = svg.SERIES[0] if row == column else svg.SERIES[1]
        cell = axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, alpha=0.15 + 0.85 * share))
        svg.set_hover(cell, f"{classes[row]} taken for {classes[column]}: {count} of {totals[row]}")
        deep = svg.ON_DEEP if share > 0.55 else svg.INK
        axes.text(column + 0.5, row + 0.5, str(count), ha="center", va="center", color=deep)
    axes.hlines(range(n + 1), 0, n, colors=svg.LINE, linewidth=1)
    axes.vlines(range(n + 1), 0, n, colors=svg.LINE, linewidth=1)
    return svg.to_svg(figure, about, "confusion", width=str(side))


def _confusion_image(cells: Sequence[Sequence[int]], totals: dict[int, int], classes: int, about: str) -> Markup:
    """Draws one pixel a cell, transparent where there is nothing, so that it suits a light and a dark page."""
    pixels = np.zeros((classes, classes, 4), dtype=np.uint8)
    for row, column, count in cells:
        depth = 0.4 + 0.6 * count / totals[row]  # a single video shall be seen
        pixels[row, column] = (*(_RIGHT if row == column else _WRONG), round(255 * depth))
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, format="PNG", optimize=True)
    source = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    return Markup('<img src="{}" alt="{}" width="{}" height="{}" class="confusion pixels">').format(
        source, about, classes, classes
    )


def _plot_epochs(axes: Axes, log: Sequence[Mapping[str, Any]], key: str, name: str | None = None) -> list[float]:
    """Draws training, validation and averaged weights, as far as they are in the log, and returns the values."""
    values: list[float] = []
    kinds = (("train", "training", 1), ("val", "validation", 0), ("ema", "validation, averaged weights", 2))
    for split, words, colour in kinds:
        known = [(each["epoch"], each.get(f"{split}_{key}")) for each in log]
        points = [(x, y) for x, y in known if isinstance(y, (int, float)) and isfinite(y)]
        if points:
            label, own = (f"{words}, {name}", colour + 3) if name else (words, colour)
            _plot(
                axes, *zip(*points, strict=True), colour=own, label=label, linestyle="--" if split == "train" else "-"
            )
            values += [y for _, y in points]
    return values


def _plot(axes: Axes, x: Sequence[float], y: Sequence[float], *, colour: int, **style: Any) -> None:
    """Draws a line; a single point is a dot."""
    axes.plot(x, y, **{"color": svg.SERIES[colour], "marker": "o" if len(x) == 1 else None, **style})


def _plot_point(axes: Axes, x: float, y: float, interval: Sequence[float] | None, words: str, *, colour: int) -> None:
    """Draws a dot with ``words`` on hovering, and its interval."""
    if interval is not None:
        style = {"linewidth": 1.4, "markeredgewidth": 1.4, "markeredgecolor": svg.SERIES[colour], "alpha": 0.75}
        axes.plot([x, x], interval, color=svg.SERIES[colour], marker="_", **style)
    [dot] = axes.plot(x, y, "o", color=svg.SERIES[colour])
    svg.set_hover(dot, words)
