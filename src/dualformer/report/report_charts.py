"""Which charts a report has of its data."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, isfinite, log10
from typing import Any

from markupsafe import Markup

from dualformer.report.charts import Series, chart, counted, numbers, powers, reliability, shares, strip
from dualformer.report.report_plan import main_figure

NAMES = {"top1": "top-1 accuracy", "mean_average_precision": "mean average precision"}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def headline_strip(figures: Mapping[str, Any]) -> Markup | None:
    """The main figure with its interval, beside what takes no skill."""
    several = "top1" not in figures
    main = main_figure(several)
    if f"{main}_interval" not in figures:
        return None
    reference = figures["chance" if several else "majority_class"]
    words = "a random order" if several else "always the commonest class"
    low, high = figures[f"{main}_interval"]
    about = f"{NAMES[main]} {figures[main]:.1%}, interval {low:.1%} to {high:.1%}; {words}: {reference:.1%}"
    return strip(figures[main], (low, high), reference, about=about)


def class_strips(details: Mapping[str, Any]) -> list[Markup | str]:
    """The recall of every class with its interval."""
    return [
        "" if row["recall"] is None else strip(row["recall"], row["recall_interval"]) for row in details["per_class"]
    ]


def training_pictures(details: Mapping[str, Any]) -> list[Markup]:
    """Loss, accuracy and learning rate over the epochs, with a line at the epoch that the weights are of."""
    if details["training"] is None:
        return []
    log, epoch = details["training"]["epochs"], details["training"]["epoch"]
    x = counted([each["epoch"] for each in log], "epoch")
    lines = [] if epoch is None else [(float(epoch), "these weights")]
    found: list[Markup] = []
    several = any("val_map" in each for each in log)
    losses = _over_epochs(log, "loss")
    axis = numbers((value for each in losses for _, value in each.points), "cross-entropy")
    found.append(chart(losses, x, axis, about="Loss over the epochs of the training", lines=lines))
    right = [*_over_epochs(log, "f1" if several else "top1"), *(_over_epochs(log, "map", "mAP") if several else [])]
    if right:
        axis = shares([], "F1 and mAP" if several else "top-1 accuracy", whole=True)
        words = "F1 and mean average precision" if several else "Top-1 accuracy"
        found.append(chart(right, x, axis, about=f"{words} over the epochs of the training", lines=lines))
    power = floor(log10(max((each["lr"] for each in log if each["lr"] > 0), default=1.0)))
    rates = [(float(each["epoch"]), each["lr"] / 10**power) for each in log]
    axis = numbers((rate for _, rate in rates), f"learning rate, in 10{str(power).translate(_RAISED)}")
    rate = Series(name="learning rate", points=rates, colour=3)
    found.append(chart([rate], x, axis, about="Learning rate over the epochs of the training", lines=lines))
    return found


def calibration_picture(figures: Mapping[str, Any], details: Mapping[str, Any]) -> Markup:
    """Accuracy, or how often a yes is right, by confidence."""
    bins = [
        (each["low"], each["high"], each["count"], each["confidence"], each["right"])
        for each in details["calibration"]["bins"]
    ]
    if details["multi_label"]:
        return reliability(bins, about="How often a yes is right, by its probability", yes="share that is right")
    about = f"Accuracy by confidence; expected calibration error {figures['calibration_error']:.3f}"
    return reliability(bins, about=about, yes="accuracy")


def coverage_picture(details: Mapping[str, Any]) -> Markup | None:
    """Mistakes among the surest."""
    surest = details["calibration"]["surest"]
    if surest is None:
        return None
    points = [(covered, error) for covered, error in surest]
    x = shares([], "share of the videos, the surest first", whole=True)
    y = shares([0.0, *(error for _, error in points)], "mistakes among them")
    series = Series(name="mistakes", points=points, colour=1)
    return chart([series], x, y, about="Share of mistakes among the surest videos, by how many of them are taken")


def views_picture(figures: Mapping[str, Any]) -> Markup | None:
    """Accuracy by the number of clips, a line for each number of crops (Fig. 6 of the paper)."""
    rows = figures.get("by_views", ())
    if len(rows) < 2:
        return None
    main = main_figure("top1" not in figures)
    series: list[Series] = []
    clips_of = {each["views"]: tuple(map(int, each["views"].split("x"))) for each in rows}
    all_crops = sorted({crops for _, crops in clips_of.values()})
    for number, crops in enumerate(all_crops):
        own = [each for each in rows if clips_of[each["views"]][1] == crops]
        # Side by side, or the intervals of the two lines would lie on one another.
        apart = 0.0 if len(all_crops) < 2 else (-0.008, 0.008)[number] * max(clips for clips, _ in clips_of.values())
        series.append(
            Series(
                name="1 crop" if crops == 1 else f"{crops} crops",
                points=[(clips_of[each["views"]][0] + apart, each[main]) for each in own],
                spans=[_span(each.get(f"{main}_interval")) for each in own],
                words=[f"{each['views']}: {each[main]:.1%}" for each in own],
                colour=number,
                dots=True,
            )
        )
    x = counted([clips for clips, _ in clips_of.values()], "clips of a video")
    bounds = [bound for each in rows for bound in (each[main], *each.get(f"{main}_interval", ()))]
    return chart(series, x, shares(bounds, NAMES[main]), about=f"{NAMES[main].capitalize()} by the number of views")


def compared_picture(details: Mapping[str, Any]) -> Markup | None:
    """Accuracy by cost, on a logarithmic axis (Fig. 1 of the paper)."""
    rows = details["compared"]
    if rows is None:
        return None
    main = NAMES[main_figure(details["multi_label"])]
    x = powers((row["gmacs"] for row in rows), "GFLOPs a video (10⁹ multiply-adds, all views)")
    y = shares((bound for row in rows for bound in (row["value"], *(row["interval"] or ()))), main)
    series = [
        Series(
            name=f"{number}: {row['name']}, {row['views']}",
            points=[(row["gmacs"], row["value"])],
            spans=[_span(row["interval"])],
            marks=[str(number)],
            words=[f"{row['name']}, {row['views']}: {row['value']:.1%}"],
            colour=number - 1,
            line=False,
            dots=True,
        )
        for number, row in enumerate(rows, 1)
    ]
    return chart(
        series, x, y, about=f"{main.capitalize()} by the cost of a video; the numbers are in the table", legend=False
    )


def _over_epochs(log: list[dict[str, Any]], key: str, name: str | None = None) -> list[Series]:
    """Training, validation and averaged weights, as far as they are in the log."""
    found: list[Series] = []
    kinds = (("train", "training", 1), ("val", "validation", 0), ("ema", "validation, averaged weights", 2))
    for split, words, colour in kinds:
        points = [
            (float(each["epoch"]), float(each[f"{split}_{key}"]))
            for each in log
            if isinstance(each.get(f"{split}_{key}"), (int, float)) and isfinite(each[f"{split}_{key}"])
        ]
        if points:
            words = f"{words}, {name}" if name else words
            colour = colour + 3 if name else colour
            found.append(Series(name=words, points=points, colour=colour, dashed=split == "train"))
    return found


def _span(interval: list[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])
