"""Evaluates a cross-validation: each fold's network on the videos that it has not seen, and all of them together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np

from dualformer.datasets.samples import VideoList, hash_manifest
from dualformer.evaluation.evaluate import Evaluation, evaluate
from dualformer.evaluation.metrics import summary
from dualformer.scoring.multilabel import THRESHOLD, multilabel_summary
from dualformer.weights.card import Card
from dualformer.weights.open_network import Network


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """One run of a cross-validation."""

    name: str
    open: Callable[[], tuple[Network, Card]]
    """Returns its network, on the device that it is to run on, and card."""
    videos: VideoList
    """Those that it was validated on, and not trained."""


def evaluate_folds(
    folds: Sequence[Fold], *, source: str, progress: Callable[[int, int], None] | None = None, **settings: Any
) -> Evaluation:
    """Returns the evaluation of all videos, each by the network of its fold; one network is in memory at a time.

    ``settings`` and errors are those of `evaluate`. ``folds`` in ``figures`` has each fold's name, number of videos and
    accuracy (``top1``, or ``mean_average_precision`` of several labels a video); there, classes count from one half on,
    as the thresholds of the weights were chosen by these videos.
    Networks may space the frames of their clips differently, as training proposes it by the videos of each fold.
    Errors: ``ValueError`` without folds, and for folds of other classes.
    """
    if not folds:
        raise ValueError("a cross-validation without folds: there is nothing to evaluate")
    total, parts = sum(len(fold.videos) for fold in folds), list[Evaluation]()
    for fold in folds:
        done = sum(len(part.paths) for part in parts)
        model, card = fold.open()
        if parts and card.class_names != parts[0].classes:
            raise ValueError(f"{fold.name} has other classes than {folds[0].name}: evaluate each by itself")

        def tell(number: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done + number, total)

        parts.append(evaluate(model, card, fold.videos, first=done, progress=tell, **settings))
    return _pooled(folds, parts, source=source)


def _pooled(folds: Sequence[Fold], parts: Sequence[Evaluation], *, source: str) -> Evaluation:
    one = parts[0]
    probabilities = np.concatenate([part.probabilities for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    targets = (
        None if one.targets is None else np.concatenate([part.targets for part in parts if part.targets is not None])
    )
    missing = tuple(absent for part in parts for absent in part.missing)
    if targets is None:
        measured = summary(
            probabilities, labels, missing=np.asarray([absent.label for absent in missing], dtype=np.int64)
        )
        accuracy = "top1"
    else:
        absent_targets = np.concatenate([part.missing_targets for part in parts])
        measured = multilabel_summary(probabilities, targets, missing=absent_targets)
        accuracy = "mean_average_precision"
    seconds = sum(part.seconds for part in parts)
    speed = sum(part.seconds * part.clips_per_second for part in parts) / seconds
    without = set.intersection(*(set(part.figures.get("absent_classes", ())) for part in parts))
    figures = {key: value for key, value in one.figures.items() if key not in ("absent_classes", "thresholds")}
    figures |= measured | {
        "videos": len(labels),
        "source": source,
        "missing": len(missing),
        "manifest_hash": hash_manifest({fold.name: fold.videos for fold in folds}),
        "seconds": round(seconds, 3),
        "clips_per_second": round(speed, 3),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "folds": [
            {"name": fold.name, "videos": len(part.labels), accuracy: part.figures[accuracy]}
            for fold, part in zip(folds, parts, strict=True)
        ],
    }
    if without:
        figures["absent_classes"] = [name for name in one.classes if name in without]
    if any("trained_on" in part.figures for part in parts):
        figures["trained_on"] = sum(part.figures.get("trained_on", 0) for part in parts)
    return replace(
        one,
        paths=tuple(path for part in parts for path in part.paths),
        labels=labels,
        probabilities=probabilities,
        missing=missing,
        rates=tuple(rate for part in parts for rate in part.rates),
        source=source,
        figures=figures,
        seconds=seconds,
        clips_per_second=speed,
        targets=targets,
        thresholds=() if targets is None else (THRESHOLD,) * len(one.classes),
        notes=tuple(note for part in parts for note in part.notes),
        own_preprocessing=tuple(part.preprocessing for part in parts for _ in part.paths),
    )
