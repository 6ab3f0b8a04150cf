"""Times as text are read in every form that people write, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualformer.timestamps import parse_time, timestamp


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12.5", 12.5),
        ("12,5", 12.5),
        (" 7 ", 7),
        (".5", 0.5),
        ("1e-05", 1e-5),
        ("-3.25", -3.25),
        ("1:02.5", 62.5),
        ("90:00", 5400),
        ("00:00:01.089", 1.089),
        ("1:02:03,4", 3723.4),
        ("100:00:00", 360_000),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["", "a", "1:", ":1", "1:60", "1:60:00", "1:2:3:4", "nan", "inf", "1_0", "1e999", "9" * 400, "1:1e1", "١"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text)


@given(st.integers(0, 10**9))
def test_what_is_written_is_read(thousandths: int) -> None:
    assert round(parse_time(timestamp(thousandths / 1000)) * 1000) == thousandths
