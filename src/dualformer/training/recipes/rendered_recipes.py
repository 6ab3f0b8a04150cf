"""Recipes for rendered videos, which this project runs itself."""

from __future__ import annotations

from dualformer.training.recipes.recipe import RANDOM, Recipe
from dualformer.training.settings.data_settings import RENDERED


def rendered_nano() -> Recipe:
    """The run behind the weights that come with the package, which ``--from rendered`` starts from.

    Data: 64,000 rendered clips of all 16 motions, 16 frames (stride 2) of 64x64 pixels, each shown once, from plain to
        hard over the first half. Loss: the class, and for every token what of it moves where to.
    Expected: 98 % of 320 validation clips of any difficulty right (chance: 6 %).
    Hardware: one core of a server CPU with bfloat16.
    Time: 45 minutes.
    Command: dualformer train rendered-nano --out runs/rendered
        (python benchmarks/rendered_weights.py also stores the weights as the package has them)
    """
    return Recipe(
        data="rendered videos",
        expected="98",
        views="1x1",
        needs={},
        settings={
            "data": RENDERED,
            "start": RANDOM,
            "model": "dualformer_nano",
            "frames": 16,
            "stride": 2,
            "size": 64,
            "rendered_clips": 3200,
            "epochs": 20,
            "batch_size": 32,
            "lr": 1e-3,
            "weight_decay": 0.05,
            "drop_path": 0.0,
            "dropout": 0.0,
            "flip": "off",
            "licence": "Apache-2.0",
        },
    )
