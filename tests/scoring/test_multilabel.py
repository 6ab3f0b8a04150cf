"""Average precision and F1 of several labels: by hand, against torchmetrics, and by the naive definition."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

from dualformer.scoring.multilabel import average_precisions, class_f1, mean_average_precision, micro_f1


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
def test_as_torchmetrics_and_as_defined_with_and_without_equal_scores(seed: int, digits: int):
    rng = np.random.default_rng(seed)
    scores = rng.random((40, 6)).round(digits).astype(np.float32)
    targets = rng.random((40, 6)) < np.array([0.5, 0.1, 0.9, 0.3, 0.02, 1.0])
    targets[0] = True
    ours = average_precisions(scores, targets)
    arguments = torch.from_numpy(scores), torch.from_numpy(targets).long()
    np.testing.assert_allclose(ours, multilabel_average_precision(*arguments, num_labels=6, average=None), atol=1e-6)
    np.testing.assert_allclose(ours, [naive(scores[:, c], targets[:, c]) for c in range(6)], atol=1e-12)
    said = scores >= 0.5
    expected = multilabel_f1_score(torch.from_numpy(said).long(), arguments[1], num_labels=6, average="micro")
    assert micro_f1(said, targets) == pytest.approx(float(expected), abs=1e-6)
    expected = multilabel_f1_score(torch.from_numpy(said).long(), arguments[1], num_labels=6, average="none")
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
