"""Figures against what one works out by hand, or by loops too plain to be wrong."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sklearn

from dualformer.evaluation.metrics import (
    calibration_bins,
    calibration_error,
    confusion_matrix,
    cross_entropy,
    errors_among_surest,
    expected_calibration_error,
    per_class,
    summary,
    top_k,
)
from dualformer.scoring.intervals import wilson_interval


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 8)) * 2
    labels = rng.integers(0, 7, 200)  # the last class has no video
    scores[np.arange(200), labels] += 1.5
    p = np.exp(scores)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32), labels


def test_figures_worked_out_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6], [0.1, 0.3, 0.6]], dtype=np.float32)
    labels = np.array([0, 1, 2, 2])
    figures = summary(p, labels)
    assert figures["top1"] == 0.75
    assert "top5" not in figures
    assert figures["mean_class_accuracy"] == pytest.approx((1 + 0 + 1) / 3)
    assert figures["majority_class"] == 0.5
    assert figures["cross_entropy"] == pytest.approx(-(math.log(0.7) + math.log(0.4) + 2 * math.log(0.6)) / 4, abs=1e-6)
    # Bins of 1/15: 0.7 alone, right; 0.5 alone, wrong; 0.6 twice (on an edge), right.
    assert figures["calibration_error"] == pytest.approx((0.3 + 0.5 + 2 * 0.4) / 4, abs=1e-6)
    assert confusion_matrix(p, labels).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 2]]
    json.dumps(figures)


def test_per_class_worked_out_by_hand() -> None:
    matrix = np.array([[3, 1, 2, 0], [0, 4, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    a, b, c, d = per_class(matrix, ("a", "b", "c", "d"))
    assert (a.count, a.recall, a.precision) == (6, 0.5, 0.75)
    assert a.f1 == pytest.approx(2 * 0.5 * 0.75 / 1.25)
    assert (a.confused_with, a.confused_count) == ("c", 2)
    assert (b.recall, b.precision, b.confused_with, b.confused_count) == (1.0, 0.8, None, 0)
    assert (c.recall, c.precision, c.f1, c.confused_with) == (0.0, 0.0, 0.0, "a")
    assert (d.count, d.recall, d.precision, d.f1, d.confused_with) == (0, None, None, None, None)


def test_missing_videos_count_as_wrong_in_every_accuracy(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    p, labels = drawn
    absent = np.array([0, 0, 3, 7])
    plain, counted = summary(p, labels), summary(p, labels, missing=absent)
    for name in ("top1", "top5"):
        assert counted[name] == pytest.approx(plain[name] * 200 / 204)
    assert counted["top1_interval"] == list(wilson_interval(round(plain["top1"] * 200), 204))
    matrix = confusion_matrix(p, labels)
    everyone = matrix.sum(axis=1) + np.bincount(absent, minlength=8)
    assert counted["mean_class_accuracy"] == pytest.approx((np.diag(matrix) / everyone).mean())
    assert counted["majority_class"] == everyone.max() / 204
    for name in ("cross_entropy", "calibration_error"):
        assert counted[name] == plain[name]
    rows = per_class(matrix, tuple("abcdefgh"), missing=absent)
    assert [row.count for row in rows] == everyone.tolist()
    assert (rows[7].recall, rows[7].precision, rows[0].recall) == (0.0, 0.0, matrix[0, 0] / everyone[0])
    assert summary(p, labels, missing=absent[:0]) == plain


def test_figures_against_plain_loops(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    p, labels = drawn
    figures = summary(p, labels)
    top1 = top5 = 0
    matrix = np.zeros((8, 8), dtype=int)
    for row, label in zip(p, labels, strict=True):
        ranked = sorted(range(8), key=lambda i: (-row[i], i))
        top1 += ranked[0] == label
        top5 += label in ranked[:5]
        matrix[label, ranked[0]] += 1
    assert figures["top1"] == top1 / 200
    assert figures["top5"] == top5 / 200
    assert 0.3 < figures["top1"] < figures["top5"] < 1
    assert np.array_equal(confusion_matrix(p, labels), matrix)
    recalls = [matrix[i, i] / matrix[i].sum() for i in range(7)]
    assert figures["mean_class_accuracy"] == pytest.approx(sum(recalls) / 7)


@pytest.mark.filterwarnings("ignore:Recall is ill-defined")  # of the last class
def test_figures_against_scikit_learn(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    p, labels = drawn
    every, said = list(range(8)), p.argmax(1)
    for k in (1, 3, 5):
        assert top_k(p, labels, k) == pytest.approx(sklearn.top_k_accuracy_score(labels, p, k=k, labels=every))
    matrix = confusion_matrix(p, labels)
    assert np.array_equal(matrix, sklearn.confusion_matrix(labels, said, labels=every)) and matrix.dtype == np.int64
    rows = per_class(matrix, tuple("abcdefgh"))
    figures = sklearn.precision_recall_fscore_support(labels, said, labels=every)
    _, recall, f1, _ = np.array(figures)
    assert [row.recall for row in rows[:7]] == pytest.approx(recall[:7])
    assert [row.f1 for row in rows[:7]] == pytest.approx(f1[:7])


def test_calibration_error_against_plain_bins(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    p, labels = drawn
    total = 0.0
    for low in range(15):
        inside = [i for i in range(200) if low / 15 < p[i].max() <= (low + 1) / 15]
        if inside:
            accuracy = sum(p[i].argmax() == labels[i] for i in inside) / len(inside)
            total += abs(accuracy - sum(float(p[i].max()) for i in inside) / len(inside)) * len(inside) / 200
    assert calibration_error(p, labels) == pytest.approx(total, abs=1e-5)


def test_an_impossible_truth_costs_much_but_not_everything() -> None:
    p = np.array([[1.0, 0.0]], dtype=np.float32)
    assert cross_entropy(p, np.array([1])) == pytest.approx(-math.log(np.finfo(np.float32).tiny))


def test_arrays_that_do_not_fit_are_refused() -> None:
    p = np.full((2, 3), 1 / 3, dtype=np.float32)
    for probabilities, labels in ((p, np.array([0])), (p[0], np.array([0, 1, 2])), (p[:0], np.zeros(0, dtype=int))):
        with pytest.raises(ValueError, match="probabilities"):
            summary(probabilities, labels)


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
