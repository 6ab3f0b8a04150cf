"""What has become usual for video transformers since the paper, laid over each of its recipes."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from dualformer.training.recipes.recipe import Recipe

SUFFIX = "-modern"

_OVER: dict[str, Any] = {
    "randaugment": "7x4x0.5",
    "erasing": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "layer_decay": 0.8,
    # The mean over Tiny's ten depths is 0.45, over the thirteen of Small and Base 0.36: blocks learn at a rate around
    # the paper's tenth on average, the last ones faster and the first ones more slowly.
    "backbone_lr": 0.2,
    "clip_grad": 1.0,
}
_LONG, _SHORT = 0.9999, 0.995
"""Decay of averaged weights: for the 110,000 steps of Kinetics, and for the 900 to 3,800 of the small sets."""


def modern(paper: Recipe) -> Recipe:
    """The recipe {name} with RandAugment, erasing, mixup and CutMix, label smoothing, averaged weights, layer-wise
        decay.

    Data: {data}, as in {name}.
    Expected: nobody has measured it. The paper's recipe: {expected} (%). Strong augmentation pays in long runs: try two
        or three times the epochs as well.
    Hardware: as for {name}.
    Time: as for {name}; changing the pixels takes a third more of the loaders' time (docs/experiments.md). Not run
        here.
    Command: that of {name}, with {name}-modern in its place
    """
    text = inspect.cleandoc(modern.__doc__ or "").format(name=paper.name, data=paper.data, expected=paper.expected)
    average = _LONG if paper.settings["epochs"] > 16 else _SHORT
    return dataclasses.replace(
        paper,
        name=paper.name + SUFFIX,
        expected="–",
        settings={**paper.settings, **_OVER, "ema": average},
        text=text,
    )
