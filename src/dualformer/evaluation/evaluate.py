"""Evaluates weights on labelled videos, with the views and probabilities of prediction.

Two controls tell what the model relies on. ``one_frame``: every clip is its middle frame, repeated. ``shuffled``: the
frames of every clip in a random order. A model that scores as well as before does not use motion, or not its order.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dualformer._version import __version__
from dualformer.datasets.clip_datasets import Batches
from dualformer.datasets.samples import DatasetError, MissingSample, VideoList
from dualformer.datasets.video_digests import unpack_digests, video_digests
from dualformer.evaluation.label_matching import match_classes
from dualformer.evaluation.metrics import summary
from dualformer.evaluation.view_sweep import read_view_sweep
from dualformer.model.cost import measure_cost
from dualformer.scoring.multilabel import THRESHOLD, multilabel_summary
from dualformer.scoring.view_scores import Precision, average_views, view_probabilities
from dualformer.video.backend import decoder
from dualformer.video.clip_reader import Views
from dualformer.video.preprocessing import DEFAULT_VIEWS, Preprocessing
from dualformer.video.video_segment import Footage
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_network import ExportedNetwork
from dualformer.weights.open_network import Network

Control = Literal["none", "one_frame", "shuffled"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The results. The i-th path, label, row of probabilities and rate belong to the i-th video of the list."""

    classes: tuple[str, ...]
    """The weights' labels; ``labels`` and the columns of ``probabilities`` count in their order."""
    paths: tuple[Footage, ...]
    labels: NDArray[np.int64]
    """(N,); the first of several."""
    probabilities: NDArray[np.float32]
    """(N, classes): softmax for each view, of multi-label weights sigmoid, then the mean."""
    missing: tuple[MissingSample, ...]
    """Videos that are not there and count as wrong. Their labels count in the order of ``classes``."""
    rates: tuple[float | None, ...]
    """Frames a second of those videos that are folders of frames, where known."""
    source: str
    """Where the videos come from, in words."""
    views: str
    control: Control
    seed: int
    """Of the shuffled order."""
    preprocessing: Preprocessing
    figures: dict[str, Any]
    """`metrics.summary` or `multilabel_summary`, and how it was measured; ready for JSON."""
    seconds: float
    """Decoding and network, from the first video to the last."""
    clips_per_second: float
    """Views that went through decoding and the network in a second."""
    targets: NDArray[np.bool_] | None = None
    """(N, classes): which labels each video has, of multi-label weights."""
    thresholds: tuple[float, ...] = ()
    """The probability from which on each class counts, of multi-label weights."""
    notes: tuple[str, ...] = ()
    """Of each video what is to be said of it: that it is shorter than a clip, changes its size, or is HDR."""
    own_preprocessing: tuple[Preprocessing, ...] = ()
    """Of each video, where folds have networks that space their frames otherwise."""

    def preprocessing_of(self, index: int) -> Preprocessing:
        """Returns how the clips of video ``index`` were made."""
        return self.own_preprocessing[index] if self.own_preprocessing else self.preprocessing

    @property
    def missing_targets(self) -> NDArray[np.bool_]:
        """Returns (M, classes): which labels each missing video has."""
        return _multi_hot([absent.labels for absent in self.missing], len(self.classes))


def evaluate(
    model: Network, card: Card, videos: VideoList, *, views: Views | str = DEFAULT_VIEWS, **settings: Any
) -> Evaluation:
    """Runs ``model`` over ``videos`` with one number of ``views``; ``settings`` and errors are those of
    `evaluate_views`.
    """
    [evaluation] = evaluate_views(model, card, videos, views=[views], **settings)
    return evaluation


