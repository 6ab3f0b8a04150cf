"""An average of the weights over the last steps, which is often a little better than the weights themselves."""

import torch
from torch import Tensor, nn

from dualformer.model.config import Config
from dualformer.model.network import DualFormer
from dualformer.training.distributed import full_tensor, local_tensor


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


def assembled(config: Config, tensors: dict[str, Tensor]) -> DualFormer:
    """Returns a network in eval mode with ``tensors``, not copied where they are whole. All processes call it."""
    with torch.device("meta"):
        model = DualFormer(config, seed=0)
    model.load_state_dict({name: full_tensor(tensor) for name, tensor in tensors.items()}, assign=True)
    return model.eval()
