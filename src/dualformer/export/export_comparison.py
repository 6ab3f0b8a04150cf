"""Compares an exported model with its weights: their logits on clips, their accuracy on labelled videos."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dualformer.datasets.samples import VideoList
from dualformer.evaluation.evaluate import evaluate
from dualformer.model.network import DualFormer
from dualformer.scoring.view_scores import to_probabilities
from dualformer.video.clip_reader import Views
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_network import ExportedNetwork

TOLERANCES = {"fp32": 1e-4, "bf16": 2e-2, "int8": 0.1}
"""Largest difference of logits, relative to the largest logit, up to which an export is written."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Logits at one batch size. Differences are the largest of all clips, steps and classes."""

    batch: int
    clips: int
    logits: float
    relative: float
    """The difference of logits over the largest logit of the weights."""
    probabilities: float
    agreement: float
    """Share of clips, or of their steps, with the same most likely class; of multi-label weights, share of equal
    answers yes or no."""


@torch.inference_mode()
def reference_logits(model: DualFormer, clips: Tensor, pre: Preprocessing) -> Tensor:
    """Returns the logits (N, classes) of the weights for uint8 clips N T H W 3, in float32, one clip at a time; of a
    temporal head those of the steps, (N, T', classes)."""

    def logits(video: Tensor) -> Tensor:
        return model(video) if model.temporal is None else model.step_scores(model.forward_features(video))

    return torch.cat([logits(normalize(clip[None], pre)) for clip in clips])


def compare_logits(
    network: Callable[[Tensor], Tensor],
    clips: Tensor,
    reference: Tensor,
    *,
    batches: Sequence[int],
    multi_label: bool = False,
) -> list[Comparison]:
    """Compares logits of ``network`` with ``reference``, both of clips or both of their steps, for uint8 clips
    N T H W 3, at each of several batch sizes."""
    compared: list[Comparison] = []
    for batch in batches:
        logits = torch.cat([network(part) for part in clips.split(batch)])
        scale = float(reference.abs().max().clamp(min=torch.finfo(torch.float32).tiny))
        difference = float((logits - reference).abs().max())
        if not logits.isfinite().all():
            difference = float("inf")
        own, others = (to_probabilities(scores, multi_label=multi_label) for scores in (logits, reference))
        same = _same_answers(own, others, multi_label)
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


@dataclass(frozen=True, kw_only=True)
class AccuracyChange:
    """The accuracy of the weights and of the exported model, as ``dualformer evaluate`` computes it."""

    figure: str
    """top1, or mean_average_precision of multi-label weights."""
    weights: float
    exported: float
    agreement: float
    """Share of videos with the same most likely class; of multi-label weights, share of equal answers yes or no."""
    videos: int
    source: str
    views: str


def compare_accuracy(
    model: DualFormer,
    network: ExportedNetwork,
    card: Card,
    videos: VideoList,
    *,
    views: Views | str,
    workers: int = 0,
    batch_size: int = 8,
    label_map: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AccuracyChange:
    """Evaluates the weights and the exported model. ``progress`` counts the videos of both. Errors: as `evaluate`."""

    def progress_from(before: int) -> Callable[[int, int], None] | None:
        show = progress
        return None if show is None else lambda done, _: show(before + done, 2 * len(videos))

    run = partial(
        evaluate, card=card, videos=videos, views=views, workers=workers, batch_size=batch_size, label_map=label_map
    )
    ours, theirs = run(model, progress=progress_from(0)), run(network, progress=progress_from(len(videos)))
    figure = "mean_average_precision" if card.multi_label else "top1"
    same = _same_answers(ours.probabilities, theirs.probabilities, card.multi_label)
    return AccuracyChange(
        figure=figure,
        weights=ours.figures[figure],
        exported=theirs.figures[figure],
        agreement=float(same.mean()),
        videos=len(videos),
        source=videos.source,
        views=ours.views,
    )


def _same_answers(one: Any, other: Any, multi_label: bool) -> Any:
    """Compares two tensors or arrays of probabilities (..., classes): the same class, or the same answers yes or no."""
    return (one > 0.5) == (other > 0.5) if multi_label else one.argmax(-1) == other.argmax(-1)