def evaluate_views(
    model: Network,
    card: Card,
    videos: VideoList,
    *,
    views: Sequence[Views | str],
    workers: int = 0,
    batch_size: int = 8,
    label_map: Mapping[str, str] | None = None,
    control: Control = "none",
    seed: int = 0,
    first: int = 0,
    precision: Precision | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Evaluation, ...]:
    """Runs ``model``, a network or an exported one, over ``videos``, on the device that it is on, with each of several
    numbers of ``views``, in their order, faster than one by one.

    A video is decoded once, and a view that several of them have in common goes through the network once. Time and
    speed are those of all of them together. What the list says is missing counts as wrong.
    ``workers``: processes that decode (0: this one). ``batch_size``: views that go through the network at a time.
    ``label_map``: class of the data set → label of the weights, where their names differ. ``first``: number of the
    first video, which its ``shuffled`` order depends on, where the list goes on with another one's. ``precision``:
    float32 unless said; an exported model has its own. ``progress`` is called with the number of videos done and their
    total.
    Raises ``ClassMismatchError`` where the classes differ, ``DatasetError`` for a video that does not decode, a list
    without videos, and one of several labels a video where the weights have one (or the other way round);
    ``ValueError`` for options out of range and views named twice.
    """
    chosen = tuple(Views.parse(each) for each in views)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"views are one or more, each named once, not {' '.join(map(str, chosen)) or 'none'}")
    if batch_size < 1 or workers < 0:
        raise ValueError(f"batch_size must be at least 1 and workers 0 or more, not {batch_size} and {workers}")
    if len(videos) == 0:
        raise DatasetError(f"{videos.source}: no video to evaluate on")
    _check_labels(card, videos)
    max(chosen, key=lambda each: each.crops).warn_if_equal(card.preprocessing)
    names = card.class_names
    to_label = match_classes(videos.classes, names, source=videos.source, label_map=label_map)
    labels = to_label[[sample.label for sample in videos.samples]]
    missing = tuple(_mapped(absent, to_label) for absent in videos.missing)
    targets = _multi_hot([to_label[list(sample.labels)] for sample in videos.samples], len(names))
    remembered = _count_trained_on(card, videos)
    loader = Batches(
        _EvaluationViews(videos, card.preprocessing, chosen, control=control, seed=seed, first=first),
        # Of several numbers of views, videos differ in how many of them coincide.
        batch_size=max(1, batch_size // chosen[0].count) if len(chosen) == 1 else 1,
        num_workers=min(workers, len(videos)),
    )
    probabilities = [np.zeros((len(videos), len(names)), dtype=np.float32) for _ in chosen]
    notes = [""] * len(videos)
    done = seen = 0
    begun = time.perf_counter()
    with _in_eval_mode(model, precision) as (device, computes_in):
        for batch in loader:
            scores = view_probabilities(
                model,
                batch["views"].flatten(0, 1),
                card.preprocessing,
                device=device,
                batch_size=batch_size,
                precision="bfloat16" if computes_in == "bfloat16" else "float32",
                multi_label=card.multi_label,
            ).unflatten(0, batch["views"].shape[:2])
            for found, places in zip(probabilities, batch["places"], strict=True):
                found[batch["index"]] = average_views(scores[:, places[0]]).numpy()
            for index, note in zip(batch["index"].tolist(), batch["notes"], strict=True):
                notes[index] = note
            done += len(batch["index"])
            seen += scores.shape[0] * scores.shape[1]
            if progress is not None:
                progress(done, len(videos))
    seconds = time.perf_counter() - begun
    pre = card.preprocessing
    cost = _cost(card.config, (pre.frames, pre.crop, pre.crop))
    absent = _multi_hot([one.labels for one in missing], len(names))
    absent_labels = np.asarray([one.label for one in missing], dtype=np.int64)
    seen_labels = {*labels.tolist(), *(label for one in missing for label in one.labels)}
    seen_labels |= set(np.flatnonzero(targets.any(axis=0)).tolist())
    without = [name for label, name in enumerate(names) if label not in seen_labels]

    def evaluation(views: Views, found: NDArray[np.float32]) -> Evaluation:
        if card.multi_label:
            figures = multilabel_summary(found, targets, missing=absent, thresholds=card.thresholds)
            if card.thresholds:
                figures["thresholds"] = dict(zip(names, card.thresholds, strict=True))
        else:
            figures = summary(found, labels, missing=absent_labels)
        measured = {
            "videos": len(videos),
            "classes": len(names),
            **({"absent_classes": without} if without else {}),
            "source": videos.source,
            "missing": len(missing),
            **({} if remembered is None else {"trained_on": remembered}),
            "manifest_hash": videos.manifest_hash,
            "views": str(views),
            "gmacs": cost.macs / 1e9 * views.count,
            "gmacs_per_view": cost.macs / 1e9,
            "parameters": cost.parameters,
            "control": control,
            "precision": computes_in,
            "decoder": decoder(),
            "seconds": round(seconds, 3),
            "clips_per_second": round(seen / seconds, 3),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "version": __version__,
        }
        return Evaluation(
            classes=names,
            paths=tuple(sample.file for sample in videos.samples),
            labels=labels,
            probabilities=found,
            missing=missing,
            rates=tuple(sample.fps for sample in videos.samples),
            source=videos.source,
            views=str(views),
            control=control,
            seed=seed,
            preprocessing=pre,
            figures=figures | measured,
            seconds=seconds,
            clips_per_second=seen / seconds,
            targets=targets if card.multi_label else None,
            thresholds=(card.thresholds or (THRESHOLD,) * len(names)) if card.multi_label else (),
            notes=tuple(notes),
        )

    return tuple(map(evaluation, chosen, probabilities))


_cost = cache(measure_cost)  # a second or so, and the same for every evaluation of a network


@contextmanager
def _in_eval_mode(model: Network, precision: Precision | None) -> Iterator[tuple[torch.device, str]]:
    """Yields the device of the model and its precision. A network is in eval mode meanwhile."""
    if isinstance(model, ExportedNetwork):
        yield model.device, model.check_precision(precision)
        return
    was_training = model.training
    model.eval()
    try:
        yield model.norm.weight.device, precision or "float32"
    finally:
        model.train(was_training)


def _check_labels(card: Card, videos: VideoList) -> None:
    if videos.multi_label and not card.multi_label:
        raise DatasetError(
            f"{videos.source}: its videos may have several labels, and the weights give each one: judge weights that "
            "were trained with `multi_label=True` by it"
        )
    if card.multi_label and not videos.multi_label:
        raise DatasetError(
            f"{videos.source}: its videos have one label each, and the weights were trained with `multi_label=True`: "
            "judge them by a CSV file with all labels of every video"
        )


def _count_trained_on(card: Card, videos: VideoList) -> int | None:
    """Returns how many videos the weights were trained on; None for weights that do not know on which they were."""
    if not card.trained_on:
        return None
    known = unpack_digests(card.trained_on)
    return sum(digest in known for digest in video_digests(sample.file for sample in videos.samples))


def _mapped(absent: MissingSample, to_label: NDArray[np.int64]) -> MissingSample:
    first, *others = dict.fromkeys(to_label[list(absent.labels)].tolist())  # two may lead to one
    return replace(absent, label=first, extra_labels=tuple(others))


def _multi_hot(labels: Sequence[Iterable[int]], classes: int) -> NDArray[np.bool_]:
    """Returns (N, classes): which labels each video has."""
    targets = np.zeros((len(labels), classes), dtype=bool)
    for row, own in zip(targets, labels, strict=True):
        row[list(own)] = True
    return targets


def apply_control(views: Tensor, control: Control, *, seed: int, index: int) -> Tensor:
    """Returns the views (V, T, h, w, 3) of video ``index`` with their frames replaced or reordered.

    The order of ``shuffled`` is drawn from (seed, index), is the same for all views of a video, and never the true one.
    """
    if control == "none":
        return views
    frames = views.shape[1]
    if frames < 2:
        raise ValueError(f"the control {control} needs clips of 2 or more frames; these weights watch a single one")
    if control == "one_frame":
        return views[:, frames // 2 : frames // 2 + 1].expand_as(views).contiguous()
    rng = np.random.default_rng([seed, index])
    order = rng.permutation(frames)
    while np.array_equal(order, np.arange(frames)):
        order = rng.permutation(frames)
    return views[:, torch.from_numpy(order)]


class _EvaluationViews(Dataset[dict[str, Any]]):
    """Views of every video, under a control: ``dict(views, places, index, notes)``.

    ``places``: for each of the numbers of views that are asked for, their indices in ``views``.
    """

    def __init__(
        self,
        videos: VideoList,
        pre: Preprocessing,
        views: tuple[Views, ...],
        *,
        control: Control,
        seed: int,
        first: int,
    ) -> None:
        if control not in ("none", "one_frame", "shuffled"):
            raise ValueError(f"there is no control {control!r}; choose none, one_frame or shuffled")
        if seed < 0:
            raise ValueError(f"seed must not be negative, not {seed}")
        if control != "none" and pre.frames < 2:
            raise ValueError(f"the control {control} needs clips of 2 or more frames; these weights watch a single one")
        decoder()  # one that is missing is told here, and not by every worker
        self._videos, self._pre, self._views = videos, pre, views
        self._control: Control = control
        self._seed, self._first = seed, first

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._videos.samples[index]
        read = read_view_sweep(sample.file, self._pre, self._views, fps=sample.fps)
        views = apply_control(read.views, self._control, seed=self._seed, index=self._first + index)
        return {"views": views, "places": read.places, "index": index, "notes": "; ".join(read.notes)}
