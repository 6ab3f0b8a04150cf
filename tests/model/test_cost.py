"""The published costs, to the last digit known, and the counting rule on a network small enough to do by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from dualformer.model.config import Config, Scale, Size3, Stage
from dualformer.model.cost import measure_cost
from dualformer.model.presets import preset_config

FINE = Scale(grid=(8, 7, 7))
COARSE = Scale(grid=(4, 4, 4), factorised=True)


def tiny(*changes: dict[str, Any], clip: Size3 = (32, 224, 224)) -> Config:
    """Tiny with settings changed: one dictionary for every stage, or a single one for all."""
    config = preset_config("dualformer_tiny", clip=clip)
    each = changes * 4 if len(changes) == 1 else changes
    stages = tuple(replace(stage, **change) for stage, change in zip(config.stages, each, strict=True))
    return config.replace(stages=stages)


@pytest.mark.parametrize(
    ("name", "gmacs", "millions", "four_views"),
    [
        ("dualformer_tiny", 60.09, 21.767, 240),
        ("dualformer_small", 158.69, 48.908, 636),
        ("dualformer_base", 267.97, 86.838, 1072),
    ],
)
def test_presets_cost_what_table_2_says(name: str, gmacs: float, millions: float, four_views: int) -> None:
    cost = measure_cost(preset_config(name))
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.01)
    assert (cost.parameters - cost.classifier) / 1e6 == pytest.approx(millions, abs=0.0006)
    assert 4 * round(cost.macs / 1e9) == four_views  # the paper rounds a view, then multiplies
    assert cost.classifier == 400 * (preset_config(name).stages[-1].channels + 1)


def test_tiny_in_parts() -> None:
    cost = measure_cost(preset_config("dualformer_tiny"))
    parts = (cost.linear, cost.attention, cost.convolution, cost.normalisation)
    assert [round(part / 1e9, 2) for part in parts] == [41.79, 16.35, 1.72, 0.23]
    assert cost.macs == sum(parts) + cost.pooling
    assert [stage.size for stage in cost.stages] == [(16, 56, 56), (16, 28, 28), (16, 14, 14), (16, 7, 7)]
    assert [stage.tokens for stage in cost.stages] == [50176, 12544, 3136, 784]
    assert [stage.windows for stage in cost.stages] == [128, 32, 8, 2]
    assert [stage.pyramid_tokens for stage in cost.stages] == [456, 456, 392, 784]


def test_the_released_networks_of_16_frames() -> None:
    """They keep 8 frames of fine priors, where the preset has as many as half the frames of the map."""
    config = tiny(*[{"scales": (FINE, COARSE)}] * 2, {"scales": (FINE,)}, {}, clip=(16, 224, 224))
    assert measure_cost(config).macs / 1e9 == pytest.approx(29.87, abs=0.01)
    assert measure_cost(preset_config("dualformer_tiny", clip=(16, 224, 224))).macs / 1e9 == pytest.approx(
        28.0, abs=0.01
    )


def test_by_hand() -> None:
    scales = (Scale(grid=(2, 2, 2)), Scale(grid=(1, 1, 1), factorised=True))
    stage = Stage(channels=32, depth=1, patch=(1, 2, 2), window=(2, 4, 4), scales=scales)
    cost = measure_cost(Config(stages=(stage,), clip=(4, 16, 16), num_classes=5))
    n, c = 4 * 8 * 8, 32
    local, pyramid = 2 * 4 * 4, 2 * 2 * 2 + 1
    assert cost.linear == n * 4 * c * c + n * 8 * c * c + n * 2 * c * c + pyramid * 2 * c * c + n * 8 * c * c + 5 * c
    assert cost.attention == 2 * n * local * c + 2 * n * pyramid * c
    embedding, position = n * c * 3 * 4, n * c * 27
    fine, space, rest = 8 * c * 2 * 4 * 4, 4 * c * 8 * 8, c * 4
    assert cost.convolution == embedding + position + fine + space + rest
    assert cost.normalisation == 5 * c * (n + 4 * n + pyramid + n) + 2 * c * 4
    assert cost.pooling == n * c
    assert cost.stages[0].windows == 8
    assert cost.stages[0].pyramid_tokens == pyramid


def test_average_pooling_by_hand() -> None:
    scales = (Scale(grid=(2, 2, 2), function="average"), Scale(grid=(1, 1, 1), function="average"))
    stage = Stage(channels=32, depth=1, patch=(1, 2, 2), window=(2, 4, 4), scales=scales)
    cost = measure_cost(Config(stages=(stage,), clip=(4, 16, 16), num_classes=5))
    n, c, priors = 4 * 8 * 8, 32, 2 * 2 * 2 + 1
    assert cost.pooling == n * c + priors * c
    assert cost.normalisation == 5 * c * (n + 4 * n + priors + n)


def test_a_temporal_head_by_hand() -> None:
    stages = (
        Stage(channels=32, depth=1, patch=(1, 4, 4), kinds="L"),
        Stage(channels=64, depth=1, patch=(2, 2, 2), kinds="L"),
    )
    pooled = Config(stages=stages, clip=(4, 16, 16), num_classes=5)
    before, after = measure_cost(pooled), measure_cost(pooled.replace(head="temporal"))
    (fine, coarse), width = (4, 2), 64 // 4
    assert after.linear - before.linear == fine * 32 * width + coarse * 64 * width
    assert after.convolution - before.convolution == fine * 64 * 3 * width
    assert after.normalisation - before.normalisation == 5 * (fine * 32 + coarse * 64)
    maps = fine * 16 * 32 + coarse * 4 * 64
    twice_as_fine = (fine - coarse) * 4 * 64  # the map that the classifier's pooling reads
    assert after.pooling - before.pooling == maps + twice_as_fine
    norms, laterals, convolution = 2 * (32 + 64), (32 + 64 + 2) * width, 64 * (3 * width + 1)
    assert after.parameters - before.parameters == norms + laterals + convolution
    assert after.classifier == before.classifier


def test_another_clip_counts_the_padding() -> None:
    config = preset_config("dualformer_nano")
    assert measure_cost(config, (16, 112, 112)) == measure_cost(config)
    odd = measure_cost(config, (3, 50, 70))
    assert odd.stages[0].size == (2, 13, 18)
    assert odd.stages[0].windows == 1 * 2 * 3
    assert odd.parameters == measure_cost(config).parameters
    with pytest.raises(ValueError, match="at least 1 frame"):
        measure_cost(config, (0, 112, 112))


def test_halves_that_are_not_there_count_as_none() -> None:
    stages = measure_cost(tiny({"kinds": "LL"}, {"kinds": "GG"}, {}, {})).stages
    assert [stage.pyramid_tokens for stage in stages] == [0, 456, 392, 784]
    assert [stage.windows for stage in stages] == [128, 0, 8, 2]


def test_as_json() -> None:
    cost = measure_cost(preset_config("dualformer_nano"))
    assert cost.to_dict()["macs"] == cost.macs
    assert cost.to_dict()["stages"][0]["pyramid_tokens"] == cost.stages[0].pyramid_tokens


def test_the_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    measure_cost.cache_clear()
    measure_cost(preset_config("dualformer_nano"))
    assert torch.equal(before, torch.get_rng_state())
