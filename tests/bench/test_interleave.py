"""Works in turns: who runs when, what is counted, and how many rounds there are."""

from __future__ import annotations

import pytest

from dualformer.bench import interleave
from dualformer.bench.interleave import percentile, time_interleaved


class Clock:
    """Time that passes only while a work runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        monkeypatch.setattr(interleave.time, "perf_counter", lambda: self.now)

    def work(self, name: str, *seconds: float) -> None:
        """A run of ``name``; the last of ``seconds`` is that of all later ones."""
        done = self.ran.count(name)
        self.ran.append(name)
        self.now += seconds[min(done, len(seconds) - 1)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_each_runs_once_before_it_counts_and_then_in_turn(clock: Clock) -> None:
    works = {"a": lambda: clock.work("a", 9.0, 1.0, 2.0), "b": lambda: clock.work("b", 9.0, 4.0)}
    betweens: list[int] = []
    taken = time_interleaved(works, rounds=3, between=lambda: betweens.append(len(clock.ran)))
    assert clock.ran == ["a", "b"] * 4
    assert taken == {"a": [1.0, 2.0, 2.0], "b": [4.0, 4.0, 4.0]}
    assert betweens == [4, 6, 8]


def test_what_is_over_in_no_time_runs_several_times_a_turn_and_the_first_does_not_count(clock: Clock) -> None:
    taken = time_interleaved({"a": lambda: clock.work("a", 9.0, 0.125, 0.0625)}, rounds=1)
    # 0.125 + 0.0625 is less than a turn, with another 0.0625 it is more.
    assert taken == {"a": [0.0625, 0.0625]}


@pytest.mark.parametrize(("seconds", "expected"), [(10.0, 5), (1.0, 3), (0.001, 3), (10_000.0, 200)])
def test_there_are_as_many_rounds_as_fit_but_three(clock: Clock, seconds: float, expected: int) -> None:
    assert len(time_interleaved({"a": lambda: clock.work("a", 2.0)}, seconds=seconds)["a"]) == expected


def test_progress_ends_where_it_said(clock: Clock) -> None:
    told: list[tuple[float, float]] = []
    time_interleaved(
        {"a": lambda: clock.work("a", 5.0, 2.0)}, rounds=3, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(7.0, 11.0), (9.0, 11.0), (11.0, 11.0)]


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        time_interleaved({})
    with pytest.raises(ValueError, match="at least 1 round, not 0"):
        time_interleaved({"a": lambda: None}, rounds=0)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0], 95, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.5),
        ([float(n) for n in range(1, 101)], 95, 95.0),
        ([1.0] * 19 + [9.0], 95, 1.0),
        ([1.0] * 18 + [8.0, 9.0], 95, 8.0),
        ([2.0, 1.0], 100, 2.0),
    ],
)
def test_percentiles(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected
