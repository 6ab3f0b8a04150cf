"""What an exported model costs in accuracy: it and its weights over the same labelled videos."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dualformer.datasets.samples import VideoList
from dualformer.evaluation.evaluate import evaluate
from dualformer.model.network import DualFormer
from dualformer.video.views import Views
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_network import ExportedNetwork


@dataclass(frozen=True, kw_only=True)
class AccuracyChange:
    """Figures as ``dualformer evaluate`` has them."""

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
    """Evaluates both. ``progress`` counts the videos of both. Errors: as `evaluate`."""
    total = 2 * len(videos)

    def later(before: int) -> Callable[[int, int], None] | None:
        show = progress
        return None if show is None else lambda done, _: show(before + done, total)

    ours, theirs = (
        evaluate(
            one,
            card,
            videos,
            views=views,
            workers=workers,
            batch_size=batch_size,
            label_map=label_map,
            progress=later(before),
        )
        for one, before in ((model, 0), (network, len(videos)))
    )
    figure = "mean_average_precision" if card.multi_label else "top1"
    if card.multi_label:
        same = (ours.probabilities > 0.5) == (theirs.probabilities > 0.5)
    else:
        same = ours.probabilities.argmax(axis=1) == theirs.probabilities.argmax(axis=1)
    return AccuracyChange(
        figure=figure,
        weights=ours.figures[figure],
        exported=theirs.figures[figure],
        agreement=float(same.mean()),
        videos=len(videos),
        source=videos.source,
        views=ours.views,
    )


def judge_on(
    model: DualFormer,
    card: Card,
    videos: VideoList,
    *,
    views: Views | str,
    workers: int = 0,
    label_map: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Callable[[ExportedNetwork], AccuracyChange]:
    """`compare_accuracy` of what is yet to be exported."""
    return lambda network: compare_accuracy(
        model, network, card, videos, views=views, workers=workers, label_map=label_map, progress=progress
    )
