"""What is said of a loss or gradient that is no number: where it was, what it was of, and why, as far as that shows."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from dualformer.training.distributed import own_part
from dualformer.training.objective import Batch


def unusual_clips(logits: Tensor, indices: Tensor | None) -> list[int]:
    """The videos of the clips whose logits are no numbers; of all of a batch's, where it is not only some."""
    if indices is None:
        return []
    bad = ~logits.detach().isfinite().all(dim=1)
    return indices[bad].tolist() if bad.any() else indices.tolist()


def why(batch: Batch, objective: nn.Module) -> str:
    """The cause, and the remedy. Statistics are no cause: the step itself may have spoilt them."""
    for key, tensor in batch.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return f"the data's {key!r} holds values that are no numbers: look at them"
    if broken := nonfinite_tensor(dict(objective.named_parameters())):
        return f"weights were no numbers already ({broken}): start from others"
    return "lower `lr`, or use `precision=float32`"


def nonfinite_tensor(tensors: Mapping[str, Tensor]) -> str:
    """Name of the first tensor with values that are no numbers; empty if there is none."""
    return next(
        (name for name, tensor in tensors.items() if not own_part(tensor.detach()).isfinite().all()),
        "",
    )
