"""The two layouts of a network that starts from Twins-SVT weights: the pyramid that the weights have, or the paper's.

``exact`` keeps one fine scale made by a full convolution, and with it every number of the file. ``standard`` has the
pyramid of the presets, a depth-wise fine scale and in stages 1 and 2 a coarse one. Its kernels are made anew, and all
other weights stay: the fine ones begin as what each channel gives to itself in the full convolution, its nearest
depth-wise kernel where channels are independent, and the coarse ones at random.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from dualformer.model.config import Config, Scale
from dualformer.model.network import DualFormer
from dualformer.model.presets import stage_scales
from dualformer.weights.card import Card

Layout = Literal["exact", "standard"]

_SCALES = re.compile(r".+\.pyramid\.scales\.\d+\..+")
_FINE_KERNEL = re.compile(r".+\.pyramid\.scales\.0\.conv\.weight")
_FINE_BIAS = re.compile(r".+\.pyramid\.scales\.0\.conv\.bias")


def is_exact(config: Config) -> bool:
    """Whether a network has the exact layout: no scale but fine ones, made by full convolutions."""
    scales = [stage.scales for stage in config.stages if stage.scales]
    return bool(scales) and all(len(each) == 1 and _is_full(each[0]) for each in scales)


def standard_config(config: Config) -> Config:
    """Returns the standard layout of a network of the exact one. Errors: ``ValueError`` for any other network."""
    if not is_exact(config):
        raise ValueError(
            "the standard layout is made of the exact one, of Twins-SVT weights: this network has another pyramid"
        )
    stages = [
        replace(
            stage,
            scales=stage_scales(number, replace(stage.scales[0], function="depthwise"), images=config.clip[0] == 1),
        )
        if stage.scales
        else stage
        for number, stage in enumerate(config.stages)
    ]
    return config.replace(stages=tuple(stages))


def standard_layout(
    state: Mapping[str, Tensor], config: Config, *, seed: int = 0
) -> tuple[dict[str, Tensor], Config, list[str]]:
    """Makes weights of the standard layout of the ``state`` of a network of the exact one.

    Returns them, their config and a line on what was made anew, partly drawn from ``seed``. Errors: ``ValueError`` for
    another network.
    """
    target = standard_config(config)
    fresh = DualFormer(target, seed=seed).state_dict()
    kept = {key for key in fresh if key in state and (not _SCALES.fullmatch(key) or _FINE_BIAS.fullmatch(key))}
    made = {key: tensor for key, tensor in fresh.items() if key not in kept}
    for key in [key for key in made if _FINE_KERNEL.fullmatch(key)]:
        made[key] = torch.diagonal(state[key], dim1=0, dim2=1).movedim(-1, 0)[:, None].contiguous()
    counted, total = _parameters(made), _parameters(fresh)
    note = (
        f"standard layout: {counted:,} parameters of pyramids made anew ({counted / total:.2%} of {total / 1e6:.2f} M)"
        ", depth-wise fine scales of the full convolutions' diagonals, and random coarse scales"
    )
    return {key: made[key] if key in made else state[key] for key in fresh}, target, [note]


def to_standard(model: DualFormer, card: Card, *, seed: int = 0) -> tuple[DualFormer, Card, list[str]]:
    """Makes a network of the standard layout of ``model``, of the exact one, with its card: see `standard_layout`."""
    state, config, notes = standard_layout(model.state_dict(), card.config, seed=seed)
    standard = DualFormer(config, seed=seed)
    standard.load_state_dict(state)
    origin = f"standard layout, its pyramids made anew: {card.provenance}"
    return standard.eval(), replace(card, config=config, metrics={}, provenance=origin), notes


def _parameters(state: Mapping[str, Tensor]) -> int:
    """Returns how many parameters there are, without BatchNorm's statistics."""
    return sum(tensor.numel() for key, tensor in state.items() if not re.search(r"\.(running_|num_batches)", key))


def _is_full(scale: Scale) -> bool:
    return scale.function == "full" and not scale.factorised
