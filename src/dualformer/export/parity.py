"""How far an exported model is from the weights that it was made from, on the same clips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dualformer.model.network import DualFormer
from dualformer.scoring.view_scores import to_probabilities
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

TOLERANCES = {"fp32": 1e-4, "bf16": 2e-2, "int8": 0.1}
"""Largest difference of logits, relative to the largest logit, up to which an export is done."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One batch size. Differences are the largest of all clips and classes."""

    batch: int
    clips: int
    logits: float
    relative: float
    """The difference of logits over the largest logit of the weights."""
    probabilities: float
    agreement: float
    """Share of clips with the same most likely class; of multi-label weights, share of equal answers yes or no."""


@torch.inference_mode()
def reference_logits(model: DualFormer, clips: Tensor, pre: Preprocessing) -> Tensor:
    """What the weights say of uint8 clips N T H W 3, in float32, one after the other: N classes."""
    return torch.cat([model(normalize(clip[None], pre)) for clip in clips])


def compare(
    network: Callable[[Tensor], Tensor],
    clips: Tensor,
    reference: Tensor,
    *,
    batches: Sequence[int],
    multi_label: bool = False,
) -> list[Comparison]:
    """``network`` on uint8 clips N T H W 3, ``batches`` of them at a time, beside the ``reference`` logits."""
    compared: list[Comparison] = []
    for batch in batches:
        logits = torch.cat([network(part) for part in clips.split(batch)])
        scale = float(reference.abs().max().clamp(min=torch.finfo(torch.float32).tiny))
        difference = float((logits - reference).abs().max())
        if not logits.isfinite().all():
            difference = float("inf")
        own, others = (to_probabilities(scores, multi_label=multi_label) for scores in (logits, reference))
        same = (own > 0.5) == (others > 0.5) if multi_label else own.argmax(dim=1) == others.argmax(dim=1)
        compared.append(
            Comparison(
                batch=batch,
                clips=len(clips),
                logits=difference,
                relative=difference / scale,
                probabilities=float((own - others).abs().max()),
                agreement=float(same.float().mean()),
            )
        )
    return compared
