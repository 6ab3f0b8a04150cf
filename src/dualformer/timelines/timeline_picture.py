"""Draws true segments above predicted ones."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dualformer.inference.timeline import format_time
from dualformer.plurals import counted
from dualformer.scoring.plots import save_figure, short_text
from dualformer.segment import Segment
from dualformer.timelines.evaluate_timelines import JudgedVideo, TimelineEvaluation

_MOST = 12
"""Videos in one picture."""
_LETTERS = 190
"""That have room from end to end."""
_FEWEST_LETTERS = 2
_LETTERS_UPWARDS = 8
"""Of a label that stands upright, where it has no room else."""
_COLOURS = (
    "#9ecae9",
    "#ffbf79",
    "#88d27a",
    "#ff9d98",
    "#d4bbf9",
    "#f2cf5b",
    "#83bcb6",
    "#d8b5a5",
    "#bab0ac",
    "#fcbfd2",
)
"""Light, so that black letters can be read on them."""


def worst_first(evaluation: TimelineEvaluation) -> list[JudgedVideo]:
    """Returns the videos, that with the lowest F1 at an overlap of one half first."""
    return sorted(evaluation.videos, key=lambda each: each.figures.counts[-1].f1)


def draw_timelines(path: Path, evaluation: TimelineEvaluation) -> None:
    """Draws a PNG: of each video two bars over time, true segments above predicted ones, with their labels in them.

    Of more than 12 videos it shows those with the lowest F1. A label stands where it has room; every label has a colour
    of its own, up to ten of them.
    """
    shown = worst_first(evaluation)[:_MOST]
    labels = {each.label for judged in shown for each in (*judged.video.segments, *judged.timeline.segments)}
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(sorted(labels))}
    figure = Figure(figsize=(13, 0.6 + 1.25 * len(shown)), layout="constrained")
    rows = figure.subplots(len(shown), squeeze=False)[:, 0]
    for axes, judged in zip(rows, shown, strict=True):
        quiet = evaluation.scoring.quiet
        for row, segments in enumerate((judged.video.segments, judged.timeline.segments)):
            _draw_bar(axes, row, [each for each in segments if each.label not in quiet], colours, judged.seconds)
        axes.set_ylim(2, 0)
        axes.set_xlim(0, judged.seconds)
        axes.set_yticks([0.5, 1.5], labels=["true", "predicted"])
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(12, steps=[1, 2, 3, 6, 10]))
        digits = 0 if judged.seconds > 20 else 1
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _, digits=digits: format_time(x, digits=digits)))
        counts = judged.figures.counts[-1]
        name = short_text(judged.video.path.name, 60)
        what = (
            f"F1 at 50 % {counts.f1:.1%}, {counted(counts.right + counts.missed, 'true segment')}, {counts.right} found"
        )
        axes.set_title(f"{name}: {what}", fontsize=9, loc="left", parse_math=False)
    left_out = len(evaluation.videos) - len(shown)
    if left_out:
        figure.suptitle(f"the lowest F1 first; {counted(left_out, 'other video')} not drawn", fontsize=10)
    save_figure(path, figure)


def _draw_bar(axes: Axes, row: int, segments: Sequence[Segment], colours: dict[str, str], seconds: float) -> None:
    # What is listed may end behind the video, or begin there.
    there = [(each, length) for each in segments if (length := min(each.end, seconds) - each.start) >= 0]
    axes.broken_barh(
        [(each.start, length) for each, length in there],
        (row + 0.06, 0.88),
        facecolors=[colours[each.label] for each, _ in there],
        edgecolors="#24292f",
        linewidth=0.5,
    )
    for each, length in there:
        room = int(length / seconds * _LETTERS)
        if room < _FEWEST_LETTERS:
            continue
        fits = len(each.label) <= room
        text, angle = (each.label, 0) if fits else (short_text(each.label, _LETTERS_UPWARDS), 90)
        middle = each.start + length / 2
        axes.text(middle, row + 0.5, text, ha="center", va="center", fontsize=7.5, rotation=angle, parse_math=False)
