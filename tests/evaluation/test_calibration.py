"""Bins of confidence and mistakes among the surest, against what one works out by hand."""

import numpy as np
import pytest

from dualformer.evaluation.calibration import calibration_bins, errors_among_surest, expected_calibration_error


def test_bins_by_hand() -> None:
    confidence = np.array([0.1, 0.3, 0.5, 0.7, 1.0])
    right = np.array([False, True, False, True, True])
    low, high = calibration_bins(confidence, right, 2)
    assert (low.low, low.high, low.count, low.right) == (0, 0.5, 2, 0.5)
    assert low.confidence == pytest.approx(0.2)
    assert (high.low, high.high, high.count, high.right) == (0.5, 1, 3, pytest.approx(2 / 3))
    error = expected_calibration_error([low, high])
    assert error == pytest.approx((2 * abs(0.5 - 0.2) + 3 * abs(2 / 3 - 2.2 / 3)) / 5)
    empty = calibration_bins(confidence[:1], right[:1], 2)[1]
    assert (empty.count, empty.confidence, empty.right) == (0, None, None)
    with pytest.raises(ValueError, match="need confidence"):
        calibration_bins(confidence, right[:2])


def test_mistakes_among_the_surest_by_hand() -> None:
    confidence = np.array([0.9, 0.5, 0.7, 0.7, 0.2])
    right = np.array([True, False, False, True, True])
    # 0.7 comes twice, once wrong: half a mistake each.
    assert errors_among_surest(confidence, right).tolist() == [0, 0.25, pytest.approx(1 / 3), 0.5, pytest.approx(0.4)]
