"""Validation of networks during a run: every clip once, however many processes share them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset

from dualformer.datasets.clip_datasets import Batches
from dualformer.errors import DualFormerError
from dualformer.scoring.multilabel import THRESHOLD, fit_thresholds, mean_average_precision, micro_f1
from dualformer.scoring.view_scores import average_views, to_probabilities
from dualformer.training.distributed import ProcessGroup
from dualformer.training.objective import ClipObjective
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.token_labels import step_targets
from dualformer.video.clip_reader import Views
from dualformer.video.transforms import normalize


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """The validation of one network. Accuracies are shares from 0 to 1."""

    loss: float
    top1: float
    """The share of clips whose likeliest class is theirs, or one of theirs."""
    top5: float | None = None
    """None for 5 classes or fewer, and where clips may have several labels."""
    confusion: Tensor | None = None
    """Numbers of clips C×C by true (rows) and predicted class, int64; None where clips may have several labels."""
    map: float | None = None
    """Mean average precision over the classes, where clips may have several labels."""
    f1: float | None = None
    """Micro-F1 of all classes at probability one half, likewise."""
    thresholds: tuple[float, ...] = ()
    """`fit_thresholds` of the classes on these clips, likewise."""

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better. On few clips many networks are equally accurate: then the smaller loss decides."""
        return self.top1 if self.map is None else self.map, -self.loss

    def figures(self, name: str) -> dict[str, float]:
        """Returns the numbers by their names in metrics.jsonl, for the network ``name``."""
        found = {key: getattr(self, key) for key in ("loss", "top1", "top5", "map", "f1")}
        return {f"{name}_{key}": value for key, value in found.items() if value is not None}


