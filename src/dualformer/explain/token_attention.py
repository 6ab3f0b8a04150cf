"""Computes the attention of one token over its window or over the scales of the global pyramid (figure 2d)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dualformer.model.config import Config, Size3
from dualformer.model.maps import AttentionMap, watch_attention
from dualformer.model.network import DualFormer

AttentionMethod = Literal["attention", "pyramid"]
"""LW-MSA, within windows, or GP-MSA, over the global pyramid."""

_KINDS = {"attention": "L", "pyramid": "G"}


@dataclass(frozen=True, kw_only=True)
class SubBlockIndex:
    """The index of a sub-block; stage, block and half count from 0."""

    stage: int
    block: int
    half: int


def find_sub_block(
    config: Config, method: AttentionMethod, *, stage: int | None, block: int | None, half: int | None
) -> SubBlockIndex:
    """Finds a sub-block; stage, block and half count from 1, as in the paper.

    Left out, they are the last stage that has a pyramid, its last block, and the first half of that kind. Errors:
    ``ValueError`` where there is no such half.
    """
    kind = _KINDS[method]
    number = _default_stage(config, method) if stage is None else stage_number(config, stage)
    chosen = config.stages[number]
    of = f"of stage {number + 1}"
    kinds = [place for place, letter in enumerate(chosen.kinds) if letter == kind]
    if not kinds:
        raise ValueError(f"the halves {of} are {chosen.kinds}, and {method} explains {kind}: choose another stage")
    place = kinds[0] if half is None else _index(f"half {of}", half, len(chosen.kinds))
    if place not in kinds:
        raise ValueError(f"the halves {of} are {chosen.kinds}: half {half} is not {kind}, which {method} explains")
    return SubBlockIndex(
        stage=number,
        block=chosen.depth - 1 if block is None else _index(f"block {of}", block, chosen.depth),
        half=place,
    )


def stage_number(config: Config, stage: int) -> int:
    """Returns the number from 0 of a stage that counts from 1. Errors: ``ValueError`` where there is none."""
    return _index("stage", stage, len(config.stages))


def watch_sub_block(model: DualFormer, video: Tensor, index: SubBlockIndex, token: Size3) -> AttentionMap:
    """Returns the attention of one sub-block for a video 1 3 T H W.

    Errors: ``ValueError`` if ``token`` (t, y, x) lies outside the map.
    """
    stage = model.config.stages[index.stage]
    with (
        torch.no_grad(),
        watch_attention(model, stages=[index.stage], blocks=[index.block], kinds=stage.kinds[index.half]) as watched,
    ):
        model.forward_intermediates(video, indices=[index.stage], stop_early=True, intermediates_only=True)
    found = next(found for found in watched.maps if found.half == index.half)
    if any(not 0 <= at < length for at, length in zip(token, found.size, strict=True)):
        t, h, w = found.size
        raise ValueError(
            f"token {','.join(map(str, token))} lies outside the map of stage {index.stage + 1}: it has {t}×{h}×{w} "
            "tokens (t,y,x), counted from 0"
        )
    return found


def _default_stage(config: Config, method: AttentionMethod) -> int:
    having = [number for number, stage in enumerate(config.stages) if _KINDS[method] in stage.kinds]
    if not having:
        what = "windows" if method == "attention" else "halves with global attention"
        raise ValueError(f"the network has no {what} for {method} to explain: choose another method")
    return next((number for number in reversed(having) if config.stages[number].scales), having[-1])


def _index(what: str, number: int, count: int) -> int:
    if not 1 <= number <= count:
        raise ValueError(f"{what}: there are {count}, counted from 1, and {number} is none of them")
    return number - 1
