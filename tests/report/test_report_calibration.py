"""Bins of confidence, mistakes among the surest, and intervals, against what one works out by hand."""

import numpy as np
import pytest

from dualformer.evaluation.calibration import calibration_bins, errors_among_surest, expected_calibration_error
from dualformer.evaluation.multilabel_metrics import mean_precision_interval
from dualformer.scoring.intervals import mean_interval, mean_share_interval
from dualformer.scoring.multilabel import mean_average_precision


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


def test_the_interval_of_the_mean_average_precision_holds_it_and_narrows() -> None:
    rng = np.random.default_rng(0)
    found = {}
    for count in (40, 640):
        truths = rng.random((count, 3)) < 0.4
        truths[:, 0] |= ~truths.any(axis=1)
        scores = (truths + rng.normal(size=truths.shape)).astype(np.float32)
        none = np.zeros((0, 3), dtype=bool)
        low, high = mean_precision_interval(scores, truths, missing=none)
        assert (low, high) == mean_precision_interval(scores, truths, missing=none)
        assert low < mean_average_precision(scores, truths) < high
        found[count] = high - low
    assert found[640] < found[40] / 2
