"""The loss of clips: against values worked out by hand, and against PyTorch's own."""

import math

import pytest
import torch
from torch.nn import functional as F

from dualformer.training.losses import ClipLoss, mean_over_clips

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.3, 0.1, 0.2], [-1.0, 1.5, 0.5], [0.0, 0.0, 4.0]])
LABELS = torch.tensor([0, 2, 1, 0])
MIXED = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.3, 0.7], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])
SEVERAL = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.6, 0.4]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_whole_labels_give_what_pytorch_gives(smoothing: float, weights: torch.Tensor | None):
    loss = ClipLoss(classes=3, label_smoothing=smoothing, class_weights=weights)
    expected = F.cross_entropy(LOGITS, LABELS, weight=weights, label_smoothing=smoothing)
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected.item(), rel=1e-6)


def test_two_clips_by_hand():
    """Probabilities 1/4 and 3/4, then 1/2 each: -ln of them, weighted 1 and 3."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    loss = ClipLoss(classes=2, class_weights=torch.tensor([1.0, 3.0]))
    assert loss(logits, torch.tensor([0, 1])).item() == pytest.approx((math.log(4) + 3 * math.log(2)) / 4)
    parts = torch.tensor([[0.5, 0.5], [0.0, 1.0]])  # these clips weigh (1 + 3) / 2 and 3
    first = 0.5 * math.log(4) + 0.5 * 3 * math.log(4 / 3)
    assert loss(logits, parts).item() == pytest.approx((first + 3 * math.log(2)) / 5)
    # Smoothed by 0.2, the target of the first clip is 0.9 and 0.1; it weighs what its own class does.
    smooth = ClipLoss(classes=2, class_weights=torch.tensor([1.0, 3.0]), label_smoothing=0.2)
    first = 0.9 * math.log(4) + 0.1 * 3 * math.log(4 / 3)
    second = (0.1 + 0.9 * 3) * math.log(2)
    assert smooth(logits, torch.tensor([0, 1])).item() == pytest.approx((first + second) / 4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_labels_give_what_pytorch_sums_up(smoothing: float):
    plain = ClipLoss(classes=3, label_smoothing=smoothing)
    expected = F.cross_entropy(LOGITS, MIXED, label_smoothing=smoothing)
    assert plain(LOGITS, MIXED).item() == pytest.approx(expected.item(), rel=1e-6)
    loss = ClipLoss(classes=3, label_smoothing=smoothing, class_weights=WEIGHTS)
    total = F.cross_entropy(LOGITS, MIXED, weight=WEIGHTS, label_smoothing=smoothing, reduction="sum")
    assert loss(LOGITS, MIXED).item() == pytest.approx(total.item() / (0.65 + 2.4 + 0.9 + 0.5), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mixture_of_nothing_is_a_whole_label(smoothing: float):
    loss = ClipLoss(classes=3, label_smoothing=smoothing, class_weights=WEIGHTS)
    one_hot = F.one_hot(LABELS, 3).float()
    assert loss(LOGITS, one_hot).item() == pytest.approx(loss(LOGITS, LABELS).item(), rel=1e-6)


@pytest.mark.parametrize("target", [LABELS, MIXED])
def test_a_batch_in_two_parts_is_the_ratio_of_their_sums(target: torch.Tensor):
    loss = ClipLoss(classes=3, label_smoothing=0.1, class_weights=WEIGHTS)
    sums, weights = 0.0, 0.0
    for part in (slice(0, 1), slice(1, 4)):
        each = loss.clip_weights(target[part])
        assert each is not None
        sums += loss(LOGITS[part], target[part]).item() * each.sum().item()
        weights += each.sum().item()
    assert loss(LOGITS, target).item() == pytest.approx(sums / weights, rel=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_several_labels_by_hand(weights: torch.Tensor | None):
    loss = ClipLoss(classes=3, class_weights=weights, multi_label=True)
    total = 0.0
    for scores, targets in zip(LOGITS.tolist(), SEVERAL.tolist(), strict=True):
        for label, (score, target) in enumerate(zip(scores, targets, strict=True)):
            weight = weights[label].item() if weights is not None else 1.0
            p = 1 / (1 + math.exp(-score))
            total -= weight * target * math.log(p) + (1 - target) * math.log(1 - p)
    assert loss(LOGITS, SEVERAL).item() == pytest.approx(total / 12, rel=1e-5)
    assert loss.clip_weights(SEVERAL) is None


def test_half_of_the_smoothing_of_several_labels_goes_to_either_side():
    loss = ClipLoss(classes=3, label_smoothing=0.2, multi_label=True)
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    smooth = torch.tensor([[0.9, 0.1, 0.9]])
    expected = F.binary_cross_entropy_with_logits(LOGITS[:1], smooth)
    assert loss(LOGITS[:1], targets).item() == pytest.approx(expected.item(), rel=1e-6)
    surest = torch.full((1, 3), math.log(0.9 / 0.1)) * torch.tensor([1.0, -1.0, 1.0])
    surest.requires_grad_()
    loss(surest, targets).backward()
    assert surest.grad is not None and surest.grad.abs().max() < 1e-6  # nothing is gained beyond 90 %


def test_a_heavy_clip_counts_more_in_a_mean():
    losses, weights = torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0])
    assert mean_over_clips(losses, weights).item() == pytest.approx(7 / 4)
    assert mean_over_clips(losses, None).item() == pytest.approx(2.5)


def test_weights_are_no_part_of_a_checkpoint():
    assert not ClipLoss(classes=3, class_weights=WEIGHTS).state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "from 0 to below 1, not 1.0"),
        ({"class_weights": torch.ones(2)}, r"3 classes need as many weights, not \(2,\)"),
        ({"class_weights": torch.tensor([1.0, 0.0, 1.0])}, "more than 0"),
        ({"class_weights": torch.tensor([1.0, math.nan, 1.0])}, "more than 0"),
    ],
)
def test_what_is_out_of_range_is_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ClipLoss(classes=3, **options)


def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"logits \(4, 3\) and targets \(4,\) do not fit 3 classes"):
        ClipLoss(classes=3, multi_label=True)(LOGITS, LABELS)
    with pytest.raises(ValueError, match="do not fit 2 classes"):
        ClipLoss(classes=2)(LOGITS, LABELS)
    with pytest.raises(ValueError, match="do not fit"):
        ClipLoss(classes=3)(LOGITS, SEVERAL[:2])


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.7])
def test_weights_and_divisors_are_float32_whatever_the_network_computes_in(share: float):
    weights = torch.tensor([0.123, 1.017, 5.013])
    loss = ClipLoss(classes=3, class_weights=weights)
    target = torch.tensor([[share, 1 - share, 0.0], [0.0, share, 1 - share], [1 - share, 0.0, share]])
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    plain, counted = loss(logits, target), loss.clip_weights(target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(logits, target), plain)
        within = loss.clip_weights(target)
    assert within is not None and counted is not None and within.dtype == torch.float32
    assert torch.equal(within, counted)
