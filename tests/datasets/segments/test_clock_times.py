"""Times as people write them."""

from __future__ import annotations

import pytest

from dualformer.datasets.segments.clock_times import parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("12.5", 12.5),
        (" 12,5 ", 12.5),
        (".5", 0.5),
        ("90", 90.0),
        ("90:00", 5400.0),
        ("1:12.5", 72.5),
        ("01:02:03.400", 3723.4),
        ("100:00:00", 360_000.0),
    ],
)
def test_clocks_and_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:60:00", "1:2:3:4", "a", "nan", "inf", "1e3", "1::2", "::", "."])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("25", 1.0), ("30.0", 1.2)])
def test_numbers_of_frames(text: str, seconds: float) -> None:
    assert parse_time(text, frames_per_second=25) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "1:02", "nan", "inf"])
def test_no_numbers_of_frames(text: str) -> None:
    with pytest.raises(ValueError, match="is no number of a frame"):
        parse_time(text, frames_per_second=25)
