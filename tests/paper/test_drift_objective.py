"""What is learnt of the truth about drifts: which places are read from which tokens, and what the loss is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualformer.model.network import DualFormer
from dualformer.paper.drift_objective import DriftObjective, DriftReader
from dualformer.paper.relation_clips import RelationClips, Relations
from dualformer.paper.run_experiment import preprocessing_of
from dualformer.paper.scaled_variants import scaled_config

CLIP = (16, 64, 64)


def batch(count: int = 4) -> dict[str, Tensor]:
    clips = RelationClips(Relations(task="both"), count, seed=2)
    items = [clips[i] for i in range(count)]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def places(drifts: Tensor) -> Tensor:
    """B 2 8 4 4: means over two frames and 16 × 16 pixels, the slow way."""
    t = drifts.unflatten(1, (8, 2)).mean(2)
    return t.unflatten(3, (4, 4)).mean(4).unflatten(2, (4, 4)).mean(3).permute(0, 4, 1, 2, 3)


def test_a_constant_has_a_loss_of_one() -> None:
    drifts = batch(32)["drifts"]
    loss = DriftReader(5, clip=CLIP, tokens=2)(torch.randn(32, 5, 8, 2, 2), drifts)
    assert float(loss.detach()) == pytest.approx(1, abs=0.02)  # zero is not quite their mean


@pytest.mark.parametrize("tokens", [2, 4, 8])
def test_who_knows_the_truth_has_no_loss(tokens: int) -> None:
    drifts = batch()["drifts"]
    truth = places(drifts)
    reader = DriftReader(8 if tokens == 2 else 2, clip=CLIP, tokens=tokens)
    if tokens == 2:  # the four places of a token, row by row, cue and gesture of each
        features = truth.unflatten(3, (2, 2)).unflatten(5, (2, 2)).permute(0, 4, 6, 1, 2, 3, 5).flatten(1, 3)
    else:
        features = truth.repeat_interleave(tokens // 4, 3).repeat_interleave(tokens // 4, 4)
    with torch.no_grad():
        reader.layer.weight.copy_(torch.eye(len(reader.layer.weight)))
    assert float(reader(features, drifts).detach()) < 1e-10
    # Cue and gesture count alike, however much more the cue covers.
    for channel in (0, 1):
        blind = features.clone()
        blind[:, channel::2] = 0
        assert float(reader(blind, drifts).detach()) == pytest.approx(0.5, abs=0.04)


def test_places_and_tokens_must_fit() -> None:
    with pytest.raises(ValueError, match="3 tokens a side do not divide into 4 places"):
        DriftReader(2, clip=CLIP, tokens=3)


def test_the_objective_is_the_class_and_the_truth() -> None:
    objective = DriftObjective(DualFormer(scaled_config(), seed=0), preprocessing_of(CLIP), weight=0.5).eval()
    step = objective(batch())
    assert set(step.parts) == {"clip", "drifts"} and step.logits.shape == (4, 2)
    assert float(step.loss.detach()) == pytest.approx(float((step.parts["clip"] + 0.5 * step.parts["drifts"]).detach()))
    step.loss.backward()
    assert all(parameter.grad is not None for parameter in objective.extra.parameters())  # pyright: ignore
