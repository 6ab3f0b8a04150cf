"""The folder of a run, but for its checkpoints: settings, weights, metrics and curves, and the summary at its end."""

import dataclasses
import json
import math
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualformer.datasets.benchmarks.find_benchmark import parse_benchmark
from dualformer.datasets.flip_map import read_flip_map
from dualformer.datasets.shards.read_shards import find_shards
from dualformer.datasets.split_file import write_split
from dualformer.files import write_json, write_text
from dualformer.model.config import Config
from dualformer.model.network import DualFormer
from dualformer.plurals import counted
from dualformer.scoring.intervals import wilson_interval
from dualformer.training.checkpoint import CHECKPOINTS, Progress, remove_unfinished
from dualformer.training.losses import BALANCED, format_class_weights, read_class_weights
from dualformer.training.propose import FEW_TO_VALIDATE
from dualformer.training.recipes import Recipe
from dualformer.training.reporter import clock, read_metrics, write_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import Source
from dualformer.training.training_pictures import CURVES, draw_curves
from dualformer.training.validation import ValidationResult
from dualformer.video.backend import decoder
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights

CONFIG = "config.json"
FLIP_MAP = "flip_map.json"
"""The run's own copy of what `flip_map` says."""
CLASS_WEIGHTS = "class_weights.csv"
"""Likewise of a file of `class_weights`."""
NETWORK = "network.json"
"""The network of a run that trains a variant of a preset."""
SPLIT = "split.csv"
BEST = "best.safetensors"
LAST = "last.safetensors"
AVERAGE = "ema.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of a run."""

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


_BETWEEN_CURVES = 30.0
"""Seconds between drawings of the curves. One takes half a second, an epoch of a hundred small clips ten."""


class Record:
    """Writes metrics and weights, in one process.

    ``describe`` writes the run's settings; ``decay`` is that of the averaged weights, if there are any.
    """

    def __init__(self, out: Path, card: Card, *, describe: Callable[[], None], decay: float | None) -> None:
        self.out, self.card, self._describe, self._decay = out, card, describe, decay
        self._epochs: list[dict[str, Any]] = []
        self._drawn = time.monotonic()

    def write(self) -> None:
        """Writes the run's settings, and the metrics so far."""
        self._describe()
        write_metrics(self.out, self._epochs)

    def go_back(self, epoch: int) -> None:
        """Forgets what was logged after ``epoch``, and removes what was left half-written."""
        remove_unfinished(self.out)
        self._epochs = [each for each in read_metrics(self.out) if each["epoch"] <= epoch]
        write_metrics(self.out, self._epochs)

    def is_gone(self) -> bool:
        """Returns whether somebody has deleted or moved the folder."""
        return not (self.out / CHECKPOINTS).is_dir()

    def add(
        self,
        epoch: dict[str, Any],
        validated: Mapping[str, ValidationResult],
        networks: Mapping[str, DualFormer],
        *,
        best: str | None,
        last: bool,
    ) -> None:
        """Writes an epoch's metrics and weights; ``best`` names the network that is better than all before, if one is.

        Metrics and thresholds in a card are those of its weights, with the decay as ``ema`` where they are an average.
        """

        def save(file: str, name: str) -> None:
            metrics = {"epoch": float(epoch["epoch"])}
            if result := validated.get(name):
                metrics |= {"val_top1": result.top1, "val_loss": result.loss}
                if result.map is not None and result.f1 is not None:
                    metrics |= {"val_map": result.map, "val_f1": result.f1}
            if name == "ema" and self._decay is not None:
                metrics["ema"] = self._decay
            thresholds = result.thresholds if result else ()
            card = dataclasses.replace(self.card, metrics=metrics, thresholds=thresholds)
            save_weights(self.out / file, networks[name], card)

        if best:
            save(BEST, best)
        save(LAST, "val")
        if "ema" in networks:
            save(AVERAGE, "ema")
        self._epochs = [*self._epochs, epoch]
        write_metrics(self.out, self._epochs)
        if last or time.monotonic() - self._drawn > _BETWEEN_CURVES:
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


def settings_writer(config: TrainConfig, source: Source, network: Config | None) -> Callable[[], None]:
    """Returns a function that writes the run's settings into its folder, and again if that is deleted or moved.

    ``network`` is that of a run that trains a variant. All files are read here.
    """
    out, texts = Path(config.out), dict.fromkeys((NETWORK, FLIP_MAP, CLASS_WEIGHTS), "")
    if network:
        texts[NETWORK] = json.dumps(network.to_dict(), indent=2) + "\n"
    if config.flip_map is not None:
        flips = read_flip_map(config.flip_map, source.classes)
        texts[FLIP_MAP] = json.dumps(flips, indent=2, ensure_ascii=False) + "\n"
    if config.class_weights not in (None, BALANCED):
        texts[CLASS_WEIGHTS] = format_class_weights(read_class_weights(config.class_weights, source.classes))

    def describe() -> None:
        for file, text in texts.items():
            if text:
                write_text(out / file, text)
            else:
                (out / file).unlink(missing_ok=True)  # another run's
        config.replace(resume=False).save(out / CONFIG, decoder=decoder(), root=str(Path.cwd()))
        if source.splits and not source.splits.overlapping:
            write_split(out / SPLIT, source.splits)

    return describe


