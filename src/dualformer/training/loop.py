"""The training loop: epochs of steps, validation, checkpoints, and a clean stop on Ctrl-C.

What a run computes is decided by its settings alone. Clip ``i`` of epoch ``e`` is drawn from ``(seed, e, i)``, the
order of an epoch from ``(seed, e)``, how batch ``b`` is mixed from ``(seed, e, b)``, dropout from PyTorch's generator,
which the checkpoint carries: so a run that was interrupted anywhere goes on to the same bits (on a CPU).
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from dualformer.datasets.clips import Batches, EpochSampler
from dualformer.errors import DualFormerError
from dualformer.training.bad_files import BadFiles
from dualformer.training.mixing import check_pairs, mix_batch
from dualformer.training.objective import Batch, ClipObjective
from dualformer.training.optim import parameter_groups, schedule
from dualformer.training.preview import CLIPS, draw_clips
from dualformer.training.report import Reporter, clock, draw_curves, read_metrics, write_metrics
from dualformer.training.state import Progress, load_checkpoint, save_checkpoint
from dualformer.video.augmentation import Augmentation
from dualformer.video.transforms import normalize
from dualformer.weights.native import Card, save_weights

BEST = "best.safetensors"
LAST = "last.safetensors"


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Numbers of the loop; `TrainConfig` explains them."""

    epochs: int
    batch_size: int
    accumulate: int = 1
    lr: float
    backbone_lr: float = 1.0
    layer_decay: float = 1.0
    weight_decay: float = 0.02
    warmup_epochs: float = 0.0
    clip_grad: float = 1.0
    seed: int = 0
    workers: int = 0
    max_steps: int | None = None
    save_minutes: float = 5.0


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    out: Path
    weights: Path
    """The best epoch's weights."""
    best_top1: float
    """Validation accuracy of the best epoch, 0 to 1."""
    best_epoch: int
    epochs: int
    seconds: float
    clips_per_second: float


class Interrupted(KeyboardInterrupt):
    """A run that was stopped by a signal, after it was saved."""


