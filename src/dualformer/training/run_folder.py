"""What a run leaves in its folder besides its checkpoints: weights, figures and curves."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualformer.model.network import DualFormer
from dualformer.training.checkpoint import CHECKPOINTS, Progress
from dualformer.training.reporter import draw_curves, read_metrics, write_metrics
from dualformer.training.validation import ValidationResult
from dualformer.weights.safetensors_file import Card, save_weights

BEST = "best.safetensors"
LAST = "last.safetensors"
AVERAGE = "ema.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    out: Path
    weights: Path
    """The best epoch's weights."""
    best_top1: float
    """Validation accuracy of the best epoch, 0 to 1; of several labels a video, how often the likeliest is one."""
    best_epoch: int
    epochs: int
    val_clips: int
    """How many there are to validate on."""
    seconds: float
    clips_per_second: float
    best_map: float | None = None
    """Its mean average precision, which made it the best, where videos may have several labels."""


class Record:
    """Written by one process. ``describe`` writes the run's settings; ``decay`` is that of the average, if any."""

    def __init__(self, out: Path, card: Card, *, describe: Callable[[], None], decay: float | None) -> None:
        self.out, self.card, self._describe, self._decay = out, card, describe, decay
        self._epochs: list[dict[str, Any]] = []
        self._drawn = -math.inf

    def begin(self) -> None:
        self._describe()
        self._epochs = []
        write_metrics(self.out, [])

    def go_back(self, epoch: int) -> None:
        """Forgets what was logged after ``epoch``."""
        self._epochs = [each for each in read_metrics(self.out) if each["epoch"] <= epoch]
        write_metrics(self.out, self._epochs)

    def is_gone(self) -> bool:
        """Whether somebody has taken the folder away."""
        return not (self.out / CHECKPOINTS).is_dir()

    def write_again(self) -> None:
        self._describe()
        write_metrics(self.out, self._epochs)

    def add(
        self,
        epoch: dict[str, Any],
        judged: Mapping[str, ValidationResult],
        networks: Mapping[str, DualFormer],
        *,
        best: str | None,
        last: bool,
    ) -> None:
        """An epoch's figures and weights; ``best`` names the network that is better than all before, if one is."""
        if best:
            self._save(self.out / BEST, best, epoch, judged, networks)
        self._save(self.out / LAST, "val", epoch, judged, networks)
        if "ema" in networks:
            self._save(self.out / AVERAGE, "ema", epoch, judged, networks)
        self._epochs = [*self._epochs, epoch]
        write_metrics(self.out, self._epochs)
        # Drawing takes longer than an epoch of a few small clips.
        if last or time.monotonic() - self._drawn > 5:
            draw_curves(self.out, self._epochs)
            self._drawn = time.monotonic()

    def result(self, progress: Progress, *, val_clips: int) -> TrainResult:
        rates = sorted(epoch["clips_per_second"] for epoch in self._epochs)
        return TrainResult(
            out=self.out,
            weights=self.out / BEST,
            best_top1=progress.best_top1,
            best_epoch=progress.best_epoch,
            epochs=len(self._epochs),
            val_clips=val_clips,
            seconds=progress.seconds,
            clips_per_second=rates[len(rates) // 2] if rates else math.nan,
            best_map=progress.best_map,
        )

    def _save(
        self,
        path: Path,
        name: str,
        epoch: dict[str, Any],
        judged: Mapping[str, ValidationResult],
        networks: Mapping[str, DualFormer],
    ) -> None:
        """The card's figures are those of these weights; ``ema`` is there (the decay) where they are an average."""
        metrics = {"epoch": float(epoch["epoch"]), "val_top1": judged[name].top1, "val_loss": judged[name].loss}
        if judged[name].map is not None:
            found = judged[name].figures("val")
            metrics |= {key: found[key] for key in ("val_map", "val_f1")}
        if name == "ema":
            assert self._decay is not None
            metrics["ema"] = self._decay
        save_weights(path, networks[name], dataclasses.replace(self.card, metrics=metrics))
