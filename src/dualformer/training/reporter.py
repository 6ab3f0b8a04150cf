"""What a run says while it goes on: lines or a progress bar, ``metrics.jsonl``, and the curves as a picture."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from torch import Tensor

from dualformer.files import write_text

METRICS = "metrics.jsonl"
CURVES = "curves.png"


class Reporter:
    """Prints a run. On a terminal a line is rewritten as batches go by; elsewhere one is printed every ten seconds."""

    EVERY_SECONDS = 10.0

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self._live = self.stream.isatty()
        self._last = 0.0
        self._open_line = False

    def say(self, line: str) -> None:
        """A line of its own."""
        if self._open_line:
            print(file=self.stream)
            self._open_line = False
        print(line, file=self.stream, flush=True)

    def progress(self, line: str, *, last: bool = False) -> None:
        """A line that the next one replaces; ``last`` leaves it standing."""
        now = time.monotonic()
        if self._live:
            print(f"\r\x1b[2K{line}", end="\n" if last else "", file=self.stream, flush=True)
            self._open_line = not last
        elif last or now - self._last >= self.EVERY_SECONDS:
            self._last = now
            print(line, file=self.stream, flush=True)


class SilentReporter(Reporter):
    """Says nothing."""

    def say(self, line: str) -> None:
        pass

    def progress(self, line: str, *, last: bool = False) -> None:
        pass


class Callback(Protocol):
    """Somebody who is told how a run goes."""

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """After an optimizer step: ``loss``, ``lr``, ``grad_norm``, ``clips_per_second``."""
        ...

    def on_epoch(self, epoch: Mapping[str, Any], confusion: Tensor | None) -> None:
        """After an epoch: its line in metrics.jsonl, and counts C×C (int64) on the validation set; rows are true.

        There are no such counts where clips may have several labels: none is taken for another.
        """
        ...

    def close(self) -> None:
        """The run is over, or was stopped."""
        ...


def clock(seconds: float) -> str:
    """1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a run, oldest first."""
    path = folder / METRICS
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def write_metrics(folder: Path, epochs: Iterable[dict[str, Any]]) -> None:
    write_text(folder / METRICS, "".join(json.dumps(epoch) + "\n" for epoch in epochs))


def draw_curves(folder: Path, epochs: list[dict[str, Any]]) -> None:
    """``folder/curves.png``: loss and accuracy over the epochs, training and validation, and the learning rate.

    Where clips may have several labels, F1 takes the place of accuracy, beside the mean average precision.
    """
    from matplotlib.figure import Figure  # takes half a second to import: after the checks, before the long work

    from dualformer.scoring.plots import save_figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    numbers = [epoch["epoch"] for epoch in epochs]
    marker = "o" if len(numbers) == 1 else None
    lines = {"train": ("training", "--"), "val": ("validation", "-"), "ema": ("validation, averaged weights", "-.")}
    several = "val_map" in epochs[0]
    for axes, key, scale in ((loss, "loss", 1), (accuracy, "f1" if several else "top1", 100)):
        for split, (label, style) in lines.items():
            if (name := f"{split}_{key}") in epochs[0]:
                axes.plot(numbers, [scale * epoch[name] for epoch in epochs], style, label=label, marker=marker)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    for name, label, style in (("val_map", "validation, mAP", "-"), ("ema_map", "averaged weights, mAP", "-.")):
        if name in epochs[0]:
            means = [100 * epoch[name] for epoch in epochs]
            accuracy.plot(numbers, means, style, color="black", label=label, marker=marker)
    loss.set_ylabel("cross-entropy of yes and no" if several else "cross-entropy")
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel("F1 and mean average precision, %" if several else "top-1 accuracy, %")
    accuracy.set_ylim(0, 100)
    accuracy.legend(loc="lower right")
    rate = loss.twinx()
    rate.plot(numbers, [epoch["lr"] for epoch in epochs], ":", color="grey", marker=marker)
    rate.set_ylabel("learning rate (dotted)", color="grey")
    rate.set_ylim(bottom=0)
    save_figure(folder / CURVES, figure)
