"""Intervals of shares and means, against what one works out by hand."""

import math

import numpy as np
import pytest

from dualformer.scoring.intervals import (
    half_width,
    mean_interval,
    mean_over_seeds,
    mean_share_interval,
    wilson_interval,
)


def test_the_wilson_interval() -> None:
    # A published example: 10 of 20 gives 0.299 to 0.701; nothing of 10 gives 0 to 0.278.
    assert wilson_interval(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    # Its ends are where the share is 1.96 standard errors (of a share of that size) away.
    low, high = wilson_interval(67, 89)
    for end in (low, high):
        assert abs(67 / 89 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 89), abs=1e-6)
    with pytest.raises(ValueError, match="no share"):
        wilson_interval(3, 2)


def test_the_half_width_of_few_videos() -> None:
    assert half_width(26) == pytest.approx((wilson_interval(13, 26)[1] - wilson_interval(13, 26)[0]) / 2)
    assert [round(half_width(n), 3) for n in (10, 26, 100, 400)] == [0.263, 0.179, 0.096, 0.049]


def test_intervals_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])
    error = values.std(ddof=1) / 2
    assert mean_interval(values) == (
        pytest.approx(3 - 1.96 * error, abs=1e-4),
        pytest.approx(3 + 1.96 * error, abs=1e-4),
    )
    assert mean_interval(np.array([0.5])) == (0.5, 0.5)
    low, high = mean_share_interval(np.array([4, 2]), np.array([4, 4]))
    spread = 1.96 * np.sqrt((5 / 6) * (1 / 6) / 4 + 0.5 * 0.5 / 4) / 2
    assert (low, high) == (pytest.approx(0.75 - spread, abs=1e-4), pytest.approx(min(1, 0.75 + spread), abs=1e-4))
    assert mean_share_interval(np.array([4]), np.array([4]))[0] < 0.8  # four of four are no proof


def test_mean_and_interval() -> None:
    assert mean_over_seeds([3.0]) == (3.0, None)
    mean, half = mean_over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0 and half == pytest.approx(2.776 * np.sqrt(2.5 / 5))
    _, many = mean_over_seeds([0.0, 1.0] * 30)
    assert many == pytest.approx(2.001 * np.std([0, 1] * 30, ddof=1) / np.sqrt(60), rel=1e-3)
    with pytest.raises(ValueError, match="no mean"):
        mean_over_seeds([])