class Loop:
    """Trains ``objective`` on ``train_clips``, validates on ``val_clips``, writes everything to ``out``.

    ``train_clips`` is indexed by (epoch, number), as `TrainingClips` is; ``val_clips`` gives ``views`` and ``label``.
    An epoch has ``train_size`` clips, times the ``repeats`` of ``augmentation``, by which batches are mixed, too.
    ``fingerprint`` holds what must be unchanged on resume; ``order`` is `EpochSampler`'s.
    """

    def __init__(
        self,
        objective: ClipObjective,
        train_clips: Dataset[dict[str, Tensor]],
        val_clips: Dataset[dict[str, Tensor]],
        *,
        train_size: int,
        card: Card,
        config: LoopConfig,
        out: Path,
        fabric: Fabric,
        reporter: Reporter,
        fingerprint: Mapping[str, Any] | None = None,
        augmentation: Augmentation | None = None,
        order: Callable[[int], NDArray[np.int64]] | None = None,
    ) -> None:
        self.augmentation = augmentation or Augmentation(flip=0.0)
        repeats = self.augmentation.repeats
        batches = train_size * repeats // config.batch_size
        if batches < 1:
            raise ValueError(
                f"--batch-size {config.batch_size} is more than the {train_size * repeats} clips there are to train on"
            )
        if config.batch_size % repeats:
            raise ValueError(f"--batch-size {config.batch_size} is not a multiple of --repeats {repeats}")
        if self.augmentation.mixes:
            check_pairs(config.batch_size, repeats=repeats)
        if config.accumulate > batches:
            raise ValueError(f"--accumulate {config.accumulate} is more than the {batches} batches of an epoch")
        self.config, self.out, self.fabric, self.reporter, self.card = config, out, fabric, reporter, card
        self.val_clips = val_clips
        self.batches = batches - batches % config.accumulate
        self.steps_per_epoch = self.batches // config.accumulate
        self.steps = self.steps_per_epoch * config.epochs
        self.warmup = round(config.warmup_epochs * self.steps_per_epoch)
        self._bad_files = BadFiles(out, train_size, reporter)
        self._sampler = EpochSampler(train_size, seed=config.seed, repeats=repeats, order=order)
        self._train_batches = Batches(
            train_clips,
            left_out=self._bad_files,
            batch_size=config.batch_size,
            sampler=self._sampler,
            num_workers=config.workers,
            drop_last=True,
            pin_memory=fabric.device.type == "cuda",
            persistent_workers=config.workers > 0,  # what they have decoded stays in their memory
        )
        self.fingerprint = dict(fingerprint or {}) | {
            "steps": self.steps,
            "batch_size": config.batch_size,
            "accumulate": config.accumulate,
            "lr": config.lr,
            "seed": config.seed,
            "augmentation": self.augmentation.to_dict(),
        }
        self.progress = Progress()
        self.raw = objective
        groups = parameter_groups(
            objective.model,
            lr=config.lr,
            backbone_lr=config.backbone_lr,
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
            extra=objective.extra,
        )
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999))
        self.objective, self.fabric_optimizer = fabric.setup(objective, self.optimizer)
        self._stop: str | None = None
        self._drawn = -math.inf

    def resume(self) -> None:
        """Goes back to the checkpoint in ``out``, and forgets what was logged after it."""
        self.progress = load_checkpoint(self.out, self.raw, self.optimizer, self.fingerprint)
        write_metrics(self.out, [epoch for epoch in read_metrics(self.out) if epoch["epoch"] <= self.progress.epoch])

    def run(self) -> TrainResult:
        """Trains to the end. Raises `Interrupted` after saving when Ctrl-C or SIGTERM comes."""
        if self.progress.step == 0:
            torch.manual_seed(self.config.seed)
            write_metrics(self.out, [])
            self._bad_files.forget()
        with self._signals():
            if self.progress.batch and self._reached_limit():
                # It had stopped here before: going back to the checkpoint forgot what followed it.
                self._end_epoch(self._clips_so_far() / max(1e-9, self.progress.seconds))
            while self.progress.epoch < self.config.epochs and not self._reached_limit():
                self._run_epoch()
        self._bad_files.sum_up()
        return self._result()

    def _run_epoch(self) -> None:
        config, progress = self.config, self.progress
        self.objective.train()
        self._sampler.at(progress.epoch, start=progress.batch * config.batch_size)
        started = tick = last_save = time.monotonic()
        clips_per_second = 0.0
        for count, batch in enumerate(self._train_batches, 1):
            self._run_batch({key: value.to(self.fabric.device, non_blocking=True) for key, value in batch.items()})
            now = time.monotonic()
            progress.seconds += now - tick
            tick = now
            clips_per_second = count * config.batch_size / (now - started)
            self._show(clips_per_second)
            between_steps = progress.batch % config.accumulate == 0
            if self._stop and between_steps:
                self.save()
                self.reporter.say(f"stopped by {self._stop}; saved at step {progress.step} of {self.steps}")
                raise Interrupted(self._stop)
            if progress.batch == self.batches or self._reached_limit():
                break
            if between_steps and now - last_save >= 60 * config.save_minutes:
                self.save()
                last_save = now
        self._end_epoch(clips_per_second)

    def _run_batch(self, batch: Batch) -> None:
        config, progress = self.config, self.progress
        closes_step = (progress.batch + 1) % config.accumulate == 0
        # Of a batch that has lost a clip to a bad file, not every clip has a partner.
        if self.augmentation.mixes and len(batch["clip"]) == config.batch_size:
            batch = mix_batch(
                batch,
                self.augmentation,
                classes=self.raw.model.config.num_classes,
                seed=config.seed,
                epoch=progress.epoch,
                number=progress.batch,
            )
        if progress.step == progress.batch == 0:
            draw_clips(self.out / CLIPS, batch, self.card.labels)
            self.reporter.say(f"clips of the first batch, as the network sees them: {self.out / CLIPS}")
        step = self.objective(batch)
        self.fabric.backward(step.loss / config.accumulate)
        loss = float(step.loss.detach())
        self._must_be_finite("loss", loss)
        progress.loss_sum += loss * len(step.logits)
        progress.correct += float((step.logits.argmax(dim=1) == batch["label"]).sum())
        progress.clips += len(step.logits)
        progress.batch += 1
        if closes_step:
            factor = schedule(progress.step, steps=self.steps, warmup=self.warmup)
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            norm = self.fabric.clip_gradients(
                self.objective,
                self.fabric_optimizer,
                max_norm=config.clip_grad or math.inf,
                error_if_nonfinite=False,
            )
            assert norm is not None
            self._must_be_finite("gradient's norm", float(norm))
            self.fabric_optimizer.step()
            self.fabric_optimizer.zero_grad()
            progress.step += 1

    def _end_epoch(self, clips_per_second: float) -> None:
        progress, started = self.progress, time.monotonic()
        complete = progress.batch == self.batches
        left_out = progress.batch * self.config.batch_size - progress.clips
        if not complete:  # --max-steps: what follows is to look at; the run itself goes on from here
            self.save()
        epoch = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "lr": self.optimizer.param_groups[-1]["lr"],
            "train_loss": progress.loss_sum / max(1, progress.clips),
            "train_top1": progress.correct / max(1, progress.clips),
            "left_out": left_out,
            "clips_per_second": clips_per_second,
            "seconds": progress.seconds,
        }
        epoch |= self.validate()
        # On few validation videos many epochs are equally accurate: then the smaller loss decides.
        is_best = (epoch["val_top1"], -epoch["val_loss"]) > (progress.best_top1, -progress.best_loss)
        # A part of an epoch competes with no whole one: the resumed run would not know of it.
        is_best &= complete or progress.best_epoch < 0
        if is_best:
            progress.best_top1, progress.best_loss = epoch["val_top1"], epoch["val_loss"]
            progress.best_epoch = progress.epoch + 1
        lost = f"  {left_out} clips left out" if left_out else ""
        self.reporter.progress(
            f"epoch {progress.epoch + 1}/{self.config.epochs}  loss {epoch['train_loss']:.3f}  "
            f"acc {epoch['train_top1']:.1%}  validation loss {epoch['val_loss']:.3f}  acc {epoch['val_top1']:.1%}"
            f"{' (best)' if is_best else ''}{lost}  {clips_per_second:.1f} clips/s  {clock(progress.seconds)}",
            last=True,
        )
        epochs = [*read_metrics(self.out), epoch]
        # The checkpoint comes last: a run that dies in between does the epoch's end once more, with the same result.
        if is_best:
            self._save_weights(self.out / BEST, epoch)
        self._save_weights(self.out / LAST, epoch)
        write_metrics(self.out, epochs)
        # Drawing takes longer than an epoch of a few small clips.
        if time.monotonic() - self._drawn > 5 or progress.step == self.steps or self._reached_limit():
            draw_curves(self.out, epochs)
            self._drawn = time.monotonic()
        progress.seconds += time.monotonic() - started
        if complete:
            progress.start_epoch(progress.epoch + 1)
            self.save()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss, top-1 and, of more than 5 classes, top-5 on the validation clips, one view each."""
        model, device = self.raw.model, self.fabric.device
        was_training = self.objective.training
        model.eval()
        loader = Batches(self.val_clips, batch_size=self.config.batch_size, num_workers=self.config.workers)
        loss = correct = among_5 = total = 0.0
        classes = 0
        for batch in loader:
            views, labels = batch["views"].to(device), batch["label"].to(device)
            count = views.shape[1]
            with self.fabric.autocast():
                logits = model(normalize(views.flatten(0, 1), self.raw.preprocessing)).float()
            probabilities = logits.softmax(dim=1).unflatten(0, (-1, count)).mean(dim=1)
            loss += float(F.nll_loss(probabilities.clamp_min(1e-12).log(), labels, reduction="sum"))
            correct += float((probabilities.argmax(dim=1) == labels).sum())
            total += len(labels)
            classes = probabilities.shape[1]
            among_5 += float((probabilities.topk(min(5, classes)).indices == labels[:, None]).sum())
        self.objective.train(was_training)
        top5 = {"val_top5": among_5 / total} if classes > 5 else {}
        return {"val_loss": loss / total, "val_top1": correct / total, **top5}

    def save(self) -> None:
        """Writes the checkpoint."""
        save_checkpoint(self.out, self.raw, self.optimizer, self.progress, self.fingerprint)

    def _save_weights(self, path: Path, epoch: dict[str, Any]) -> None:
        metrics = {key: float(epoch[key]) for key in ("epoch", "val_top1", "val_loss")}
        save_weights(path, self.raw.model, dataclasses.replace(self.card, metrics=metrics))

    def _must_be_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DualFormerError(
                f"{self.out}: the {what} became {value} in step {self.progress.step + 1}, epoch "
                f"{self.progress.epoch + 1}; lower --lr or use --precision float32 (the last checkpoint is from before)"
            )

    def _show(self, clips_per_second: float) -> None:
        progress = self.progress
        left = (
            (self.steps - progress.step) * self.config.accumulate * self.config.batch_size / max(1e-9, clips_per_second)
        )
        self.reporter.progress(
            f"epoch {progress.epoch + 1}/{self.config.epochs}  step {progress.step}/{self.steps}  "
            f"loss {progress.loss_sum / progress.clips:.3f}  acc {progress.correct / progress.clips:.1%}  "
            f"{clips_per_second:.1f} clips/s  {clock(left)} left"
        )

    def _clips_so_far(self) -> int:
        return self.progress.step * self.config.accumulate * self.config.batch_size

    def _reached_limit(self) -> bool:
        return self.config.max_steps is not None and self.progress.step >= self.config.max_steps

    def _result(self) -> TrainResult:
        epochs = read_metrics(self.out)
        rates = [epoch["clips_per_second"] for epoch in epochs]
        return TrainResult(
            out=self.out,
            weights=self.out / BEST,
            best_top1=self.progress.best_top1,
            best_epoch=self.progress.best_epoch,
            epochs=len(epochs),
            seconds=self.progress.seconds,
            clips_per_second=sorted(rates)[len(rates) // 2] if rates else math.nan,
        )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM ask for a stop after the step that is under way; a second Ctrl-C stops at once."""

        def ask(number: int, _: Any) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

        before: dict[int, Callable[..., Any] | int | None] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, ask)
        except ValueError:  # not the main thread: whoever started it looks after signals
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
