"""The interval of a share."""

import math

import pytest

from dualformer.scoring.intervals import half_width, wilson_interval


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
