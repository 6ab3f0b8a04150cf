"""Plans a run without doing it: what it would do, and how long it would take. Nothing is written."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from dualformer.training.build import build_parts
from dualformer.training.checkpoint import Progress
from dualformer.training.distributed import ProcessGroup
from dualformer.training.feed import Feed
from dualformer.training.objective import Batch, ClipObjective
from dualformer.training.prepare import prepare
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train_step import TrainStep
from dualformer.training.training_pictures import rates_over
from dualformer.video.clip_reader import Views
from dualformer.video.transforms import normalize

SECONDS = 20.0
"""About how long to measure reading, and likewise computing."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A parameter group of the optimizer."""

    name: str
    lr: float
    """At its peak."""
    weight_decay: float
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds for a batch on one device."""

    start: float
    """Until the first batch is there, which is read by workers that have just been started."""
    read: float
    """To read and change its clips, by all workers together."""
    step: float
    """Forward and backward pass and the optimizer's step."""
    judge: float
    """Validation of as many clips: the forward pass."""
    clips: int
    """Clips of the batch that was computed. Fewer than the run's, where those would have taken too long."""
    memory: int | None
    """Most bytes of the GPU's memory that tensors held; None on other devices."""

    def run(
        self, *, batches: int, val_batches: float, epochs: int, validations: int, workers: int, keep_val: bool = False
    ) -> float:
        """Seconds of a run whose epochs have so many batches on each device; writing weights down is not in it.

        Workers read while others are computed. Those for validation are started anew every time, or once where
        ``keep_val`` leaves what they read in memory.
        """
        together = max if workers else lambda *seconds: sum(seconds)
        read = min(1, validations) if keep_val else validations
        validating = read * (self.start + val_batches * together(self.read, self.judge))
        validating += (validations - read) * val_batches * self.judge
        return self.start + epochs * batches * together(self.read, self.step) + validating


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run, before it begins."""

    settings: TrainConfig
    """With nothing left open."""
    lines: tuple[str, ...]
    """Lines that the run would log as it begins."""
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
    course: str
    """Of the learning rates, in words."""
    rates: tuple[tuple[int, float], ...]
    """Step and learning rate of the classifier at 0, 10, …, 100 % of the run."""
    groups: tuple[Group, ...]
    timing: Timing
    seconds: float
    """Estimated time of the run, on such devices as this one."""


def dry_run(config: TrainConfig, *, seconds: float = SECONDS) -> Plan:
    """Returns what `train` would do with ``config``, and how long it would take, measured with a few batches.

    Errors: as `train`, and ``ValueError`` for a run that is resumed.
    """
    if config.resume:
        raise ValueError("`dry_run` plans a new run: leave `resume=True` out")
    prepared = prepare(config, planned=True)
    fabric = Fabric(accelerator=config.accelerator, devices=1)
    lines: list[str] = []
    settings, objective, clips = build_parts(prepared, fabric, log=lines.append)
    source, schedule = prepared.source, prepared.schedule
    assert settings.workers is not None and settings.val_views is not None
    ranks = ProcessGroup(fabric)
    # The run itself names what cannot be read.
    feed = Feed(clips, settings, classes=len(source.classes), ranks=ranks, on_bad=lambda _: None)
    batch, start, read = time_reading(feed.loader, workers=settings.workers, seconds=seconds)
    # Every batch makes a step, for the time of one.
    step = TrainStep(objective, settings.replace(accumulate=1), schedule, fabric=fabric, ranks=ranks)
    assert settings.batch_size is not None
    step_seconds, judge, timed_clips, memory = _time_computing(
        step, batch, objective=objective, device=fabric.device, batch_size=settings.batch_size, seconds=seconds
    )
    timing = Timing(start=start, read=read, step=step_seconds, judge=judge, clips=timed_clips, memory=memory)
    return Plan(
        settings=settings,
        lines=tuple(lines),
        counts=source.counts,
        videos=source.size,
        val_videos=source.val_size,
        devices=schedule.world,
        clips_per_step=schedule.clips_per_step,
        batches=schedule.batches,
        steps_per_epoch=schedule.steps_per_epoch,
        steps=schedule.steps,
        warmup=schedule.warmup,
        course=schedule.describe(),
        rates=tuple(rates_over(schedule.steps, schedule.warmup, schedule.lr)),
        groups=tuple(
            Group(
                name=group["name"],
                lr=group["peak_lr"],
                weight_decay=group["weight_decay"],
                parameters=sum(parameter.numel() for parameter in group["params"]),
            )
            for group in step.state.optimizer.param_groups
        ),
        timing=timing,
        seconds=timing.run(
            batches=schedule.batches,
            val_batches=source.val_size * Views.parse(settings.val_views).count / schedule.clips_per_batch,
            validations=math.ceil(schedule.epochs / (settings.val_every or 1)),
            epochs=schedule.epochs,
            workers=settings.workers,
            keep_val=clips.keep_val,
        ),
    )


def time_reading(
    batches: Iterable[Batch], *, workers: int, seconds: float, most: int = 64
) -> tuple[Batch, float, float]:
    """Returns a batch, the seconds until it was there, and those for each once all workers are busy.

    It stops after about ``seconds``.
    """
    started = time.perf_counter()
    arrived: list[float] = []
    first: Batch | None = None
    for batch in itertools.islice(batches, most):
        first = first or batch
        arrived.append(time.perf_counter() - started)
        if arrived[-1] > seconds and len(arrived) > workers:
            break
    assert first is not None
    # Each worker starts up, and then reads a whole batch alone: the first round tells nothing of the rounds to come.
    later = len(arrived) - max(1, workers)
    if later >= max(1, workers):
        return first, arrived[0], (arrived[-1] - arrived[-1 - later]) / later
    return first, arrived[0], arrived[-1] / len(arrived)


def _time_computing(
    step: TrainStep, batch: Batch, *, objective: ClipObjective, device: torch.device, batch_size: int, seconds: float
) -> tuple[float, float, int, int | None]:
    """Returns ``step``, ``judge``, ``clips`` and ``memory`` of `Timing`. The network is changed.

    If a whole batch is likely to take more than ``seconds``, one clip stands for it.
    """
    progress = Progress()

    def train(clips: Batch) -> None:
        step.batch(clips, progress)

    def validate(clips: Batch) -> None:
        with torch.no_grad(), step.autocast():
            objective.clip_logits(normalize(clips["clip"], objective.preprocessing))

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    step.begin_epoch()
    batch = {key: value.to(device) for key, value in batch.items()}
    one = {key: value[:1] for key, value in batch.items()}
    _seconds(device, lambda: train(one))  # the first pass sets things up
    of_one = _seconds(device, lambda: train(one))
    clips = min(len(batch["clip"]), batch_size)
    if 2 * of_one * clips > seconds:
        clips = 1
    taken = {key: value[:clips] for key, value in batch.items()}
    if clips > 1:
        train(taken)  # and the first of this size: compilers begin anew
    times = [_seconds(device, lambda: train(taken))]
    while sum(times) < seconds / 2 and len(times) < 6:
        times.append(_seconds(device, lambda: train(taken)))
    objective.eval()
    validation = min(_seconds(device, lambda: validate(taken)) for _ in range(2))
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return min(times) * batch_size / clips, validation * batch_size / clips, clips, memory


def _seconds(device: torch.device, work: Callable[[], None]) -> float:
    wait = getattr(torch, device.type).synchronize
    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started
