"""Pictures of a run besides its curves: the learning rate ahead of it, and who is taken for whom after an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dualformer.training.optimizer import schedule

SCHEDULE = "learning-rate.png"
CONFUSION = "confusion"
"""The folder of the confusion matrices in that of the run."""

_POINTS = 400  # as many as the picture can tell apart


def draw_schedule(path: Path, steps: int, warmup: int, groups: Mapping[str, float]) -> None:
    """A PNG of the learning rate at every step of a run. ``groups``: the peak rate of each parameter group."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # takes half a second to import: not where no picture is drawn

    from dualformer.scoring.plots import save_figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    shown = sorted({0, warmup, steps - 1, *(steps * point // _POINTS for point in range(_POINTS))} & set(range(steps)))
    factors = [schedule(step, steps=steps, warmup=warmup) for step in shown]
    # Groups that learn at one rate, such as those with and without weight decay, are one line.
    names: dict[float, list[str]] = {}
    for name, peak in groups.items():
        names.setdefault(peak, []).append(name)
    many = len(names) > 6
    for number, peak in enumerate(sorted(names, reverse=True)):
        axes.plot(
            shown,
            [peak * factor for factor in factors],
            label=f"{_together(names[peak])}: {peak:.2g}",
            marker="o" if steps == 1 else None,
            color=colormaps["viridis"](number / len(names)) if many else None,
        )
    if warmup:
        axes.axvline(warmup, color="grey", linestyle=":", linewidth=1)
        above = axes.get_xaxis_transform()  # steps across, parts of the picture's height up
        axes.text(warmup, 0.98, " end of warm-up", transform=above, color="grey", fontsize=8, va="top")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("learning rate")
    axes.set_xlim(0, max(1, steps - 1))
    axes.set_ylim(0, 1.15 * max(names))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", title="peak of", fontsize=6 if many else 8)
    save_figure(path, figure)


def rates_over(steps: int, warmup: int, peak: float) -> list[tuple[int, float]]:
    """Step and learning rate at 0, 10, …, 100 % of a run; the last is its last step."""
    shown = [min(steps - 1, steps * tenth // 10) for tenth in range(11)]
    return [(step, peak * schedule(step, steps=steps, warmup=warmup)) for step in shown]


class ConfusionCallback:
    """A watcher that draws the validation set's confusion matrix after every ``every``-th epoch.

    The pictures are ``confusion/epoch-0012.png`` in ``out``; ``labels`` are the classes in order.
    """

    def __init__(self, out: Path, labels: tuple[str, ...], every: int) -> None:
        assert every > 0
        self.folder, self.labels, self.every = out / CONFUSION, labels, every

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing: a confusion matrix is of a validation."""

    def on_epoch(self, epoch: Mapping[str, Any], confusion: Tensor | None) -> None:
        number = int(epoch["epoch"])
        if number % self.every or confusion is None:
            return
        from dualformer.scoring.plots import draw_confusion

        matrix = confusion.cpu().numpy()
        total, right = int(matrix.sum()), int(matrix.trace())
        title = f"epoch {number}: {right} of {total} validation videos right ({right / max(1, total):.1%})"
        self.folder.mkdir(parents=True, exist_ok=True)
        draw_confusion(self.folder / f"epoch-{number:04d}.png", matrix, self.labels, title=title)

    def close(self) -> None:
        """Nothing is held open."""


def _together(names: list[str]) -> str:
    """``head`` of "head" and "head, no decay"."""
    parts = list(dict.fromkeys(name.removesuffix(", no decay") for name in names))
    return ", ".join(parts) if len(parts) <= 3 else f"{parts[0]} to {parts[-1]}"
