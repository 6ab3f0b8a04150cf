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
from dualformer.training.ema import Average
from dualformer.training.objective import Batch, ClipObjective, ObjectiveOutput
from dualformer.training.optimizer import Schedule, freeze, keep_frozen, parameter_groups
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.token_labels import step_targets


class NonFiniteLossError(DualFormerError):
    """A loss or a gradient that is infinite or not a number."""


@dataclass(kw_only=True)
class _Accumulated:
    """Totals of the batches whose gradients are being accumulated."""

    loss_sum: float = 0.0
    weight: float = 0.0
    videos: list[int] = field(default_factory=list)
    """Of this process."""


class TrainStep:
    """Trains ``objective``, batch by batch, and adds up its losses in ``progress``.

    ``name`` returns the video that the ``index`` of a clip stands for.
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
        self._optimizer = torch.optim.AdamW(groups, fused=True)
        self._average = Average(objective.model, settings.ema) if settings.ema is not None else None
        self.state = TrainingState(objective=objective, optimizer=self._optimizer, average=self._average)
        self.is_sharded = any(isinstance(parameter, DTensor) for parameter in objective.parameters())
        self._accumulated = _Accumulated()

    @property
    def peak_rates(self) -> dict[str, float]:
        """The peak learning rate of each parameter group, by its name."""
        return {group["name"]: group["peak_lr"] for group in self._optimizer.param_groups}

    def rate(self, step: int) -> float:
        """Returns the largest learning rate over the parameter groups at ``step``, from 0."""
        return max(self.peak_rates.values()) * self._schedule.factor(step)

    def close(self) -> None:
        """Ends training. DDP's wrapper is let go of while the processes are still connected: it holds on to their
        group, and were it the last to do so, it would wait in its end for a thread that waits for Python's lock (seen
        in one of eight runs)."""
        if self._ranks.world_size > 1:
            del self._objective
            gc.collect()

    def begin_epoch(self) -> None:
        self._objective.train()
        keep_frozen(self._frozen)
        self._accumulated = _Accumulated()

    def batch(self, batch: Batch, progress: Progress) -> dict[str, float] | None:
        """Adds a batch's gradients; returns the step's figures, if it completes one. Errors: `NonFiniteLossError`."""
        accumulated, schedule = self._accumulated, self._schedule
        closes_step = (progress.batch + 1) % self._settings.accumulate == 0
        with self._fabric.no_backward_sync(self._objective, enabled=not closes_step):
            with self.autocast():
                output: ObjectiveOutput = self._objective(batch)
            # Added over batches and processes, clips count as they would in one batch, however few each has left. What
            # that makes of the mean is known when the step is complete.
            weight = float(len(output.logits)) if output.weight is None else float(output.weight)
            self._fabric.backward(output.loss * (weight / (schedule.clips_per_step // schedule.world)))
        loss = float(output.loss.detach())
        sums = {"loss_sum": loss * weight, "weight": weight, "clips": len(output.logits)}
        sums |= _count_right(output, batch, multi_label=self._raw.loss.multi_label)
        parts = {name: float(part.detach()) * weight for name, part in output.parts.items()}
        totals = self._ranks.all_reduce(*sums.values(), *parts.values())
        sums = dict(zip(sums, totals, strict=False))
        parts = dict(zip(parts, totals[len(sums) :], strict=True))
        videos = _unusual_clips(output.logits, batch.get("index"))
        if not math.isfinite(sums["loss_sum"]):
            error = self._nonfinite_error("loss", loss, progress, progress.batch, videos, batch)
            self._ranks.raise_if_any(None if math.isfinite(loss) else error)
        accumulated.videos += videos
        accumulated.loss_sum += sums["loss_sum"]
        accumulated.weight += sums["weight"]
        progress.add(sums, parts)
        return self._step(progress) if closes_step else None

    def weights(self) -> dict[str, Callable[[], AbstractContextManager[object]]]:
        """Returns contexts in which the network has the weights to validate: ``val``, and averaged ones ``ema``."""
        average, model = self._average, self._raw.model
        found: dict[str, Callable[[], AbstractContextManager[object]]] = {"val": nullcontext}
        return found | ({"ema": lambda: average.in_place(model)} if average else {})

    def networks(self) -> dict[str, DualFormer]:
        """Returns the networks to save, whole: ``val``, and with averaged weights ``ema``. All processes call it.

        The first alone gets them. Of sharded ones it puts tensor after tensor together, in main memory.
        """
        found = {"val": self._raw.model.state_dict()} | ({"ema": self._average.tensors} if self._average else {})
        networks: dict[str, DualFormer] = {}
        for name, tensors in found.items():
            whole: dict[str, Tensor] = {}
            for key, tensor in tensors.items():
                full = full_tensor(tensor)
                if self._ranks.is_first:
                    whole[key] = full.cpu() if self.is_sharded else full
            if self._ranks.is_first:
                with torch.device("meta"):
                    networks[name] = DualFormer(self._raw.model.config, seed=0)
                networks[name].load_state_dict(whole, assign=True)
        return networks

    def autocast(self) -> AbstractContextManager[object]:
        """Returns the context of the forward pass."""
        if self._settings.precision == "float32":
            return nullcontext()
        return torch.autocast(self._fabric.device.type, torch.bfloat16)

    def _step(self, progress: Progress) -> dict[str, float]:
        accumulated, factor = self._accumulated, self._schedule.factor(progress.step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        lost = self._schedule.clips_per_step / accumulated.weight
        if lost != 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(lost)
        clipped = parameters if self._raw.clip_extra else list(self._raw.model.parameters())
        norm = float(full_tensor(torch.nn.utils.clip_grad_norm_(clipped, self._settings.clip_grad or math.inf)))
        if not math.isfinite(norm):
            videos = [index for indices in self._ranks.all_gather(accumulated.videos) for index in indices]
            raise self._nonfinite_error("gradient's norm", norm, progress, progress.batch - 1, videos, {})
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average:
            self._average.update(self._raw.model, progress.step)
        self._accumulated = _Accumulated()
        progress.step += 1
        rate = self.rate(progress.step - 1)
        return {"loss": accumulated.loss_sum / accumulated.weight, "lr": rate, "grad_norm": norm}

    def _nonfinite_error(
        self, what: str, value: float, progress: Progress, number: int, videos: list[int], batch: Batch
    ) -> NonFiniteLossError:
        names = f" ({first_few(dict.fromkeys(map(self._name, videos)))})" if self._name and videos else ""
        return NonFiniteLossError(
            f"the {what} became {value} in step {progress.step + 1}, epoch {progress.epoch + 1}, batch "
            f"{number + 1}{names}; {_cause(batch, self._raw)}"
        )


def _count_right(output: ObjectiveOutput, batch: Batch, *, multi_label: bool) -> dict[str, float]:
    """Returns ``correct``, and where clips may have several labels ``found`` and ``named``, of `Progress`. Of steps, a
    clip is right in part."""
    if output.step_logits is None:
        logits, truth, steps = output.logits.detach(), batch["target" if multi_label else "label"], 1
    else:
        logits, steps = output.step_logits.detach().flatten(0, 1), output.step_logits.shape[1]
        truth = step_targets(batch["moments"], steps, multi_label=multi_label)
    best = logits.argmax(dim=1)
    if not multi_label:
        return {"correct": float((best == truth).sum()) / steps}
    true, said = truth >= 0.5, logits >= 0
    found, named = float(2 * (true & said).sum()), float(true.sum() + said.sum())
    return {"correct": float(true.gather(1, best[:, None]).sum()) / steps, "found": found, "named": named}


def _unusual_clips(logits: Tensor, indices: Tensor | None) -> list[int]:
    """Returns the videos of the clips whose logits are not finite; of all clips, where there are none such."""
    if indices is None:
        return []
    bad = ~logits.detach().isfinite().all(dim=1)
    return indices[bad].tolist() if bad.any() else indices.tolist()


def _cause(batch: Batch, objective: nn.Module) -> str:
    """Returns the cause of a loss or gradient that is not finite, and the remedy.

    BatchNorm's statistics are no cause: the step itself may have spoilt them.
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
