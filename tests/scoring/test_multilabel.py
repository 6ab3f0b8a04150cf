"""Average precision and F1 of several labels: by hand, against scikit-learn, and by the naive definition."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from dualformer.scoring.multilabel import (
    average_precisions,
    class_f1,
    fit_thresholds,
    mean_average_precision,
    mean_precision_interval,
    micro_f1,
    multilabel_summary,
    per_label,
)


def test_by_hand():
    """Right at ranks 1 and 3: (1/1 + 2/3) / 2. Nothing has the second class, everything the third."""
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.2, 0.4], [0.7, 0.3, 0.6], [0.1, 0.4, 0.8]], dtype=np.float32)
    targets = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]], dtype=bool)
    first, second, third = average_precisions(scores, targets)
    assert (first, third) == (pytest.approx(5 / 6), 1.0) and np.isnan(second)
    assert mean_average_precision(scores, targets) == pytest.approx((5 / 6 + 1) / 2)
    # Said: 3, 0 and 2 of 4; right: 2, 0 and 2.
    assert micro_f1(scores >= 0.5, targets) == pytest.approx(2 * 4 / (5 + 6))
    each = class_f1(scores >= 0.5, targets)
    assert each[[0, 2]] == pytest.approx([4 / 5, 4 / 6]) and np.isnan(each[1])


def naive(scores: np.ndarray, right: np.ndarray) -> float:
    """Over the videos that have the class: the share that has it of those that score as high at least."""
    return float(np.mean([right[scores >= own].mean() for own in scores[right]]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 2, 7])
def test_as_scikit_learn_and_as_defined_with_and_without_equal_scores(seed: int, digits: int):
    rng = np.random.default_rng(seed)
    scores = rng.random((40, 6)).round(digits).astype(np.float32)
    targets = rng.random((40, 6)) < np.array([0.5, 0.1, 0.9, 0.3, 0.02, 1.0])
    targets[0] = True
    ours = average_precisions(scores, targets)
    theirs = [average_precision_score(targets[:, c], scores[:, c]) for c in range(6)]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(ours, [naive(scores[:, c], targets[:, c]) for c in range(6)], atol=1e-12)
    said = scores >= 0.5
    assert micro_f1(said, targets) == pytest.approx(f1_score(targets, said, average="micro"), abs=1e-6)
    _, _, expected, _ = np.array(precision_recall_fscore_support(targets, said))
    np.testing.assert_allclose(class_f1(said, targets), expected, atol=1e-6)


def test_equal_scores_do_not_depend_on_the_order():
    scores, targets = np.zeros((4, 1), dtype=np.float32), np.array([[1], [0], [0], [0]], dtype=bool)
    assert average_precisions(scores, targets) == average_precisions(scores, targets[::-1]) == [0.25]


def test_what_has_no_value():
    nothing = np.zeros((3, 2), dtype=bool)
    with pytest.raises(ValueError, match="no video has any of the classes"):
        mean_average_precision(nothing.astype(np.float32), nothing)
    assert micro_f1(nothing, nothing) == 0.0
    with pytest.raises(ValueError, match=r"not \(3, 2\) and \(3, 1\)"):
        average_precisions(nothing.astype(np.float32), nothing[:, :1])
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        micro_f1(nothing[:0], nothing[:0])


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


PROBABILITIES = np.array([[0.9, 0.1, 0.6], [0.8, 0.2, 0.4], [0.7, 0.6, 0.1], [0.1, 0.4, 0.2]], dtype=np.float32)
TARGETS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]], dtype=bool)
NONE = np.zeros((0, 3), dtype=bool)


def test_figures_by_hand():
    found = multilabel_summary(PROBABILITIES, TARGETS, missing=NONE)
    assert found["mean_average_precision"] == pytest.approx(((1 + 2 / 3) / 2 + 1 + 1) / 3)
    assert found["chance"] == pytest.approx(0.5)
    assert found["micro_f1"] == pytest.approx(2 * 4 / (5 + 6))  # named 3, 1 and 1; right 2, 1 and 1
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3 + 2 / 3) / 3)
    assert (found["labels"], found["labels_named"]) == (1.5, 1.25)
    right = np.where(TARGETS, PROBABILITIES, 1 - PROBABILITIES)
    assert found["cross_entropy"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert "top1" not in found and json.loads(json.dumps(found)) == found


def test_thresholds_have_the_largest_f1_of_all():
    rng = np.random.default_rng(0)
    truths = rng.random((80, 4)) < (0.5, 0.2, 0.8, 0.02)
    scores = np.clip(rng.normal(0.3 + 0.2 * truths, 0.12), 0, 1).astype(np.float32)
    found = fit_thresholds(scores, truths)
    for c in range(3):
        f1 = {t: class_f1(scores[:, [c]] >= t, truths[:, [c]])[0] for t in np.linspace(0, 1, 2001)}
        assert class_f1(scores[:, [c]] >= found[c], truths[:, [c]])[0] >= max(f1.values()) - 1e-9
    assert found[3] == 0.5, "too few videos have it"
    assert fit_thresholds(scores[:, 3:], truths[:, 3:]) == ()
    sure = np.where(truths[:, :2], 0.9, 0.1).astype(np.float32)
    assert fit_thresholds(sure, truths[:, :2]) == (), "one half is as good as any between"
    plain = multilabel_summary(scores, truths, missing=np.zeros((0, 4), dtype=bool))
    fitted = multilabel_summary(scores, truths, missing=np.zeros((0, 4), dtype=bool), thresholds=found)
    assert fitted["macro_f1"] > plain["macro_f1"] + 0.1
    assert fitted["mean_average_precision"] == plain["mean_average_precision"]


def test_a_missing_video_is_last_in_every_ranking_and_has_no_label():
    missing = np.array([[1, 0, 0]], dtype=bool)
    found = multilabel_summary(PROBABILITIES, TARGETS, missing=missing)
    assert found["mean_average_precision"] == pytest.approx(((1 + 2 / 3 + 3 / 5) / 3 + 1 + 1) / 3)
    assert found["micro_f1"] == pytest.approx(2 * 4 / (5 + 7))
    first = per_label(PROBABILITIES, TARGETS, ("a", "b", "c"), missing=missing)[0]
    assert (first.count, first.recall, first.precision) == (3, pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_the_figures_of_a_class():
    rows = per_label(PROBABILITIES, TARGETS & [True, True, False], ("a", "b", "c"), missing=NONE)
    a, b, c = rows
    assert (a.name, a.count, a.average_precision, a.f1) == ("a", 2, pytest.approx(5 / 6), pytest.approx(4 / 5))
    assert (b.recall, b.precision, b.average_precision) == (0.5, 1.0, 1.0)
    assert (c.count, c.average_precision, c.recall, c.precision, c.f1) == (0, None, None, 0.0, 0.0)
