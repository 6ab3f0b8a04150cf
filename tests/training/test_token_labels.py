"""What becomes of a teacher's scores, against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from dualformer.training.losses import distillation_loss, token_loss
from dualformer.training.token_labels import fit_map, spread, top_distribution

# exp of 3, 2.5, 2, 1, 0.5: 20.0855, 12.1825, 7.3891, 2.7183, 1.6487, together 44.0241.
SCORES = [2.0, -1.0, 3.0, 0.5, 2.5, -4.0, 1.0, 0.2]
TOP_FIVE = [0.16784, 0.0, 0.45624, 0.03745, 0.27672, 0.0, 0.06175, 0.0]
# With three times exp(0) = 1 besides, together 47.024.
WITH_ZEROS = [0.15713, 0.02127, 0.42713, 0.03506, 0.25907, 0.02127, 0.05781, 0.02127]


def test_the_five_highest_scores_share_the_label():
    distribution = top_distribution(torch.tensor([[SCORES]]), 5)
    assert distribution.shape == (1, 1, 8)
    assert distribution[0, 0].tolist() == pytest.approx(TOP_FIVE, abs=1e-5)
    assert distribution.sum().item() == pytest.approx(1)


def test_the_release_gave_the_others_a_score_of_zero():
    distribution = top_distribution(torch.tensor(SCORES), 5, rest="zero")
    assert distribution.tolist() == pytest.approx(WITH_ZEROS, abs=1e-5)
    # Of 400 classes and scores that are no larger than these, the others get nearly all of it.
    many = top_distribution(torch.tensor(SCORES + [-5.0] * 392), 5, rest="zero")
    assert many[[0, 2, 3, 4, 6]].sum().item() == pytest.approx(44.024 / (44.024 + 395), abs=1e-4)


def test_of_fewer_classes_all_of_them_share_it():
    scores = torch.tensor([1.0, 0.0, -1.0])
    assert torch.allclose(top_distribution(scores, 5), scores.softmax(dim=0))


def test_classes_that_the_student_does_not_have_get_nothing():
    values, classes = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), torch.tensor([[-1, 0, 2], [-1, -1, -1]])
    shared = 1 / (1 + math.exp(-1))
    expected = torch.tensor([[shared, 0.0, 1 - shared], [0.0, 0.0, 0.0]])
    assert torch.allclose(spread(values, classes, 3), expected)
    zeroed = spread(values, classes, 3, rest="zero")
    assert torch.allclose(zeroed[0], torch.tensor([1.0, 0.0, 0.0]).softmax(dim=0))


def test_neighbouring_frames_are_averaged_and_not_those_of_both_halves():
    scores = torch.tensor([0.0, 1.0, 4.0, 7.0]).reshape(1, 4, 1, 1, 1)
    assert fit_map(scores, (2, 1, 1)).flatten().tolist() == [0.5, 5.5]  # the halves' would be 2 and 4


def test_a_finer_map_is_averaged_by_area_and_a_coarser_one_interpolated():
    rows = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 6, 1)
    assert fit_map(rows, (1, 2, 3))[0, 0, :, :, 0].tolist() == [[0.5] * 3, [2.5] * 3]
    # Two tokens at 1/4 and 3/4 of the way, four at 1/8, 3/8, 5/8 and 7/8.
    two = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2, 1)
    assert fit_map(two, (1, 1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
    # Longer in time and smaller in space at once.
    both = torch.tensor([0.0, 2.0, 4.0, 6.0]).reshape(1, 2, 2, 1, 1)
    assert fit_map(both, (1, 4, 1)).flatten().tolist() == [2.0, 2.5, 3.5, 4.0]
    assert fit_map(both, (2, 2, 1)).tolist() == both.tolist()


def test_losses_by_hand():
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).reshape(1, 2, 1, 1, 2)
    target = torch.tensor([[1.0, 0.0], [0.25, 0.75]]).reshape(1, 2, 1, 1, 2)
    first = math.log(1 + math.exp(-1))
    second = 0.25 * math.log(1 + math.exp(2)) + 0.75 * math.log(1 + math.exp(-2))
    assert token_loss(logits, target).item() == pytest.approx((first + second) / 2)

    student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    p, q = F.softmax(teacher[0] / 2, dim=0).tolist(), F.softmax(student[0] / 2, dim=0).tolist()
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert distillation_loss(student, teacher, 2.0).item() == pytest.approx(4 * divergence, rel=1e-5)
    assert distillation_loss(student, student, 3.0).item() == pytest.approx(0)
