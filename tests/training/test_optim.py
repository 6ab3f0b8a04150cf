import math

import pytest
import torch

from dualformer.model.position import PositionEncoding
from dualformer.model.presets import create_model
from dualformer.training.optimizer import parameter_groups, schedule
from dualformer.training.settings.optimizer_settings import OptimizerSettings


def test_schedule_by_hand():
    values = [schedule(step, steps=10, warmup=4) for step in range(11)]
    assert values[:4] == [0.25, 0.5, 0.75, 1.0]
    assert values[4] == 1.0
    assert values[7] == pytest.approx(0.5)
    assert values[6] == pytest.approx(0.5 * (1 + math.cos(math.pi / 3)))
    assert values[10] == pytest.approx(0.0, abs=1e-12)


def test_schedule_without_warmup_starts_at_the_peak():
    assert schedule(0, steps=10, warmup=0) == 1.0


def test_groups_hold_every_parameter_once_with_the_right_rate_and_decay():
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0)
    extra = torch.nn.Linear(4, 2)
    groups = parameter_groups(model, OptimizerSettings(backbone_lr=0.1, weight_decay=0.05), lr=1e-2, extra=extra)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    every = [id(parameter) for parameter in [*model.parameters(), *extra.parameters()]]
    assert sorted(found) == sorted(every)
    settings = {
        id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]
    }
    assert settings[id(model.head.weight)] == (1e-2, 0.05)
    assert settings[id(model.head.bias)] == (1e-2, 0.0)
    assert settings[id(extra.weight)] == (1e-2, 0.05)
    for name, parameter in model.named_parameters():
        if name.startswith("head"):
            continue
        decays = name.endswith("weight") and parameter.dim() > 1 and ".position." not in name
        assert settings[id(parameter)] == (pytest.approx(1e-3), 0.05 if decays else 0.0), name
    assert sum(isinstance(module, PositionEncoding) for module in model.modules()) == 4


def test_layers_learn_slower_the_earlier_they_are():
    model = create_model("dualformer_tiny", clip=(4, 32, 32), num_classes=3, seed=0)
    groups = parameter_groups(model, OptimizerSettings(backbone_lr=0.5, weight_decay=0.05, layer_decay=0.8), lr=1e-2)
    rates = {id(parameter): group["peak_lr"] for group in groups for parameter in group["params"]}
    assert set(rates) == {id(parameter) for parameter in model.parameters()}
    assert rates[id(model.get_parameter("head.weight"))] == 1e-2
    assert rates[id(model.get_parameter("norm.weight"))] == pytest.approx(5e-3)
    assert rates[id(model.get_parameter("stages.3.blocks.1.0.mlp.fc1.weight"))] == pytest.approx(5e-3)
    assert rates[id(model.get_parameter("stages.3.blocks.0.1.mlp.fc1.weight"))] == pytest.approx(5e-3 * 0.8)
    assert rates[id(model.get_parameter("stages.3.embed.proj.weight"))] == pytest.approx(5e-3 * 0.8)
    assert rates[id(model.get_parameter("stages.0.embed.proj.weight"))] == pytest.approx(5e-3 * 0.8**9)
    exempt = {id(parameter) for group in groups if not group["weight_decay"] for parameter in group["params"]}
    assert exempt == {id(model.get_parameter(name)) for name in model.no_weight_decay()}


def test_a_block_of_one_half_is_a_layer():
    model = create_model("dualformer_nano_conv", clip=(4, 32, 32), num_classes=3, seed=0)
    groups = parameter_groups(model, OptimizerSettings(backbone_lr=0.5, weight_decay=0.05, layer_decay=0.8), lr=1e-2)
    rates = {id(parameter): group["peak_lr"] for group in groups for parameter in group["params"]}
    for name, steps in (
        ("embed.convs.0.conv", 4),
        ("blocks.0.0.branch.0.conv", 3),
        ("position.conv", 3),
    ):
        assert rates[id(model.get_parameter(f"stages.0.{name}.weight"))] == pytest.approx(5e-3 * 0.8**steps), name
    assert rates[id(model.get_parameter("stages.1.blocks.0.0.branch.2.norm.bias"))] == pytest.approx(5e-3 * 0.8**2)
    assert rates[id(model.get_parameter("stages.3.blocks.0.1.mlp.fc1.weight"))] == pytest.approx(5e-3)
    decaying = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert id(model.get_parameter("stages.0.blocks.0.0.branch.0.conv.weight")) in decaying
    assert id(model.get_parameter("stages.0.blocks.0.0.branch.0.norm.weight")) not in decaying
