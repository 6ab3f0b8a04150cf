"""An average of the weights over the last steps, which is often a little better than the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dualformer.training.distributed import local_tensor


def decay_at(step: int, decay: float) -> float:
    """Returns the part of the average that stays after ``step``, from 0: ``min(decay, (1 + step) / (10 + step))``, so
    that the first weights, which have learnt nothing, are soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


class Average:
    """The exponential moving average of a network's state: parameters, and BatchNorm's statistics as well.

    Those of the newest weights would not fit features that older weights have a part in. Counters are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the weights after optimizer ``step``, from 0."""
        share = 1 - decay_at(step, self.decay)
        for name, tensor in model.state_dict().items():
            average, now = local_tensor(self.tensors[name]), local_tensor(tensor)
            if average.is_floating_point():
                average.lerp_(now, share)
            else:
                average.copy_(now)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Puts the average into ``model``, and what it had before back again in the end."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        for name, tensor in model.state_dict().items():
            average, now = local_tensor(self.tensors[name]), local_tensor(tensor)
            kept = now.clone()
            now.copy_(average)
            average.copy_(kept)
