"""Judging networks on the validation clips: each clip once, however many processes share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset

from dualformer.datasets.clip_datasets import Batches
from dualformer.errors import DualFormerError
from dualformer.model.network import DualFormer
from dualformer.scoring.multilabel import THRESHOLD, mean_average_precision, micro_f1
from dualformer.scoring.view_scores import average_views, to_probabilities
from dualformer.training.distributed import ProcessGroup
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """Of one network. Shares from 0 to 1."""

    loss: float
    top1: float
    """Of clips whose likeliest class is theirs, or one of theirs."""
    top5: float | None = None
    """None of 5 classes or fewer, and where clips may have several labels."""
    confusion: Tensor | None = None
    """Clips by true class (rows) and the class that they were taken for, int64; None where there may be several."""
    map: float | None = None
    """Mean average precision over the classes, where clips may have several labels."""
    f1: float | None = None
    """Of all yes and no at one half, likewise."""

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better. On few clips many networks are equally accurate: then the smaller loss decides."""
        return self.top1 if self.map is None else self.map, -self.loss

    def figures(self, name: str) -> dict[str, float]:
        """As they are called in metrics.jsonl, for the network ``name``."""
        found = {key: getattr(self, key) for key in ("loss", "top1", "top5", "map", "f1")}
        return {f"{name}_{key}": value for key, value in found.items() if value is not None}


@torch.no_grad()
def judge(
    networks: Mapping[str, DualFormer],
    clips: Dataset[dict[str, Tensor]],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int,
    ranks: ProcessGroup,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    multi_label: bool = False,
) -> dict[str, ValidationResult]:
    """Every network on all ``clips``, which are read once: those of each process, ``ranks.world`` apart.

    Loss is of the mean probabilities of a clip's views. What all processes found is put together, so that uneven parts
    do not matter. ``multi_label``: clips have a ``target``. The networks come back in the mode in which they were.
    Errors: ``DualFormerError``, in every process, for clips that cannot be read in any.
    """
    modes = [(module, module.training) for network in networks.values() for module in network.modules()]
    for network in networks.values():
        network.eval()
    classes = next(iter(networks.values())).config.num_classes
    tallies = {name: _Several() if multi_label else _One(classes) for name in networks}
    failure = None
    try:
        for batch in Batches(_part(clips, ranks), batch_size=batch_size, num_workers=workers):
            views = batch["views"].to(device)
            inputs = normalize(views.flatten(0, 1), preprocessing)
            for name, network in networks.items():
                with autocast():
                    logits = network(inputs).float()
                each = to_probabilities(logits, multi_label=multi_label)
                tallies[name].add(average_views(each.unflatten(0, (-1, views.shape[1]))), batch)
    except DualFormerError as error:
        failure = error
    finally:
        for module, was_training in modes:
            module.training = was_training
    ranks.agree(failure)
    return {name: tally.judge(ranks) for name, tally in tallies.items()}


class _One:
    """Counts of clips of one label each."""

    def __init__(self, classes: int) -> None:
        self._classes, self._loss, self._among_5 = classes, 0.0, 0.0
        self._confusion = torch.zeros(classes * classes, dtype=torch.int64)

    def add(self, probabilities: Tensor, batch: Mapping[str, Tensor]) -> None:
        labels, classes = batch["label"].to(probabilities.device), self._classes
        self._loss += float(F.nll_loss(probabilities.clamp_min(1e-12).log(), labels, reduction="sum"))
        among_5 = probabilities.topk(min(5, classes)).indices == labels[:, None]
        self._among_5 += float(among_5.sum())
        pairs = labels * classes + probabilities.argmax(dim=1)
        self._confusion += torch.bincount(pairs.cpu(), minlength=classes * classes)

    def judge(self, ranks: ProcessGroup) -> ValidationResult:
        loss, among_5 = ranks.total(self._loss, self._among_5)
        confusion = ranks.total_counts(self._confusion).view(self._classes, self._classes)
        total = int(confusion.sum())
        return ValidationResult(
            loss=loss / total,
            top1=int(confusion.trace()) / total,
            top5=among_5 / total if self._classes > 5 else None,
            confusion=confusion,
        )


class _Several:
    """Probabilities of clips of several labels. Average precision takes all of them at once."""

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, probabilities: Tensor, batch: Mapping[str, Tensor]) -> None:
        self._scores.append(probabilities.cpu())
        self._targets.append(batch["target"])

    def judge(self, ranks: ProcessGroup) -> ValidationResult:
        # A process may have had no clip at all.
        parts = [part for own in ranks.gather(list(zip(self._scores, self._targets, strict=True))) for part in own]
        scores, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        loss = F.binary_cross_entropy(scores, targets)
        right = targets.gather(1, scores.argmax(dim=1, keepdim=True))
        true = targets.bool().numpy()
        return ValidationResult(
            loss=float(loss),
            top1=float(right.mean()),
            map=mean_average_precision(scores.numpy(), true),
            f1=micro_f1(scores.numpy() >= THRESHOLD, true),
        )


def _part(clips: Dataset[dict[str, Tensor]], ranks: ProcessGroup) -> Dataset[dict[str, Tensor]]:
    if ranks.world == 1:
        return clips
    return Subset(clips, range(ranks.rank, size(clips), ranks.world))


def size(clips: Dataset[dict[str, Tensor]]) -> int:
    """How many there are of a data set that knows."""
    assert isinstance(clips, Sized)
    return len(clips)
