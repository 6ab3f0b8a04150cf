"""Axes with round ticks, places that are right, and text that stays text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from dualformer.report.mistake_clips import MOST_BYTES_EACH
from dualformer.report.page import template_environment
from dualformer.report.report_charts import (
    MOST_NAMED,
    calibration_chart,
    compared_chart,
    confusion_chart,
    coverage_chart,
    training_charts,
    views_chart,
)
from dualformer.report.svg_charts import (
    Chart,
    chart_style,
    finish,
    new_axes,
    scale_counts,
    scale_log,
    scale_numbers,
    scale_percent,
)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with chart_style():
        yield


def drawings() -> Any:
    return template_environment().get_template("drawings.html.jinja").module


def ticks(scale: Callable[..., None], *values: Any) -> tuple[list[str], tuple[float, float]]:
    axes = new_axes("x", "y")
    scale(axes.xaxis, *values)
    return [label.get_text() for label in axes.get_xticklabels()], axes.get_xlim()


def test_axes_have_round_ticks_and_hold_their_values() -> None:
    assert ticks(scale_numbers, [0.03, 2.17]) == (["0", "0.5", "1", "1.5", "2", "2.5"], (0, 2.5))
    assert ticks(scale_numbers, [1e-5, 9.1e-4])[0] == ["0", "0.0002", "0.0004", "0.0006", "0.0008", "0.001"]
    words, (low, high) = ticks(scale_percent, [0.912, 0.931])
    assert low <= 0.892 and 0.951 <= high <= 1
    assert words == ["88%", "90%", "92%", "94%", "96%"]
    assert ticks(scale_percent)[0] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    assert (ticks(scale_percent, [1.0])[1][1], ticks(scale_percent, [0.0])[1][0]) == (1, 0)
    assert ticks(scale_log, [0.55, 1072])[0] == ["1", "10", "100", "1,000"]
    assert ticks(scale_log, [3, 30])[0] == ["5", "10", "20"]
    many = ticks(scale_counts, range(1, 41))[0]
    assert many == ["1", "5", "9", "13", "17", "21", "25", "29", "33", "37"]
    assert ticks(scale_numbers, [])[1] == (0, 1) and ticks(scale_counts, [4]) == (["4"], (3.5, 4.5))


def test_a_logarithmic_axis_has_its_powers_evenly_spread() -> None:
    axes = new_axes("cost", "y")
    scale_log(axes.xaxis, [0.55, 1072])
    place = axes.transAxes.inverted().transform
    at = [place(axes.transData.transform((cost, 0.5)))[0] for cost in (axes.get_xlim()[0], 1, 10, 100)]
    assert at[0] == pytest.approx(0) and at[3] - at[2] == pytest.approx(at[2] - at[1])


def dots(svg: str, colour: str) -> list[tuple[float, float]]:
    """Places of the dots of a colour."""
    look = (f"var(--{colour})", "var(--paper)")
    found = [use for use in ElementTree.fromstring(svg).iter("use") if (use.get("fill"), use.get("stroke")) == look]
    return [(float(use.get("x", "nan")), float(use.get("y", "nan"))) for use in found]


def test_a_loss_that_is_no_number_is_left_out() -> None:
    log = [{"epoch": n, "train_loss": 2.0 / n, "lr": 0.1} for n in (1, 2, 3, 4)]
    log[1] |= {"val_loss": float("nan")}
    log[2] |= {"val_loss": float("inf")}
    log[3] |= {"val_loss": 1.0}
    losses, *_ = training_charts({"training": {"epochs": log, "epoch": None}})
    assert "nan" not in losses.svg and "inf" not in losses.svg
    assert len(dots(losses.svg, "s0")) == 1 and not dots(losses.svg, "s1")  # a single point of the validation


def test_points_and_intervals_lie_where_they_should() -> None:
    rows = [{"views": "1x1", "top1": 0.5, "top1_interval": [0.0, 1.0]}, {"views": "4x1", "top1": 0.75}]
    chart = views_chart({"top1": 0.5, "by_views": rows})
    assert chart is not None
    # 100 % is at 12, 0 % at 256; the dots of the line, and then those with words.
    assert [up for _, up in dots(chart.svg, "s0")] == pytest.approx([134, 73, 134, 73], abs=0.1)
    ends = [
        float(use.get("y", "nan"))
        for use in ElementTree.fromstring(chart.svg).iter("use")
        if use.get("stroke") == "var(--s0)" and use.get("stroke-opacity", use.get("opacity")) == "0.75"
    ]
    assert ends == pytest.approx([256, 12], abs=0.1)
    assert chart.svg.count("<svg") == 1 and 'aria-label="Top-1 accuracy by the number of views"' in chart.svg
    assert "<title>1x1: 50.0%</title>" in chart.svg and "<title>4x1: 75.0%</title>" in chart.svg


def test_a_legend_names_each_series_and_everything_is_escaped() -> None:
    evil = "<b>&\"'$x$"
    axes = new_axes(evil, evil)
    for number in (0, 1):
        axes.plot([0, 1], [1, number], color=f"#00000{7 + number}", label=f"{evil}{number}")
    chart = finish(axes, evil)
    assert [entry["colour"] for entry in chart.legend] == [0, 1]
    drawn = drawings().drawing(chart)
    assert "<b>" not in drawn and drawn.count("&lt;b&gt;&amp;") == 5
    assert "&lt;b&gt;&amp;&#34;&#39;$x$1</li>" in drawn
    compared = {"gmacs": 1.0, "value": 0.5, "interval": None, "name": evil, "views": "1x1"}
    chart = compared_chart({"compared": [compared, compared], "multi_label": False})
    assert chart is not None and "<b>" not in chart.svg
    assert chart.svg.count("<title>&lt;b&gt;&amp;\"'$x$, 1x1: 50.0%</title>") == 2


def test_a_page_that_allows_no_styles_and_no_requests_can_hold_every_chart() -> None:
    log = [{"epoch": n, "train_loss": 1.0, "val_top1": 0.5, "lr": 0.1} for n in (1, 2)]
    bins = [{"low": 0.0, "high": 1.0, "count": 3, "confidence": 0.9, "right": 0.6}]
    details = {
        "training": {"epochs": log, "epoch": 2},
        "calibration": {"bins": bins, "surest": [[0.5, 0.0], [1.0, 0.25]]},
        "multi_label": False,
    }

    def charts() -> list[Markup]:
        found: list[Chart | None] = [
            *training_charts(details),
            calibration_chart({"calibration_error": 0.1}, details),
            coverage_chart(details),
        ]
        return [each.svg for each in found if each is not None] + [confusion_chart([[0, 0, 1]], ["a", "b"])]

    for svg in charts():
        assert not re.search(r"style|url\(|http|font|#0000| id=\"(?!m)", svg)
        assert "var(--faint)" in svg and "<text" in svg
    assert charts() == charts()


def test_the_strip_and_the_bins() -> None:
    drawn = drawings().strip(0.5, (0.25, 0.75), 0.1, about="half")
    assert 'x="50" y="4" width="100"' in drawn and 'cx="100"' in drawn and 'x1="20"' in drawn
    assert 'aria-label="half"' in drawn and 'aria-hidden="true"' in drawings().strip(0.5, (0.25, 0.75))
    bins = [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "right": None},
        {"low": 0.5, "high": 1.0, "count": 30, "confidence": 0.9, "right": 0.6},
    ]
    details = {"calibration": {"bins": bins}, "multi_label": False}
    svg = calibration_chart({"calibration_error": 0.3}, details).svg
    bars = [
        path for path in ElementTree.fromstring(svg).iter("path") if str(path.get("fill", "")).startswith("var(--s")
    ]
    assert [bar.get("fill") for bar in bars] == ["var(--s0)", "var(--s1)"]
    assert svg.count("50% to 100%: 30, said 90.0%, are 60.0%") == 2
    ups = [float(up) for up in re.findall(r"[ML] [\d.]+ ([\d.]+)", str(bars[0].get("d")))]
    assert max(ups) - min(ups) == pytest.approx(0.6 * 244, abs=0.1)


def test_confusion_cells_have_their_counts_until_there_are_too_many() -> None:
    few = confusion_chart([[0, 0, 3], [0, 1, 1], [1, 1, 7]], ["<i>up", "down"])
    numbers = [text for text in ElementTree.fromstring(few).iter("text") if str(text.text).isdigit()]
    assert [(text.get("fill"), text.text) for text in numbers] == [
        ("var(--on-deep)", "3"),
        ("var(--ink)", "1"),
        ("var(--on-deep)", "7"),
    ]
    assert {text.get("pointer-events") for text in numbers} == {"none"}
    assert "&lt;i&gt;up taken for down: 1 of 4" in few and "<i>" not in few
    assert few.count('fill="var(--s1)"') == 1
    names = [f"class {n}" for n in range(MOST_NAMED + 1)]
    many = confusion_chart([[n, n, 5] for n in range(len(names))] + [[0, 1, 2]], names)
    assert many.startswith('<img src="data:image/png;base64,') and len(many) < MOST_BYTES_EACH
    assert f'width="{len(names)}"' in many
