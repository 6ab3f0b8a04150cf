"""Axes with round ticks, places that are right, and text that stays text."""

import re

import pytest

from dualformer.report.charts import Series, chart, counted, numbers, powers, reliability, shares, strip, tag
from dualformer.report.confusion_table import MOST_NAMED, confusion_picture
from dualformer.report.mistake_clips import MOST_BYTES_EACH
from dualformer.report.report_charts import training_pictures


def test_axes_have_round_ticks_and_hold_their_values() -> None:
    loss = numbers([0.03, 2.17], "loss")
    assert (loss.low, loss.high) == (0, 2.5)
    assert [word for _, word in loss.ticks] == ["0", "0.5", "1", "1.5", "2", "2.5"]
    rates = numbers([1e-5, 9.1e-4], "rate")
    assert [word for _, word in rates.ticks] == ["0", "0.0002", "0.0004", "0.0006", "0.0008", "0.001"]
    close = shares([0.912, 0.931], "accuracy")
    assert close.low <= 0.892 and 0.951 <= close.high <= 1
    assert [word for _, word in close.ticks] == ["88%", "90%", "92%", "94%", "96%"]
    assert [word for _, word in shares([], "all", whole=True).ticks] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    assert (shares([1.0], "one").high, shares([0.0], "none").low) == (1, 0)
    cost = powers([0.55, 1072], "cost")
    assert [word for _, word in cost.ticks] == ["1", "10", "100", "1,000"]
    assert [word for _, word in powers([3, 30], "cost").ticks] == ["5", "10", "20"]
    assert cost.at(cost.low) == 0 and cost.at(cost.high) == pytest.approx(1)
    assert (cost.at(100) - cost.at(10)) == pytest.approx(cost.at(10) - cost.at(1))
    many = counted(range(1, 41), "epoch")
    assert [word for _, word in many.ticks] == ["1", "5", "9", "13", "17", "21", "25", "29", "33", "37"]
    assert numbers([], "nothing").high == 1 and counted([4], "one").at(4) == 0.5


def test_a_loss_that_is_no_number_is_left_out() -> None:
    log = [{"epoch": n, "train_loss": 2.0 / n, "lr": 0.1} for n in (1, 2, 3, 4)]
    log[1] |= {"val_loss": float("nan")}
    log[2] |= {"val_loss": float("inf")}
    log[3] |= {"val_loss": 1.0}
    losses, *_ = training_pictures({"training": {"epochs": log, "epoch": None}})
    assert "nan" not in losses and "inf" not in losses
    assert losses.count("<circle") == 1  # a single point of the validation


def test_points_and_intervals_lie_where_they_should() -> None:
    series = Series(name="a", points=[(1, 0.5), (4, 0.75)], spans=[(0.25, 1.0), None], dots=True)
    axis = shares([], "accuracy", whole=True)
    picture = chart([series], counted([1, 4], "clips"), axis, about="a chart")
    ups = [float(up) for up in re.findall(r'cy="([\d.]+)"', picture)]
    [(low, high)] = re.findall(r'd="M[\d.]+,([\d.]+)V([\d.]+)', picture)
    # 100 % is at 12, 0 % at 256.
    assert ups == pytest.approx([134, 73], abs=0.1)
    assert (float(low), float(high)) == pytest.approx((195, 12), abs=0.1)
    assert picture.count("<svg") == 1 and 'aria-label="a chart"' in picture


def test_a_legend_names_each_series_and_everything_is_escaped() -> None:
    evil = "<b>&\"'"
    both = [Series(name=f"{evil}{n}", points=[(1, 1)], colour=n, words=[evil], marks=[evil]) for n in (0, 1)]
    picture = chart(both, numbers([1], evil), numbers([1], "y"), about=evil, lines=[(1, evil)])
    assert "<b>" not in picture and picture.count("&lt;b&gt;&amp;&#34;&#39;") >= 7
    assert "&lt;b&gt;&amp;&#34;&#39;1</li>" in picture
    assert tag("a", "x", class_="c", data_one='"') == '<a class="c" data-one="&#34;">x</a>'
    assert "onload" not in tag("img", src="x").lower() and tag("img", src="x") == '<img src="x">'


def test_the_strip_and_the_bins() -> None:
    drawn = strip(0.5, (0.25, 0.75), 0.1, about="half")
    assert 'x="50" y="4" width="100"' in drawn and 'cx="100"' in drawn and 'x1="20"' in drawn
    bins = [(0.0, 0.5, 0, None, None), (0.5, 1.0, 30, 0.9, 0.6)]
    picture = reliability(bins, about="bins", yes="accuracy")
    assert picture.count('class="bar"') == picture.count('class="gap"') == 1
    assert "50% to 100%: 30, said 90.0%, are 60.0%" in picture
    [tall] = re.findall(r'class="bar" x="[\d.]+" width="[\d.]+" y="[\d.]+" height="([\d.]+)"', picture)
    assert float(tall) == pytest.approx(0.6 * 244, abs=0.1)


def test_confusion_cells_have_their_counts_until_there_are_too_many() -> None:
    few = confusion_picture([[0, 0, 3], [0, 1, 1], [1, 1, 7]], ["<i>up", "down"])
    assert re.findall(r'class="number (\w+)"[^>]*>(\d+)<', few) == [
        ("deep", "3"),
        ("light", "1"),
        ("deep", "7"),
    ]
    assert "&lt;i&gt;up taken for down: 1 of 4" in few and "<i>" not in few
    assert few.count('class="cell wrong"') == 1
    names = [f"class {n}" for n in range(MOST_NAMED + 1)]
    many = confusion_picture([[n, n, 5] for n in range(len(names))] + [[0, 1, 2]], names)
    assert many.startswith('<img src="data:image/png;base64,') and len(many) < MOST_BYTES_EACH
    assert f'width="{len(names)}"' in many
