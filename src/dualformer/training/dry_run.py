"""What a run would do, without doing it: nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from dualformer.datasets.clip_datasets import Batches, EpochSampler
from dualformer.model.compiling import compile_network
from dualformer.model.network import DualFormer
from dualformer.training.batch_count import count_batches
from dualformer.training.freezing import freeze, frozen_parts
from dualformer.training.objective import ClipObjective, make_objective
from dualformer.training.optimizer import parameter_groups
from dualformer.training.precision import choose_precision
from dualformer.training.prepare import Prepared, from_weights, prepare
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.timing import Timing, time_computing, time_reading
from dualformer.training.training_pictures import rates_over
from dualformer.weights.resample import start_from

SECONDS = 20.0
"""About how long to measure reading, and likewise computing."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that learn alike."""

    name: str
    lr: float
    """At its peak."""
    weight_decay: float
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run, before it begins."""

    settings: TrainConfig
    """With nothing left open."""
    lines: tuple[str, ...]
    """What the run would say of itself as it begins."""
    counts: Mapping[str, int] | None
    """Videos of each class to train on; None of rendered ones."""
    videos: int
    val_videos: int
    devices: int
    """Processes that take a batch each, on all machines together."""
    clips_per_step: int
    batches: int
    """Of an epoch, on each device."""
    steps_per_epoch: int
    steps: int
    warmup: int
    rates: tuple[tuple[int, float], ...]
    """Step and learning rate of the classifier at 0, 10, …, 100 % of the run."""
    groups: tuple[Group, ...]
    timing: Timing
    seconds: float
    """What the run would take on such devices as this one."""


def dry_run(config: TrainConfig, *, seconds: float = SECONDS) -> Plan:
    """What `train` would do with ``config``, and how long it would take, measured with a few batches on one device.

    Errors: as `train`, and ``ValueError`` for a run that is resumed.
    """
    if config.resume:
        raise ValueError("`dry_run` plans a new run: leave `resume=True` out")
    prepared = prepare(config)
    fabric = Fabric(accelerator=config.accelerator, devices=1)
    source, world = prepared.source, prepared.processes.world
    precision = choose_precision(prepared.config.precision, fabric.device)
    config = prepared.config.replace(precision=precision.name)
    assert config.batch_size and config.epochs and config.workers is not None
    assert config.backbone_lr is not None and config.warmup_epochs is not None
    batches = count_batches(
        source.size,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        repeats=config.repeats,
        mixes=config.mixes,
        world=world,
    )
    steps_per_epoch = batches // config.accumulate
    steps, warmup = steps_per_epoch * config.epochs, round(config.warmup_epochs * steps_per_epoch)
    model = DualFormer(prepared.network, seed=config.seed)
    model.set_grad_checkpointing(config.grad_checkpointing)
    if config.compile != "no":
        model = compile_network(model, config.compile, device=fabric.device)
    lines = [*prepared.lines, f"computing on {fabric.device.type} in {precision.name}: {precision.reason}"]
    if start := from_weights(config):
        lines += [f"from {start}: {note}" for note in start_from(model, start, labels=source.classes)]
    objective = make_objective(
        config,
        source.has_truth,
        model,
        prepared.preprocessing,
        classes=source.classes,
        counts=source.counts,
        videos=source.size,
    )
    freeze(frozen_parts(model, config.freeze, config.freeze_stages))
    groups = parameter_groups(
        model,
        lr=prepared.lr,
        backbone_lr=config.backbone_lr,
        layer_decay=config.layer_decay,
        weight_decay=config.weight_decay,
        extra=objective.extra,
    )
    described = tuple(
        Group(
            name=group["name"],
            lr=group["peak_lr"],
            weight_decay=group["weight_decay"],
            parameters=sum(parameter.numel() for parameter in group["params"]),
        )
        for group in groups
    )
    timing = _measure(prepared, config, objective, torch.optim.AdamW(groups), fabric, seconds)
    return Plan(
        settings=config,
        lines=(*lines, *objective.lines),
        counts=source.counts,
        videos=source.size,
        val_videos=source.val_size,
        devices=world,
        clips_per_step=prepared.clips_per_step,
        batches=batches,
        steps_per_epoch=steps_per_epoch,
        steps=steps,
        warmup=warmup,
        rates=tuple(rates_over(steps, warmup, prepared.lr)),
        groups=described,
        timing=timing,
        seconds=timing.run(
            batches=batches,
            val_batches=source.val_size / (config.batch_size * world),
            epochs=config.epochs,
            workers=config.workers,
        ),
    )


def _measure(
    prepared: Prepared,
    config: TrainConfig,
    objective: ClipObjective,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
    seconds: float,
) -> Timing:
    source = prepared.source
    assert config.batch_size and config.workers is not None
    batches = Batches(
        objective.feed(source.train(prepared.preprocessing, prepared.augmentation, prepared.mirrored)),
        left_out=lambda _: None,  # the run itself names what cannot be read
        batch_size=config.batch_size,
        sampler=EpochSampler(source.size, seed=config.seed, repeats=config.repeats, order=source.order),
        num_workers=config.workers,
        drop_last=True,
    )
    batch, start, read = time_reading(batches, workers=config.workers, seconds=seconds)
    objective.place(fabric.device)

    def autocast() -> AbstractContextManager[object]:
        half = config.precision == "bfloat16"
        return torch.autocast(fabric.device.type, torch.bfloat16) if half else nullcontext()

    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(fabric.device)
    step, judge, clips = time_computing(
        objective,
        batch,
        fabric=fabric,
        optimizer=optimizer,
        autocast=autocast,
        batch_size=config.batch_size,
        seconds=seconds,
    )
    memory = torch.cuda.max_memory_allocated(fabric.device) if fabric.device.type == "cuda" else None
    return Timing(start=start, read=read, step=step, judge=judge, clips=clips, memory=memory)
