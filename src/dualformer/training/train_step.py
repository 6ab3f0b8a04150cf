"""Optimizer steps: forward and backward pass, clipping, AdamW, however clips are dealt to batches and processes."""

import gc
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dualformer.datasets.samples import first_few
from dualformer.errors import DualFormerError
from dualformer.model.network import DualFormer
from dualformer.training.checkpoint import Progress, TrainingState
from dualformer.training.distributed import ProcessGroup, convert_sync_batchnorm, full_tensor, local_tensor
from dualformer.training.ema import Average, assembled
from dualformer.training.objective import Batch, ClipObjective, ObjectiveOutput
from dualformer.training.optimizer import Schedule, freeze, keep_frozen, parameter_groups
from dualformer.training.settings.train_config import TrainConfig


class NonFiniteLossError(DualFormerError):
    """A loss or a gradient that is infinite or not a number."""


@dataclass(kw_only=True)
class _SoFar:
    """Of the batches whose gradients are being added."""

    loss_sum: float = 0.0
    weight: float = 0.0
    videos: list[int] = field(default_factory=list)
    """Of this process."""


class TrainStep:
    """Changes the weights of ``objective``, batch by batch, and counts in ``progress``.

    ``name`` says what video the ``index`` of a clip is.
    """

    def __init__(
        self,
        objective: ClipObjective,
        settings: TrainConfig,
        schedule: Schedule,
        *,
        fabric: Fabric,
        ranks: ProcessGroup,
        name: Callable[[int], str] | None = None,
    ) -> None:
        assert settings.precision != "auto"
        self._settings, self._schedule = settings, schedule
        self._fabric, self._ranks, self._name = fabric, ranks, name
        self._raw = objective
        self._frozen = freeze(objective.model, settings)
        if ranks.world_size > 1:
            convert_sync_batchnorm(objective)
        self._objective = fabric.setup_module(objective)
        groups = parameter_groups(objective.model, settings, lr=schedule.lr, extra=objective.extra)
        self._optimizer = torch.optim.AdamW(groups)
        self._average = Average(objective.model, settings.ema) if settings.ema is not None else None
        self.state = TrainingState(objective=objective, optimizer=self._optimizer, average=self._average)
        self._is_cut = any(isinstance(parameter, DTensor) for parameter in objective.parameters())
        self._so_far = _SoFar()

    @property
    def peak_rates(self) -> dict[str, float]:
        """Of each parameter group, by its name."""
        return {group["name"]: group["peak_lr"] for group in self._optimizer.param_groups}

    @property
    def rate(self) -> float:
        """The learning rate of the last step, of the group that learns most freely."""
        return max(group["lr"] for group in self._optimizer.param_groups)

    def close(self) -> None:
        """No more steps. DDP's wrapper is let go of while the processes are still connected: it holds on to their
        group, and were it the last to do so, it would wait in its end for a thread that waits for Python's lock (seen
        in one of eight runs)."""
        if self._ranks.world_size > 1:
            del self._objective
            gc.collect()

    def begin_epoch(self) -> None:
        self._objective.train()
        keep_frozen(self._frozen)
        self._so_far = _SoFar()

    def batch(self, batch: Batch, progress: Progress) -> dict[str, float] | None:
        """Adds a batch's gradients; returns the step's figures, if it completes one. Errors: `NonFiniteLossError`."""
        so_far, schedule = self._so_far, self._schedule
        closes_step = (progress.batch + 1) % self._settings.accumulate == 0
        with self._fabric.no_backward_sync(self._objective, enabled=not closes_step):
            with self.autocast():
                step: ObjectiveOutput = self._objective(batch)
            # Added over batches and processes, clips count as they would in one batch, however few each has left. What
            # that makes of the mean is known when the step is complete.
            weight = float(len(step.logits)) if step.weight is None else float(step.weight)
            self._fabric.backward(step.loss * (weight / (schedule.clips_per_step // schedule.world)))
        loss = float(step.loss.detach())
        right, found, named = _right(step.logits, batch, multi_label=self._raw.loss.multi_label)
        parts = [float(part.detach()) * weight for part in step.parts.values()]
        loss_sum, weights, right, found, named, clips, *parts = self._ranks.all_reduce(
            loss * weight, weight, right, found, named, len(step.logits), *parts
        )
        videos = _unusual_clips(step.logits, batch.get("index"))
        if not math.isfinite(loss_sum):
            reason = _why(batch, self._raw)
            self._ranks.raise_if_any(
                None if math.isfinite(loss) else self._no_number("loss", loss, progress, progress.batch, videos, reason)
            )
        so_far.videos += videos
        so_far.loss_sum += loss_sum
        so_far.weight += weights
        of_parts = dict(zip(step.parts, parts, strict=True))
        progress.add(loss_sum, weights, right, clips, of_parts, found=found, named=named)
        return self._step(progress) if closes_step else None

    def networks(self) -> dict[str, DualFormer]:
        """What is judged and written down, whole: the weights as they are, and their average."""
        model = self._raw.model
        found = {"val": assembled(model.config, model.state_dict()) if self._is_cut else model}
        if self._average:
            found["ema"] = assembled(model.config, self._average.tensors)
        return found

    def autocast(self) -> AbstractContextManager[object]:
        """For the forward pass."""
        if self._settings.precision == "float32":
            return nullcontext()
        return torch.autocast(self._fabric.device.type, torch.bfloat16)

    def _step(self, progress: Progress) -> dict[str, float]:
        so_far, factor = self._so_far, self._schedule.factor(progress.step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        lost = self._schedule.clips_per_step / so_far.weight
        if lost != 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(lost)
        clipped = parameters if self._raw.clip_extra else list(self._raw.model.parameters())
        norm = float(full_tensor(torch.nn.utils.clip_grad_norm_(clipped, self._settings.clip_grad or math.inf)))
        if not math.isfinite(norm):
            videos = [index for indices in self._ranks.all_gather(so_far.videos) for index in indices]
            raise self._no_number("gradient's norm", norm, progress, progress.batch - 1, videos, _why({}, self._raw))
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average:
            self._average.update(self._raw.model, progress.step)
        self._so_far = _SoFar()
        progress.step += 1
        return {"loss": so_far.loss_sum / so_far.weight, "lr": self.rate, "grad_norm": norm}

    def _no_number(
        self, what: str, value: float, progress: Progress, batch: int, videos: list[int], reason: str
    ) -> NonFiniteLossError:
        names = f" ({first_few(dict.fromkeys(map(self._name, videos)))})" if self._name and videos else ""
        return NonFiniteLossError(
            f"the {what} became {value} in step {progress.step + 1}, epoch {progress.epoch + 1}, batch "
            f"{batch + 1}{names}; {reason}"
        )


def _right(logits: Tensor, batch: Batch, *, multi_label: bool) -> tuple[float, float, float]:
    """Clips whose likeliest class is right; twice the labels found, and those named plus those that are true."""
    best = logits.detach().argmax(dim=1)
    if not multi_label:
        return float((best == batch["label"]).sum()), 0.0, 0.0
    true, said = batch["target"] >= 0.5, logits.detach() >= 0
    right = true.gather(1, best[:, None]).sum()
    return float(right), float(2 * (true & said).sum()), float(true.sum() + said.sum())


def _unusual_clips(logits: Tensor, indices: Tensor | None) -> list[int]:
    """The videos of the clips whose logits are not finite; of all of a batch's, where it is not only some."""
    if indices is None:
        return []
    bad = ~logits.detach().isfinite().all(dim=1)
    return indices[bad].tolist() if bad.any() else indices.tolist()


def _why(batch: Batch, objective: nn.Module) -> str:
    """The cause of a loss or gradient that is not finite, and the remedy.

    Statistics are no cause: the step itself may have spoilt them.
    """
    for key, tensor in batch.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return f"the data's {key!r} holds values that are no numbers: look at them"
    if broken := nonfinite_tensor(dict(objective.named_parameters())):
        return f"weights were no numbers already ({broken}): start from others"
    return "lower `lr`, or use `precision=float32`"


def nonfinite_tensor(tensors: Mapping[str, Tensor]) -> str:
    """Returns the name of the first tensor with values that are not finite; empty if there is none."""
    return next((name for name, tensor in tensors.items() if not local_tensor(tensor.detach()).isfinite().all()), "")
