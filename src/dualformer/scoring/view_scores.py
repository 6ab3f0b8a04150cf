"""Runs views through a network: probabilities or features of each view, and their average over the views of a video.

Evaluation, prediction and everything that is deployed get their answers here. Legend: V views of T frames.
"""

from collections.abc import Callable
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.errors import DualFormerError
from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

Precision = Literal["float32", "bfloat16"]
"""What the network computes in. float32 gives the same answer on every CPU, up to rounding. On a GPU, convolutions of
cuDNN round their inputs to TF32 unless ``torch.backends.cudnn.allow_tf32`` is False."""

Scores = TypeVar("Scores", Tensor, NDArray[np.float32])


def average_views(scores: Scores) -> Scores:
    """Returns the mean over views: (..., V, K) → (..., K), of probabilities or of features."""
    return cast(Scores, scores.mean(-2))


def to_probabilities(logits: Tensor, *, multi_label: bool) -> Tensor:
    """Returns the softmax of logits (..., classes), or with ``multi_label`` the sigmoid of each class."""
    return logits.sigmoid() if multi_label else logits.softmax(dim=-1)


def view_probabilities(
    network: Callable[[Tensor], Tensor],
    views: Tensor,
    pre: Preprocessing,
    *,
    device: torch.device,
    batch_size: int = 4,
    precision: Precision = "float32",
    multi_label: bool = False,
) -> Tensor:
    """Returns the probabilities of each view: uint8 (V, T, h, w, 3) → float32 (V, classes) on the CPU.

    ``network``: B 3 T H W → B classes (logits), in eval mode, on ``device``; where it gives logits of S steps in time,
    B S classes, so are the probabilities. One with a true attribute ``takes_views`` is given the uint8 views as they
    are and normalises them itself, and computes in what it was made for: exported models are such. ``batch_size`` views
    go through it together, which bounds the memory whatever V is.
    Raises :class:`DualFormerError` where memory runs out on the device or scores are not finite.
    """

    def compute(part: Tensor) -> Tensor:
        if getattr(network, "takes_views", False):
            return to_probabilities(network(part).float(), multi_label=multi_label)
        with _autocast(device, precision):
            logits = network(normalize(part.to(device), pre))
        return to_probabilities(logits.float(), multi_label=multi_label)

    probabilities = _in_batches(compute, views, batch_size, device)
    if not probabilities.isfinite().all():
        raise DualFormerError(
            f"the network's scores are not finite numbers in {precision}: its weights are damaged, or it needs float32"
        )
    return probabilities


def view_features(
    network: DualFormer,
    views: Tensor,
    pre: Preprocessing,
    *,
    device: torch.device,
    batch_size: int = 4,
    precision: Precision = "float32",
) -> Tensor:
    """Returns what the classifier sees of each view, pooled features: uint8 (V, T, h, w, 3) → float32 (V, C), CPU.

    Raises :class:`DualFormerError` where memory runs out on the device.
    """

    def compute(part: Tensor) -> Tensor:
        with _autocast(device, precision):
            features = network.forward_features(normalize(part.to(device), pre))
            return network.forward_head(features, pre_logits=True).float()

    return _in_batches(compute, views, batch_size, device)


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@torch.inference_mode()
def _in_batches(compute: Callable[[Tensor], Tensor], views: Tensor, batch_size: int, device: torch.device) -> Tensor:
    if batch_size < 1:
        raise ValueError(f"at least one view must go through the network at a time, not {batch_size}")
    try:
        return torch.cat([compute(part).cpu() for part in views.split(batch_size)])
    except torch.cuda.OutOfMemoryError as error:
        raise DualFormerError(
            f"{device} has no memory for {min(batch_size, len(views))} views at a time: take fewer (`batch_size`)"
        ) from error
