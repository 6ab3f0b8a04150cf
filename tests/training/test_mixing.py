"""Mixup and CutMix: pixels and labels in the same parts, draws that follow their laws, the loss of soft labels."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dualformer.model.presets import create_model
from dualformer.training.losses import ClipLoss
from dualformer.training.mixing import Mix, apply_mix, check_pairs, cut_box, draw_mix, mix_batch
from dualformer.training.objective import Batch, ClipObjective, MotionObjective
from dualformer.training.settings.mixing_settings import MixingSettings
from dualformer.video.preprocessing import kinetics

MIXUP = MixingSettings(mixup=0.8)
CUTMIX = MixingSettings(cutmix=1.0)
BOTH = MixingSettings(mixup=0.8, cutmix=1.0)


def batch(count: int = 4, frames: int = 3, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(0)
    clip = torch.randint(0, 256, (count, frames, size, size, 3), dtype=torch.uint8, generator=generator)
    return {"clip": clip, "label": torch.arange(count) % 3, "index": torch.arange(count)}


def test_mixup_by_hand():
    data = batch()
    mixed = apply_mix(data, Mix(share=0.7), 3)
    clips = data["clip"].double()
    for i, partner in enumerate((2, 3, 0, 1)):
        expected = 0.7 * clips[i] + 0.3 * clips[partner]
        assert (mixed["clip"][i] - expected).abs().max() <= 0.5 + 1e-4  # rounded
    assert mixed["clip"].dtype == torch.uint8
    # Labels are 0 1 2 0: the last has class 1 as its partner.
    expected = torch.tensor([[0.7, 0, 0.3], [0.3, 0.7, 0], [0.3, 0, 0.7], [0.7, 0.3, 0]])
    assert torch.allclose(mixed["target"], expected)
    assert mixed["label"].tolist() == [0, 1, 2, 0]
    assert torch.equal(mixed["index"], data["index"])


def test_the_label_is_the_class_with_the_largest_part():
    mixed = apply_mix(batch(), Mix(share=0.2), 3)
    assert mixed["label"].tolist() == [2, 0, 0, 1]
    same = {**batch(), "label": torch.tensor([1, 0, 1, 2])}
    assert torch.allclose(apply_mix(same, Mix(share=0.4), 3)["target"][0], torch.tensor([0, 1.0, 0]))


def test_cutmix_by_hand():
    data = batch()
    mixed = apply_mix(data, Mix(share=0.75, centre=(0.5, 0.25)), 3)  # half as high and wide
    expected = data["clip"].clone()
    expected[:, :, 4:12, 0:8] = data["clip"].roll(-2, dims=0)[:, :, 4:12, 0:8]
    assert torch.equal(mixed["clip"], expected)
    assert torch.allclose(mixed["target"][0], torch.tensor([0.75, 0, 0.25]))


@pytest.mark.parametrize("seed", range(20))
def test_targets_are_the_parts_that_are_seen(seed: int):
    """Clips of one colour: the target is the share of the pixels, or of the colour."""
    clips = torch.tensor([0, 250], dtype=torch.uint8)[:, None, None, None, None].expand(2, 2, 30, 40, 3)
    data = {"clip": clips, "label": torch.tensor([0, 1])}
    for settings in (MIXUP, CUTMIX):
        mixed = mix_batch(data, settings, classes=2, seed=seed, epoch=1, number=2)
        seen = mixed["clip"].double().mean(dim=(1, 2, 3, 4)) / 250
        assert torch.allclose(seen, mixed["target"][:, 1].double(), atol=0.5 / 250 + 1e-6)
        assert torch.allclose(mixed["target"].sum(dim=1), torch.ones(2))
        assert torch.equal(mixed["clip"][:, 0], mixed["clip"][:, 1])  # the same in all frames


def test_boxes_lie_within_the_frame_and_have_the_size_that_was_drawn():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        mix = draw_mix(CUTMIX, rng)
        assert mix is not None
        top, bottom, left, right = cut_box(mix, 60, 80)
        assert 0 <= top <= bottom <= 60 and 0 <= left <= right <= 80
        area = (bottom - top) * (right - left) / 4800
        assert area <= 1 - mix.share + 0.04
        if min(top, left) > 0 and bottom < 60 and right < 80:
            inside.append(area - (1 - mix.share))
    assert len(inside) == pytest.approx(2000 / 6, rel=0.2) and np.abs(inside).max() < 0.03


def test_draws_follow_their_laws():
    rng = np.random.default_rng(0)
    shares = np.array([mix.share for _ in range(6000) if (mix := draw_mix(MIXUP, rng))])
    assert len(shares) == 6000
    assert shares.mean() == pytest.approx(0.5, abs=0.015)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), rel=0.05)  # of a beta distribution
    often = dataclasses.replace(BOTH, mix_prob=0.4, switch_prob=0.25)
    drawn = [draw_mix(often, rng) for _ in range(6000)]
    mixes = [mix for mix in drawn if mix]
    assert len(mixes) / 6000 == pytest.approx(0.4, abs=0.03)
    assert sum(mix.centre is not None for mix in mixes) / len(mixes) == pytest.approx(0.25, abs=0.03)
    assert draw_mix(MixingSettings(), rng) is None


def test_a_batch_depends_on_seed_epoch_and_number():
    data = batch()
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    targets = [
        mix_batch(data, MIXUP, classes=3, seed=seed, epoch=epoch, number=number)["target"]
        for seed, epoch, number in (*places, places[0])
    ]
    assert torch.equal(targets[0], targets[-1])
    assert len({float(target[0, 0]) for target in targets[:-1]}) == 4


def test_a_batch_that_is_not_mixed_is_left_alone():
    data = batch()
    rarely = dataclasses.replace(MIXUP, mix_prob=0.001)
    assert mix_batch(data, rarely, classes=3, seed=0, epoch=0, number=0) is data


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("settings", [MIXUP, CUTMIX, BOTH])
def test_ranks_mix_their_shares_as_one_would_mix_all(settings: MixingSettings, world: int):
    data = batch(16)
    for number in range(4):
        whole = mix_batch(data, settings, classes=3, seed=3, epoch=1, number=number)
        for rank in range(world):
            mine = {key: value[rank::world] for key, value in data.items()}
            part = mix_batch(mine, settings, classes=3, seed=3, epoch=1, number=number, world=world)
            for key, value in part.items():
                assert torch.equal(value, whole[key][rank::world]), key


def test_clips_without_a_partner_are_refused():
    check_pairs(2)
    check_pairs(3)
    check_pairs(2, world=2, repeats=2)
    for count, world, repeats, message in (
        (1, 1, 1, "2 clips, not 1"),
        (3, 1, 2, "4 clips, not 3"),
        (3, 2, 1, "even number of clips on each of 2 ranks, not 3"),
    ):
        with pytest.raises(ValueError, match=message):
            check_pairs(count, world=world, repeats=repeats)


def test_the_same_in_words():
    assert BOTH.describe_mixing() == ["mixup 0.8 or CutMix 1 (50% CutMix) on 100% of the batches"]
    assert dataclasses.replace(CUTMIX, mix_prob=0.5).describe_mixing() == ["CutMix 1 on 50% of the batches"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mix_prob": 1.5}, "`mix_prob` must be from 0.001 to 1, not 1.5"),
        ({"mixup": -1.0}, "`mixup` must be 0 or more"),
        ({"repeats": 0}, "`repeats` must be more than 0"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        MixingSettings(**wrong)  # type: ignore[arg-type]


def model():
    return create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0, dropout=0.0)


def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses():
    data = batch(4, frames=4, size=32)
    mixed = apply_mix(data, Mix(share=0.7), 3)
    step = ClipObjective(model(), kinetics(4, 1, 32)).eval()(mixed)
    own = F.cross_entropy(step.logits, data["label"])
    partners = F.cross_entropy(step.logits, data["label"].roll(-2))
    assert step.loss.item() == pytest.approx(0.7 * own.item() + 0.3 * partners.item(), rel=1e-5)


@pytest.mark.parametrize("mixed", [False, True])
def test_smoothing_spreads_a_part_of_the_target_evenly(mixed: bool):
    data = batch(4, frames=4, size=32)
    data = apply_mix(data, Mix(share=0.7), 3) if mixed else data
    network, pre = model().eval(), kinetics(4, 1, 32)
    step = ClipObjective(network, pre, loss=ClipLoss(classes=3, label_smoothing=0.3)).eval()(data)
    target = data["target"] if mixed else F.one_hot(data["label"], 3).float()
    smooth = 0.7 * target + 0.3 / 3
    expected = -(smooth * step.logits.log_softmax(dim=1)).sum(dim=1).mean()
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = ClipObjective(network, pre).eval()(data).loss
    assert not math.isclose(step.loss.item(), plain.item(), rel_tol=1e-3)


def test_smoothing_holds_for_rendered_clips_too():
    data = batch(4, frames=4, size=32)
    data |= {"moving": torch.rand(4, 4, 8, 8), "velocity": torch.randn(4, 4, 8, 8, 2)}
    objective = MotionObjective(model(), kinetics(4, 1, 32), loss=ClipLoss(classes=3, label_smoothing=0.3))
    step = objective.eval()(data)
    expected = F.cross_entropy(step.logits, data["label"], label_smoothing=0.3)
    assert step.parts["clip"].item() == pytest.approx(expected.item())