class ValidationBatches:
    """Iterates over the batches of a process's part of ``clips``, as often as is wanted.

    A batch has as many views as one of training has clips. With ``keep`` all of them stay in memory, once read.
    """

    def __init__(
        self, clips: Dataset[dict[str, Tensor]], settings: TrainConfig, *, ranks: ProcessGroup, keep: bool
    ) -> None:
        assert settings.batch_size is not None and settings.workers is not None
        own = clips if ranks.world_size == 1 else Subset(clips, range(ranks.rank, size(clips), ranks.world_size))
        views = Views.parse(settings.val_views or Views(1, 1))
        self._batches = Batches(
            own, batch_size=max(1, settings.batch_size // views.count), num_workers=settings.workers
        )
        self._keep = keep
        self._kept: list[dict[str, Tensor]] | None = None

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if self._kept is not None:
            yield from self._kept
            return
        read: list[dict[str, Tensor]] = []
        for batch in self._batches:
            if self._keep:  # as copies: what comes from workers is shared memory, of which there may be little
                read.append({name: tensor.clone() for name, tensor in batch.items()})
            yield batch
        self._kept = read if self._keep else None


@torch.no_grad()
def validate(
    objective: ClipObjective,
    batches: Iterable[Mapping[str, Tensor]],
    weights: Mapping[str, Callable[[], AbstractContextManager[object]]],
    *,
    ranks: ProcessGroup,
    autocast: Callable[[], AbstractContextManager[object]],
    sharded: bool = False,
) -> dict[str, ValidationResult]:
    """Validates the network on the clips of all processes' ``batches``, which are read once, by each of ``weights``:
    contexts by name in which it has them.

    The loss is that of the mean probabilities of a clip's views. Counts of all processes are added up, so that uneven
    parts do not matter; of a ``sharded`` objective all processes compute equally often, as each holds what the others
    need. Of clips with several labels each has a ``target``. Clips with ``moments`` have one view, and each of its
    steps in time counts by itself. The network keeps its mode.
    Errors: ``DualFormerError``, in every process, for clips that cannot be read in any.
    """
    pre, multi_label, classes = objective.preprocessing, objective.loss.multi_label, objective.model.config.num_classes
    modes = [(module, module.training) for module in objective.modules()]
    objective.eval()
    totals = {name: _MultiLabelTotals() if multi_label else _SingleLabelTotals(classes) for name in weights}
    nothing = torch.zeros(1, 1, pre.frames, pre.crop, pre.crop, 3, dtype=torch.uint8)
    failure = None
    try:
        for batch in _equally_often(batches, ranks) if sharded else batches:
            views = (nothing if batch is None else batch["views"]).to(ranks.device)
            inputs = normalize(views.flatten(0, 1), pre)
            by_step = batch is not None and "moments" in batch
            for name, has_weights in weights.items():
                with has_weights(), autocast():
                    logits = objective.clip_logits(inputs, by_step=by_step)
                if batch is None:
                    continue
                if by_step:
                    truth = step_targets(batch["moments"], logits.shape[1], multi_label=multi_label)
                    each = to_probabilities(logits.flatten(0, 1), multi_label=multi_label)
                    totals[name].add(each, {"target" if multi_label else "label": truth})
                else:
                    each = to_probabilities(logits, multi_label=multi_label)
                    totals[name].add(average_views(each.unflatten(0, (-1, views.shape[1]))), batch)
    except DualFormerError as error:
        failure = error
    finally:
        for module, was_training in modes:
            module.training = was_training
    ranks.raise_if_any(failure)
    return {name: total.result(ranks) for name, total in totals.items()}


def _equally_often(
    batches: Iterable[Mapping[str, Tensor]], ranks: ProcessGroup
) -> Iterator[Mapping[str, Tensor] | None]:
    """Yields this process's batches, and then None for as long as another process has some.

    In all processes it ends where one cannot read on; there it raises the ``DualFormerError``.
    """
    own = iter(batches)
    while True:
        batch = failure = None
        try:
            batch = next(own, None)
        except DualFormerError as error:
            failure = error
        some, failed = ranks.all_reduce(batch is not None, failure is not None)
        if failure:
            raise failure
        if failed or not some:
            return
        yield batch


class _SingleLabelTotals:
    """Loss and counts of clips of one label each."""

    def __init__(self, classes: int) -> None:
        self._classes, self._loss, self._top5 = classes, 0.0, 0.0
        self._confusion = torch.zeros(classes * classes, dtype=torch.int64)

    def add(self, probabilities: Tensor, batch: Mapping[str, Tensor]) -> None:
        labels, classes = batch["label"].to(probabilities.device), self._classes
        self._loss += float(F.nll_loss(probabilities.clamp_min(1e-12).log(), labels, reduction="sum"))
        self._top5 += float((probabilities.topk(min(5, classes)).indices == labels[:, None]).sum())
        pairs = labels * classes + probabilities.argmax(dim=1)
        self._confusion += torch.bincount(pairs.cpu(), minlength=classes * classes)

    def result(self, ranks: ProcessGroup) -> ValidationResult:
        loss, top5 = ranks.all_reduce(self._loss, self._top5)
        confusion = ranks.all_reduce_counts(self._confusion).view(self._classes, self._classes)
        total = int(confusion.sum())
        return ValidationResult(
            loss=loss / total,
            top1=int(confusion.trace()) / total,
            top5=top5 / total if self._classes > 5 else None,
            confusion=confusion,
        )


class _MultiLabelTotals:
    """Probabilities of clips of several labels. Average precision takes all of them at once."""

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, probabilities: Tensor, batch: Mapping[str, Tensor]) -> None:
        self._scores.append(probabilities.cpu())
        self._targets.append(batch["target"])

    def result(self, ranks: ProcessGroup) -> ValidationResult:
        # A process may have had no clip at all.
        parts = [part for own in ranks.all_gather(list(zip(self._scores, self._targets, strict=True))) for part in own]
        scores, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        loss = F.binary_cross_entropy(scores, targets)
        right = targets.gather(1, scores.argmax(dim=1, keepdim=True))
        true = targets.bool().numpy()
        return ValidationResult(
            loss=float(loss),
            top1=float(right.mean()),
            map=mean_average_precision(scores.numpy(), true),
            f1=micro_f1(scores.numpy() >= THRESHOLD, true),
            thresholds=fit_thresholds(scores.numpy(), true),
        )


def size(clips: Dataset[dict[str, Tensor]]) -> int:
    """Returns the number of clips of a data set that has a length."""
    assert isinstance(clips, Sized)
    return len(clips)
