"""The training loop: epochs of steps, validation, checkpoints, and a clean stop on Ctrl-C.

What a run computes is decided by its settings alone. Clip ``i`` of epoch ``e`` is drawn from ``(seed, e, i)``, the
order of an epoch from ``(seed, e)``, how batch ``b`` is mixed from ``(seed, e, b)``, dropout from PyTorch's generator,
which the checkpoint carries: so a run that was interrupted anywhere goes on to the same bits (on a CPU). Of several
processes each takes its part of every batch, and but for dropout they learn what one would from all of it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from dualformer.errors import DualFormerError
from dualformer.plurals import counted
from dualformer.training.callbacks import Callback
from dualformer.training.checkpoint import (
    Progress,
    checkpoints,
    load_checkpoint,
    remove_checkpoints,
    remove_unfinished,
    save_checkpoint,
    seed_random,
)
from dualformer.training.distributed import ProcessGroup
from dualformer.training.feed import BadFiles, Feed
from dualformer.training.objective import Batch, ClipObjective
from dualformer.training.optimizer import Schedule
from dualformer.training.reporter import Reporter, clock
from dualformer.training.run_folder import Record, TrainResult
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.signals import Stop, TrainingInterrupted
from dualformer.training.sources import RunClips
from dualformer.training.train_step import NonFiniteLossError, TrainStep
from dualformer.training.training_pictures import CLIPS, SCHEDULE, draw_clips, draw_schedule
from dualformer.training.validation import ValidationBatches, ValidationResult, size, validate
from dualformer.weights.card import Card

_DECISIVE = (
    *("epochs", "accumulate", "backbone_lr", "layer_decay", "weight_decay", "warmup_epochs", "clip_grad", "ema"),
    *("freeze", "freeze_stages", "precision", "seed", "patience"),
)
"""Settings that decide the result, besides those that the schedule, the data and the objective have a part in."""


class Loop:
    """Trains ``objective`` on ``clips`` as ``settings`` say, which leave nothing open, and writes to their ``out``.

    ``card`` goes into the weights; ``fingerprint`` holds what must be unchanged on resume besides settings;
    ``describe`` writes what else belongs into the folder. Of several processes the first writes and tells the
    callbacks.
    """

    def __init__(
        self,
        objective: ClipObjective,
        clips: RunClips,
        settings: TrainConfig,
        *,
        card: Card,
        fabric: Fabric,
        reporter: Reporter,
        fingerprint: Mapping[str, Any],
        describe: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings, self.out, self.fabric, self.reporter = settings, Path(settings.out), fabric, reporter
        self.raw, self.val_clips, self.progress = objective, clips.val, Progress()
        self.ranks = ProcessGroup(fabric)
        self._val_batches = ValidationBatches(clips.val, settings, ranks=self.ranks, keep=clips.keep_val)
        self.schedule = Schedule.of(settings, clips.size, world=self.ranks.world_size)
        self._bad_files = BadFiles(self.out, clips.size, reporter, writes=self.ranks.is_first)
        classes = objective.model.config.num_classes
        self._feed = Feed(clips, settings, classes=classes, ranks=self.ranks, on_bad=self._bad_files)
        self.fingerprint = {
            **fingerprint,
            **{name: getattr(settings, name) for name in _DECISIVE},
            "lr": self.schedule.lr,
            "clip_extra": objective.clip_extra,
            "steps": self.schedule.steps,
            "batch_size": self.schedule.clips_per_batch,
        }
        self._stepper = TrainStep(objective, settings, self.schedule, fabric=fabric, ranks=self.ranks, name=clips.name)
        self._record = Record(self.out, card, describe=describe, decay=settings.ema)
        self._callbacks: list[Callback] = []
        self._stop = Stop(patient=self.ranks.world_size > 1)

    def resume(self) -> None:
        """Goes back to the newest checkpoint in ``out``, and forgets what was logged after it."""
        state, seed, log = self._stepper.state, self.settings.seed, self.reporter.log
        self.progress = load_checkpoint(self.out, state, self.fingerprint, ranks=self.ranks, seed=seed, log=log)
        self.ranks.run_on_first(lambda: self._record.go_back(self.progress.epoch))

    def add_callbacks(self, make: Callable[[], Sequence[Callback]]) -> None:
        """Makes callbacks in the first process, which are called from now on."""
        self.ranks.run_on_first(lambda: self._callbacks.extend(make()))

    def run(self) -> TrainResult:
        """Trains to the end. Raises `TrainingInterrupted` after saving when Ctrl-C or SIGTERM comes."""
        progress = self.progress
        try:
            with self._stop.listening():
                if progress.step == 0:
                    seed_random(self.settings.seed, self.ranks.rank)
                    self.ranks.run_on_first(self._begin)
                    self.save()
                for callback in self._callbacks:
                    callback.on_start(progress.step, self.schedule.steps)
                if progress.batch and self._reached_limit():
                    # It had stopped here before: going back to the checkpoint forgot what followed it.
                    self._end_epoch(progress.step * self.schedule.clips_per_step / max(1e-9, progress.seconds))
                while progress.epoch < self.schedule.epochs and not (self._reached_limit() or self._plateau()):
                    self._run_epoch()
        finally:
            for callback in self._callbacks:
                callback.close()
        self._bad_files.sum_up()
        if why := self._plateau():
            self.reporter.log(f"stopped after epoch {progress.epoch} of {self.schedule.epochs}: {why}")
        return self.ranks.broadcast(lambda: self._record.result(progress, val_clips=size(self.val_clips)))

    def close(self) -> None:
        """Must be called after the last use."""
        self._stepper.close()

    def save(self) -> None:
        """Writes a checkpoint."""
        self._restore_folder()
        state, keep = self._stepper.state, self.settings.keep
        save_checkpoint(self.out, state, self.progress, self.fingerprint, ranks=self.ranks, keep=keep)

    def _begin(self) -> None:
        remove_unfinished(self.out)
        remove_checkpoints(self.out)
        self._bad_files.forget()
        self._record.write()
        draw_schedule(self.out / SCHEDULE, self.schedule.steps, self.schedule.warmup, self._stepper.peak_rates)

    def _run_epoch(self) -> None:
        settings, progress = self.settings, self.progress
        self._stepper.begin_epoch()
        started = tick = last_save = time.monotonic()
        clips_per_second = 0.0
        batches = self._feed.epoch(progress.epoch, after=progress.batch, until=self.schedule.batches)
        for count, batch in enumerate(batches, 1):
            if progress.step == progress.batch == 0:
                self._draw_clips(batch)
            metrics = self._run_batch(batch)
            now = time.monotonic()
            progress.seconds += now - tick
            tick = now
            clips_per_second = count * self.schedule.clips_per_batch / (now - started)
            self._show_progress(clips_per_second)
            if metrics is not None:
                for callback in self._callbacks:
                    callback.on_step(progress.step, {**metrics, "clips_per_second": clips_per_second})
            ends = progress.batch == self.schedule.batches or self._reached_limit()
            if progress.batch % settings.accumulate == 0:
                is_due = now - last_save >= 60 * settings.save_minutes and not ends
                if self._stop_or_save(is_due):
                    last_save = now
            if ends:
                break
        self._end_epoch(clips_per_second)

    def _run_batch(self, batch: Batch) -> dict[str, float] | None:
        try:
            return self._stepper.batch(batch, self.progress)
        except NonFiniteLossError as error:
            newest = checkpoints(self.out)
            kept = f"{newest[0].name} is from before" if newest else "no checkpoint was written before"
            raise DualFormerError(f"{self.out}: {error} ({kept})") from error

    def _stop_or_save(self, is_due: bool) -> bool:
        """Between steps: stops if any process was asked to, saves if it is time. Returns whether it saved."""
        by_key, by_scheduler, save = self.ranks.all_reduce(
            self._stop.by_key, self._stop.by_scheduler, self.ranks.is_first and is_due
        )
        if by_key or by_scheduler:
            self.save()
            how = "Ctrl-C" if by_key else "SIGTERM"
            self.reporter.log(f"stopped by {how}; saved at step {self.progress.step} of {self.schedule.steps}")
            raise TrainingInterrupted(how)
        if save:
            self.save()
        return bool(save)

    def _end_epoch(self, clips_per_second: float) -> None:
        settings, progress, started = self.settings, self.progress, time.monotonic()
        complete = progress.batch == self.schedule.batches
        if not complete:  # `max_steps`: what follows is to look at; the run itself goes on from here
            self.save()
        self._restore_folder()
        weight = max(1e-9, progress.weight)
        epoch: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "lr": self._stepper.rate(progress.step - 1),
            "train_loss": progress.loss_sum / weight,
            **progress.shares(several=self.raw.loss.multi_label),
            "left_out": progress.batch * self.schedule.clips_per_batch - progress.clips,
            "clips_per_second": clips_per_second,
            "seconds": progress.seconds,
            **{f"loss_{name}": total / weight for name, total in progress.parts.items()},
        }
        validated: dict[str, ValidationResult] = {}
        done = progress.epoch + 1
        if self._is_validated(done) or self._reached_limit():
            validated = validate(
                self.raw,
                self._val_batches,
                self._stepper.weights(),
                ranks=self.ranks,
                autocast=self._stepper.autocast,
                sharded=self._stepper.is_sharded,
            )
        for name, result in validated.items():
            epoch |= result.figures(name)
        best = self._best_of(validated, complete=complete)
        if best:
            result = validated[best]
            progress.best_top1, progress.best_loss, progress.best_map = result.top1, result.loss, result.map
            progress.best_epoch = done
        self._log_epoch(epoch, bool(best) and not (settings.select == "last" and complete))
        if complete and settings.patience and self._is_validated(done):
            progress.note_peak(self.ranks.broadcast(lambda: max(result.rank for result in validated.values())))
        if why := self._plateau(progress.epoch + complete):
            epoch["stopped"] = why

        networks = self._stepper.networks()

        def write() -> None:
            last = progress.step == self.schedule.steps or self._reached_limit() or bool(why)
            self._record.add(epoch, validated, networks, best=best, last=last)
            for callback in self._callbacks:
                callback.on_epoch(epoch, validated["val"].confusion if validated else None)

        # The checkpoint comes last: a run that dies in between does the epoch's end once more, with the same result.
        self.ranks.run_on_first(write)
        progress.seconds += time.monotonic() - started
        if complete:
            progress.start_epoch(progress.epoch + 1)
            self.save()

    def _best_of(self, validated: Mapping[str, ValidationResult], *, complete: bool) -> str | None:
        """Returns which network counts from now on, if one does: a better one, or by `select=last` that of every whole
        epoch that is validated."""
        if not validated:
            return None
        if self.settings.select == "last" and complete:
            return "ema" if "ema" in validated else "val"
        best = max(validated, key=lambda name: validated[name].rank)
        # A part of an epoch competes with no whole one: the resumed run would not know of it.
        is_best = validated[best].rank > self.progress.best_rank and (complete or self.progress.best_epoch < 0)
        return best if is_best else None

    def _restore_folder(self) -> None:
        """A run whose folder was deleted or moved goes on in a new one."""
        progress = self.progress
        if not self.ranks.all_reduce(self.ranks.is_first and self._record.is_gone())[0]:
            return
        progress.forget_best()
        self.ranks.run_on_first(self._record.write)
        self.reporter.log(
            f"{self.out} was deleted or moved: the run goes on in a new one; what was the best epoch's is in the old"
        )

    def _draw_clips(self, batch: Batch) -> None:
        self.ranks.run_on_first(lambda: draw_clips(self.out / CLIPS, batch, self._record.card.labels))
        self.reporter.log(f"clips of the first batch, as the network sees them: {self.out / CLIPS}")

    def _show_progress(self, clips_per_second: float) -> None:
        progress = self.progress
        left = (self.schedule.steps - progress.step) * self.schedule.clips_per_step / max(1e-9, clips_per_second)
        share = _share(progress.shares(several=self.raw.loss.multi_label), "train")
        self.reporter.progress(
            f"epoch {progress.epoch + 1}/{self.schedule.epochs}  step {progress.step}/{self.schedule.steps}  "
            f"loss {progress.loss_sum / progress.weight:.3f}  {share}  "
            f"{clips_per_second:.1f} clips/s  {clock(left)} left"
        )

    def _log_epoch(self, epoch: Mapping[str, Any], is_best: bool) -> None:
        lost = f"  {counted(epoch['left_out'], 'clip')} left out" if epoch["left_out"] else ""
        average = f"  averaged: loss {epoch['ema_loss']:.3f}  {_share(epoch, 'ema')}" if "ema_loss" in epoch else ""
        validation = ""
        if "val_loss" in epoch:
            validation = f"  validation loss {epoch['val_loss']:.3f}  {_share(epoch, 'val')}"
        to_do = self.schedule.steps - self.progress.step
        left = f"  {clock(self.progress.seconds / self.progress.step * to_do)} left" if to_do else ""
        self.reporter.progress(
            f"epoch {epoch['epoch']}/{self.schedule.epochs}  loss {epoch['train_loss']:.3f}  "
            f"{_share(epoch, 'train')}{validation}{average}{' (best)' if is_best else ''}{lost}  "
            f"{epoch['clips_per_second']:.1f} clips/s  {clock(self.progress.seconds)}{left}",
            last=True,
        )

    def _is_validated(self, done: int) -> bool:
        """Returns whether validation follows after ``done`` epochs."""
        return done % (self.settings.val_every or 1) == 0 or done == self.schedule.epochs

    def _plateau(self, done: int | None = None) -> str:
        """Returns why the run ends after ``done`` epochs, if it does before the last of them for want of progress."""
        done, patience = self.progress.epoch if done is None else done, self.settings.patience
        if patience is None or done == self.schedule.epochs or done - self.progress.peak_epoch < patience:
            return ""
        if not self._is_validated(done):
            return ""
        waited = counted(patience, "epoch")
        return f"validation has not been better for {waited} than after epoch {self.progress.peak_epoch}"

    def _reached_limit(self) -> bool:
        return self.settings.max_steps is not None and self.progress.step >= self.settings.max_steps


def _share(epoch: Mapping[str, Any], name: str) -> str:
    """Returns accuracy in words, with several labels the mean average precision or else F1."""
    words = {f"{name}_map": "mAP", f"{name}_f1": "F1", f"{name}_top1": "acc"}
    key = next(key for key in words if key in epoch)
    return f"{words[key]} {epoch[key]:.1%}"
