"""Reads what an encoder's probe says of clips from disk, and makes targets for training clips from it.

A folder holds ``scores.json`` (`ScoresCard`) and a file for every video: the probe's logits of its clips (n, classes),
its pooled features of them (n, D), and the seconds that each begins and ends at (n, 2). A training clip learns from
those that it overlaps in time, each by how long; how it was cropped and what was done to its pixels makes no
difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dualformer.datasets.clip_datasets import TrainingClips
from dualformer.datasets.per_video_files import per_video_file
from dualformer.datasets.samples import Sample
from dualformer.training.read_teacher_scores import ScoresCard, check_scores_complete, read_scores
from dualformer.training.teacher import match_classes


class ClipTarget(NamedTuple):
    """What a training clip is to learn: a distribution, classes, and features, D; zeros where none are known."""

    scores: Tensor
    features: Tensor


class ClipScoreFolder:
    """Scores of clips on disk, for a student with ``classes``. Errors: as `match_classes`."""

    def __init__(self, folder: Path | str, card: ScoresCard, classes: Sequence[str]) -> None:
        self.folder, self.card = Path(folder), card
        self._order, note = match_classes(card.classes, card.count, classes, str(folder))
        self.lines = [f"teacher: {card.teacher}, by a probe on its features in {folder}, {card.count} classes{note}"]
        if card.remark:
            self.lines.append(f"teacher: {card.remark}")

    def clip_target(
        self, sample: Sample, *, times: NDArray[np.float64], flip: bool, mirrored: Sequence[int] | None = None
    ) -> ClipTarget:
        """Returns the target of a clip whose frames lie at ``times`` (T,), in seconds, mirrored if ``flip``.

        It is the mean of what the clips that overlap it were said to be, by how long they do; of the nearest, where
        none does. ``mirrored``: which class each becomes in a mirror (-1: none, its part is shared out among the
        others). Where classes change in a mirror, no features of a mirrored clip are known. Errors: ``DatasetError``.
        """
        stored = read_scores(per_video_file(self.folder, sample))
        weights = overlap_weights(times, stored["spans"].numpy())
        logits = stored["logits"].float()
        if self._order is not None:
            logits = logits[:, self._order]
        scores, features = weights @ logits.softmax(dim=1), weights @ stored["pooled"].float()
        if flip and mirrored is not None:
            partner = torch.as_tensor(mirrored)
            scores = scores[partner.clamp_min(0)] * (partner >= 0)
            scores, features = scores / scores.sum().clamp_min(1e-12), torch.zeros_like(features)
        return ClipTarget(scores, features)


class ClipsWithClipTargets(Dataset[dict[str, Any]]):
    """Training clips, each with ``clip_target`` classes and ``feature_target`` D from stored scores of its video."""

    def __init__(self, clips: TrainingClips, scores: ClipScoreFolder) -> None:
        check_scores_complete(scores.folder, clips.videos)
        clips.return_geometry = True
        self._clips, self._scores = clips, scores

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        item = self._clips[key]
        where = {name: item.pop(name) for name in ("box", "times", "flip")}
        sample = self._clips.videos.samples[item["index"]]
        target = self._scores.clip_target(
            sample, times=where["times"], flip=where["flip"], mirrored=self._clips.mirrored
        )
        return item | {"clip_target": target.scores, "feature_target": target.features}


def overlap_weights(times: NDArray[np.float64], spans: NDArray[np.float64]) -> Tensor:
    """Returns what each of n ``spans`` (n, 2) counts for a clip at ``times`` (T,), float32 (n,), the sum being 1: by
    the seconds that both share, or all the span whose middle is nearest where they share none.
    """
    apart = (times.max() - times.min()) / max(1, len(times) - 1)
    start, end = times.min(), times.max() + apart
    shared = np.maximum(0.0, np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start))
    if shared.sum() <= 0:
        shared = np.zeros(len(spans))
        shared[np.abs(spans.mean(axis=1) - (start + end) / 2).argmin()] = 1.0
    return torch.from_numpy(shared / shared.sum()).float()
