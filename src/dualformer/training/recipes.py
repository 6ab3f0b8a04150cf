"""Recipes: settings of runs whose results the project ships or states."""

from __future__ import annotations

from dualformer.training.config import TrainConfig
from dualformer.training.options.data import RENDERED


def rendered_nano(out: str) -> TrainConfig:
    """The run behind the weights that come with the package, which ``--from rendered`` starts from.

    Data: 64,000 rendered clips of all 16 motions, 16 frames (stride 2) of 64x64 pixels, each shown once, from plain to
    hard over the first half. Loss: the class, and for every token what of it moves where to.
    Expected: 98 % of 320 validation clips of any difficulty right (chance: 6 %).
    Time: 45 minutes on one core of a server CPU with bfloat16. Command: ``python benchmarks/rendered_weights.py``.
    """
    return TrainConfig(
        data=RENDERED,
        out=out,
        model="dualformer_nano",
        frames=16,
        stride=2,
        size=64,
        rendered_clips=3200,
        epochs=20,
        batch_size=32,
        lr=1e-3,
        weight_decay=0.05,
        drop_path=0.0,
        dropout=0.0,
        flip="off",
        licence="Apache-2.0",
    )