def write_new_place(out: Path, config: TrainConfig, source: Source | None = None) -> None:
    """Writes into a run's folder where its data and its manifest lie by now, and leaves all else as it was."""
    saved = json.loads((out / CONFIG).read_text(encoding="utf-8")) | {"data": config.data, "manifest": config.manifest}
    write_json(out / CONFIG, saved | {"root": str(Path.cwd())}, ensure_ascii=True)
    if source and source.splits and not source.splits.overlapping:
        write_split(out / SPLIT, source.splits)


def find_data(config: TrainConfig, out: Path) -> TrainConfig:
    """Returns the settings of a run with its data and manifest where they are found: as they were named, from the
    folder that the run was started in, or where that folder and the run's have moved together."""
    root = json.loads((out / CONFIG).read_text(encoding="utf-8")).get("root")
    if not isinstance(root, str):  # an earlier version's
        return config

    def find(name: str | None) -> str | None:
        if not name or parse_benchmark(name) or find_shards(name) or Path(name).exists():
            return name
        from_run = os.path.relpath(Path(root, name), Path(root, config.out))
        places = (Path(root, name), Path(os.path.normpath(out.absolute() / from_run)))
        return next((str(place) for place in places if place.exists()), name)

    return config.replace(data=find(config.data) or "", manifest=find(config.manifest))


def summarize(result: TrainResult, *, recipe: Recipe | None = None) -> list[str]:
    """Returns lines for the end of a run, with what its recipe states if it had one."""
    config = TrainConfig.load(result.out / CONFIG)
    lines = [f"done in {clock(result.seconds)}: {_best(result, config)}; {result.clips_per_second:.1f} clips/s"]
    if config.overfit:
        lines.append(
            "the videos are those that it was trained on: memorised is near 100 %, and nothing else was tested"
        )
    elif config.select != "last" and result.val_clips < FEW_TO_VALIDATE and result.epochs > 1:
        lines.append(
            f"the best of {result.epochs} epochs, chosen by {result.val_clips} videos, looks better than it is: expect "
            "less of other videos, and keep some apart that choose nothing"
        )
    if recipe and recipe.expected != "–":
        lines.append(f"the recipe {recipe.name} gave {recipe.expected} % with its own data and views {recipe.views}")
    lines.append(f"weights: {result.weights}   curves: {result.out / CURVES}")
    if options := _evaluate_options(result, config):
        options |= {"views": recipe.views} if recipe else {}
        said = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        lines.append(f"next: {shlex.join(['dualformer', 'evaluate', str(result.weights), *said])}")
    weights = shlex.quote(str(result.weights))
    if config.head == "temporal":
        lines.append(f"next: dualformer predict VIDEO --timeline --weights {weights}")
    else:
        lines.append(f"next: dualformer predict VIDEO --weights {weights}")
    return lines


def _best(result: TrainResult, config: TrainConfig) -> str:
    """Returns the accuracy of the best epoch in words."""
    epoch = f"in epoch {result.best_epoch} of {result.epochs}"
    judged = f"{result.val_clips} validation videos"
    if config.head == "temporal":
        judged = f"the steps of {counted(result.val_clips, 'validation window')}"
    if result.best_map is not None:
        return f"mean average precision {result.best_map:.1%} on {judged} {epoch}"
    low, high = wilson_interval(round(result.best_top1 * result.val_clips), result.val_clips)
    interval = f"95 % interval {low:.1%} to {high:.1%}"
    return f"{result.best_top1:.1%} of {judged} right {epoch} ({interval})"


def _evaluate_options(result: TrainResult, config: TrainConfig) -> dict[str, Any]:
    """Returns options of `dualformer evaluate` for the data that the run was validated on, if there are any."""
    chosen = config.train_on or config.val_on or config.manifest
    if parse_benchmark(config.data) and not chosen:
        return {"data": config.data}
    # Not the folder or file itself: where val was drawn from it, it holds the training videos too.
    if (result.out / SPLIT).is_file():
        return {"data": result.out / SPLIT, "on": "split=val"}
    return {"data": config.data} if find_shards(config.data) else {}
