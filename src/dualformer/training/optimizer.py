"""AdamW's parameter groups, frozen parts, and the number and learning rates of a run's steps (section 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from dualformer.model.network import DualFormer
from dualformer.plurals import counted
from dualformer.training.mixing import check_pairs
from dualformer.training.settings.network_settings import NetworkSettings
from dualformer.training.settings.optimizer_settings import PAPER_BATCH, OptimizerSettings
from dualformer.training.settings.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How many batches and steps a run has, and the learning rate of each step."""

    settings: OptimizerSettings
    """With epochs, batch size and learning rate set."""
    batches: int
    """Batches of an epoch, of all processes together, in whole steps."""
    world: int
    """Processes that take a batch each."""

    @classmethod
    def of(cls, settings: TrainConfig, videos: int, *, world: int) -> Schedule:
        """Returns the schedule of a run on so many training ``videos``.

        Errors: ``ValueError`` for a batch size, repeats and accumulation that do not go together.
        """
        batch_size, repeats, accumulate = settings.batch_size, settings.repeats, settings.accumulate
        assert batch_size is not None
        each = f" on each of {world} devices" if world > 1 else ""
        batches = videos * repeats // (batch_size * world)
        if batches < 1:
            raise ValueError(
                f"`batch_size={batch_size}`{each} is more than the {videos * repeats} clips there are to train on"
            )
        if batch_size * world % repeats:
            raise ValueError(f"`batch_size={batch_size}`{each} is not a multiple of `repeats={repeats}`")
        if settings.mixes:
            check_pairs(batch_size, world, repeats=repeats)
        if accumulate > batches:
            raise ValueError(f"`accumulate={accumulate}` is more than the {batches} batches of an epoch")
        return cls(settings=settings, batches=batches - batches % accumulate, world=world)

    @property
    def epochs(self) -> int:
        assert self.settings.epochs is not None
        return self.settings.epochs

    @property
    def clips_per_batch(self) -> int:
        """Of all processes."""
        assert self.settings.batch_size is not None
        return self.settings.batch_size * self.world

    @property
    def clips_per_step(self) -> int:
        """Of all processes."""
        return self.clips_per_batch * self.settings.accumulate

    @property
    def steps_per_epoch(self) -> int:
        return self.batches // self.settings.accumulate

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    @property
    def warmup(self) -> int:
        """Steps of linear warm-up."""
        assert self.settings.warmup_epochs is not None
        return round(self.settings.warmup_epochs * self.steps_per_epoch)

    @property
    def lr(self) -> float:
        """The peak learning rate of the classifier, scaled with the clips of a step if the settings say so."""
        assert self.settings.lr is not None
        return self.settings.lr * self.settings.lr_factor(self.clips_per_step)

    def describe_lr(self) -> str:
        """Returns the learning rate in words, with how it follows the batch."""
        lr, share = self.settings.lr, f"{self.clips_per_step}/{PAPER_BATCH}"
        how = {"off": "not scaled with the batch", "linear": f"{lr:g} × {share}", "sqrt": f"{lr:g} × √({share})"}
        return f"{self.lr:g} ({how[self.settings.scale_lr]})"

    def describe(self) -> str:
        """Returns the course of the learning rates in words."""
        return f"{counted(self.warmup, 'step')} of warm-up, then {AFTER_WARMUP}"

    def factor(self, step: int) -> float:
        """Returns the factor on the peak rates at ``step``, from 0."""
        return schedule(step, steps=self.steps, warmup=self.warmup)


AFTER_WARMUP = "a cosine to 0"
"""What `schedule` does after the warm-up, in words."""


def schedule(step: int, *, steps: int, warmup: int) -> float:
    """Returns the factor on the peak rate at ``step``: linear for ``warmup`` steps, then a cosine to 0 at ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def parameter_groups(
    model: DualFormer, settings: OptimizerSettings, *, lr: float, extra: nn.Module | None = None
) -> list[dict[str, Any]]:
    """Returns AdamW's groups: classifier and temporal head at ``lr``, backbone at ``lr × backbone_lr``; norms, biases,
    PEG do not decay.

    With ``layer_decay`` below 1 every block learns that much slower than the one after it (`DualFormer.layer_numbers`);
    the last block and the final norm learn at the backbone's whole rate. ``extra`` is a module beside the model that
    learns at the classifier's rate. Each group carries its peak rate as ``peak_lr`` for the schedule.
    """
    assert settings.backbone_lr is not None
    backbone_lr, layer_decay = lr * settings.backbone_lr, settings.layer_decay
    spared, layers = model.no_weight_decay(), model.layer_numbers()
    last_block = max(layers.values()) - 1
    groups: dict[tuple[str, bool], dict[str, Any]] = {}

    def add(parameter: nn.Parameter, part: str, *, peak_lr: float, decays: bool) -> None:
        group = {
            "params": [],
            "name": part if decays else f"{part}, no decay",
            "lr": peak_lr,
            "peak_lr": peak_lr,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        if parameter.requires_grad:
            groups.setdefault((part, not decays), group)["params"].append(parameter)

    for name, parameter in model.named_parameters():
        if name.startswith(("head.", "temporal.")):  # what is new learns at the whole rate
            add(parameter, "head", peak_lr=lr, decays=name not in spared)
        elif layer_decay == 1:
            add(parameter, "backbone", peak_lr=backbone_lr, decays=name not in spared)
        else:
            depth = min(layers[name], last_block)
            rate = backbone_lr * layer_decay ** (last_block - depth)
            add(parameter, f"layer {depth:02d}", peak_lr=rate, decays=name not in spared)
    for parameter in extra.parameters() if extra else ():
        add(parameter, "head", peak_lr=lr, decays=parameter.dim() > 1)
    return [groups[key] for key in sorted(groups)]


def freeze(model: DualFormer, settings: NetworkSettings) -> list[nn.Module]:
    """Freezes parts of the network, which get no gradients, and returns them."""
    frozen = (
        [model.stages, model.norm] if settings.freeze == "backbone" else list(model.stages[: settings.freeze_stages])
    )
    for part in frozen:
        part.requires_grad_(False)
    return frozen


def keep_frozen(parts: list[nn.Module]) -> None:
    """Puts frozen parts back into eval mode, after ``train()``: BatchNorm keeps its statistics, and nothing is dropped
    from features that do not learn to do without it."""
    for part in parts:
        part.eval()
