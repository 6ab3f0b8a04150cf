"""Losses of a training step, on clips and on tokens, and the weights of classes in them."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.datasets.samples import DatasetError, first_few, spelled_as
from dualformer.files import csv_text, read_csv_table

BALANCED = "balanced"
"""What ``class_weights`` says for weights by the number of videos."""
_HEADER = ("class", "weight")
_MOST_NAMED = 12


class ClipLoss(nn.Module):
    """Cross-entropy, or with ``multi_label`` binary cross-entropy of every class for itself, the mean over classes.

    ``label_smoothing`` s of the target goes to all classes evenly; with ``multi_label`` s/2 to yes and s/2 to no.

    ``class_weights`` (classes,), all more than 0. For cross-entropy a clip counts by its class's weight, a mixed one by
    the weights of its parts, and the loss is the sum over the batch divided by what its clips weigh. For whole labels
    that is PyTorch's weighted mean; where targets are parts, PyTorch divides by the number of clips, so that a batch
    would count by what is in it. With ``multi_label`` they multiply the loss of a clip that has the class
    (``pos_weight``), and clips count alike.

    Errors: ``ValueError`` for weights or smoothing out of range.
    """

    def __init__(
        self,
        *,
        classes: int,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label smoothing is a share from 0 to below 1, not {label_smoothing}")
        if class_weights is not None:
            if class_weights.shape != (classes,):
                raise ValueError(f"{classes} classes need as many weights, not {tuple(class_weights.shape)}")
            if not (class_weights.isfinite().all() and (class_weights > 0).all()):
                raise ValueError("class weights must be numbers more than 0")
        self.classes, self.label_smoothing, self.multi_label = classes, label_smoothing, multi_label
        self.class_weights: Tensor | None
        # Known from the settings, so that no checkpoint need hold them.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``logits`` B C; ``target`` B int64, or B C float: parts of each class, or with ``multi_label`` 0, 1 or (of
        mixed clips) anything between. Returns the mean over the batch, a scalar.

        Errors: ``ValueError`` for other shapes.
        """
        if logits.dim() != 2 or logits.shape[1] != self.classes or target.shape not in self._shapes(logits):
            raise ValueError(
                f"logits {tuple(logits.shape)} and targets {tuple(target.shape)} do not fit {self.classes} classes"
            )
        if self.multi_label:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.class_weights)
        weights = self.clip_weights(target)
        if weights is None:
            return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        total = F.cross_entropy(
            logits, target, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / weights.sum()

    def clip_weights(self, target: Tensor) -> Tensor | None:
        """Returns what each clip of a batch counts for, B; None where all count alike."""
        if self.class_weights is None or self.multi_label:
            return None
        if target.dim() == 1:
            return self.class_weights[target]
        with torch.autocast(target.device.type, enabled=False):  # a divisor in bfloat16 is up to 0.4 % off
            return target.float() @ self.class_weights

    def _shapes(self, logits: Tensor) -> tuple[torch.Size, ...]:
        return (logits.shape,) if self.multi_label else (logits.shape, logits.shape[:1])


def mean_over_clips(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the mean of a loss for each clip, B, by what the clips count for, B (None: all alike)."""
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()


def token_loss(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns the cross-entropy of logits B T H W C against distributions of the same shape, the mean over all tokens.

    ``weights``: what each clip counts for, B; None: all count alike.
    """
    losses = -(target * logits.log_softmax(dim=-1)).sum(dim=-1)
    return losses.mean() if weights is None else mean_over_clips(losses.flatten(1).mean(dim=1), weights)


def distillation_loss(
    logits: Tensor, teacher_logits: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """Returns the Kullback-Leibler divergence of the student's softmax from the teacher's (logits B C), the mean over
    clips.

    Both logits are divided by the temperature; its square keeps the gradient's size (Hinton et al., 2015). ``weights``:
    what each clip counts for, B; None: all count alike.
    """
    student = (logits / temperature).log_softmax(dim=1)
    teacher = (teacher_logits / temperature).log_softmax(dim=1)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * mean_over_clips(divergence, weights)


def feature_loss(features: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns one less the cosine between features B D and their targets, the mean over the clips that have one: rows
    of zeros are none.

    ``weights``: what each clip counts for, B; None: all count alike.
    """
    counts = target.any(dim=1).float() * (1.0 if weights is None else weights)
    losses = 1 - F.cosine_similarity(features, target, dim=1)
    return (losses * counts).sum() / counts.sum().clamp_min(1e-12)


def compute_class_weights(
    how: str, classes: tuple[str, ...], *, counts: Mapping[str, float], videos: float, multi_label: bool
) -> tuple[dict[str, float], str]:
    """Returns a weight for each class, in their order, as ``how`` says (`BALANCED`, or a file), and a line about them.

    ``counts``: videos of each class among the ``videos`` to train on. Errors: as `read_class_weights`, and
    ``DatasetError`` for a class that cannot be balanced.
    """
    if how != BALANCED:
        weights = read_class_weights(how, classes)
        return weights, f"class weights of {how}: {_in_words(weights)}"
    if multi_label:
        if everywhere := [name for name in classes if counts[name] >= videos]:
            raise DatasetError(
                f"`class_weights={BALANCED}`: every video to train on has the label {everywhere[0]!r}, so there is "
                "nothing to tell it from: add videos without it, or leave the label out"
            )
        weights = {name: (videos - counts[name]) / counts[name] for name in classes}
        return weights, f"class weights: videos without the class over those with it: {_in_words(weights)}"
    weights = {name: videos / (len(classes) * counts[name]) for name in classes}
    return weights, f"class weights: videos over {len(classes)} classes x those of the class: {_in_words(weights)}"


def read_class_weights(path: str | Path, classes: tuple[str, ...]) -> dict[str, float]:
    """Reads a CSV file with the header ``class,weight`` and a line for each of ``classes``; returns them in order.

    Raises ``FileNotFoundError``, and ``DatasetError`` with the place of what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of class weights: {path} (or say `class_weights={BALANCED}`)")
    found: dict[str, float] = {}
    wrong_header = f"class weights start with the header {','.join(_HEADER)}"
    rows = read_csv_table(
        path, _HEADER, DatasetError, wrong_header=wrong_header, wrong_row="expected a class and its weight"
    )
    for place, (written, weight) in rows:
        name = spelled_as(written, classes)
        if name not in classes:
            raise DatasetError(f"{place}: {name!r} is none of the {len(classes)} classes: write it as they are")
        if name in found:
            raise DatasetError(f"{place}: class {name!r} is there twice: keep one line")
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] < math.inf:
            raise DatasetError(f"{place}: a weight is a number more than 0, not {weight!r}")
    if missing := [name for name in classes if name not in found]:
        raise DatasetError(f"{path}: no weight for class {first_few(map(repr, missing))}: add a line (1 is usual)")
    return {name: found[name] for name in classes}


def format_class_weights(weights: Mapping[str, float]) -> str:
    """Returns the text of a file that `read_class_weights` reads back the same."""
    return csv_text(_HEADER, ((name, repr(weight)) for name, weight in weights.items()))


def _in_words(weights: Mapping[str, float]) -> str:
    if len(weights) <= _MOST_NAMED:
        return ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
    low, high = (choose(weights, key=lambda name: weights[name]) for choose in (min, max))
    return f"from {weights[low]:.3g} ({low!r}) to {weights[high]:.3g} ({high!r})"
