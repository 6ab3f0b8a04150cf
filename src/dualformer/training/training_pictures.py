"""Pictures of a run: its curves, the learning rate ahead of it, and the clips of its first batch."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from torch import Tensor

from dualformer.files import atomic_write
from dualformer.training.objective import Batch
from dualformer.training.optimizer import schedule

CLIPS = "clips.png"
CURVES = "curves.png"
SCHEDULE = "learning-rate.png"

_POINTS = 400  # as many as a picture of the learning rate can tell apart
_MOST_CLIPS, _MOST_FRAMES = 16, 8
_SIDE = 112
_GAP = 4
_TEXT = 190


def draw_curves(folder: Path, epochs: list[dict[str, Any]]) -> None:
    """Draws ``folder/curves.png``: loss and accuracy over the epochs, training and validation, and the learning rate.

    Where clips may have several labels, F1 takes the place of accuracy, beside the mean average precision.
    """
    from matplotlib.figure import Figure  # takes half a second to import: after the checks, before the long work

    from dualformer.scoring.plots import save_figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    numbers = [epoch["epoch"] for epoch in epochs]
    marker = "o" if len(numbers) == 1 else None
    lines = {"train": ("training", "--"), "val": ("validation", "-"), "ema": ("validation, averaged weights", "-.")}
    several = any("val_map" in epoch for epoch in epochs)

    def plot(name: str, scale: float, style: str, label: str, **looks: Any) -> None:
        shown = [epoch for epoch in epochs if name in epoch]  # not every epoch is validated
        if shown:
            places, heights = [epoch["epoch"] for epoch in shown], [scale * epoch[name] for epoch in shown]
            axes.plot(places, heights, style, label=label, marker="o" if len(shown) == 1 else None, **looks)

    for axes, key, scale in ((loss, "loss", 1), (accuracy, "f1" if several else "top1", 100)):
        for split, (label, style) in lines.items():
            plot(f"{split}_{key}", scale, style, label)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    for name, label, style in (("val_map", "validation, mAP", "-"), ("ema_map", "averaged weights, mAP", "-.")):
        plot(name, 100, style, label, color="black")
    loss.set_ylabel("cross-entropy of yes and no" if several else "cross-entropy")
    loss.update_datalim([(numbers[0], 0)])
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel("F1 and mean average precision, %" if several else "top-1 accuracy, %")
    accuracy.set_ylim(-2, 102)
    accuracy.legend(loc="lower right")
    rate = loss.twinx()
    rate.plot(numbers, [epoch["lr"] for epoch in epochs], ":", color="grey", marker=marker)
    rate.set_ylabel("learning rate (dotted)", color="grey")
    rate.set_ylim(bottom=0)
    save_figure(folder / CURVES, figure)


def draw_schedule(path: Path, steps: int, warmup: int, groups: Mapping[str, float]) -> None:
    """Draws a PNG of the learning rate at every step of a run. ``groups``: the peak rate of each parameter group."""
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
    """Returns step and learning rate at 0, 10, …, 100 % of a run; the last is its last step."""
    shown = [min(steps - 1, steps * tenth // 10) for tenth in range(11)]
    return [(step, peak * schedule(step, steps=steps, warmup=warmup)) for step in shown]


def draw_clips(path: Path, batch: Batch, classes: tuple[str, ...]) -> None:
    """Draws a PNG with up to 8 frames, evenly spread, of each of the first 16 clips of a batch (B T H W 3, uint8).

    Beside each row are its classes; of a mixed clip the largest, with their parts.
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    clips = batch["clip"][:_MOST_CLIPS].cpu()
    shown = np.unique(np.linspace(0, clips.shape[1] - 1, min(_MOST_FRAMES, clips.shape[1])).round().astype(int))
    pitch = _SIDE + _GAP
    picture = Image.new("RGB", (_TEXT + len(shown) * pitch, _GAP + len(clips) * pitch), "white")
    pen = ImageDraw.Draw(picture)
    # matplotlib's own: it has more alphabets than the one that Pillow brings.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 13)
    for row, clip in enumerate(clips):
        top = _GAP + row * pitch
        for line, text in enumerate(_caption(batch, row, classes)[:6]):
            pen.text((_GAP, top + 4 + 17 * line), text, fill="black", font=font)
        for column, frame in enumerate(shown.tolist()):
            small = Image.fromarray(clip[frame].numpy()).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
            picture.paste(small, (_TEXT + column * pitch, top))
    atomic_write(path, lambda temporary: picture.save(temporary, format="png"))


def _caption(batch: Batch, row: int, classes: tuple[str, ...]) -> list[str]:
    target: Tensor | None = batch.get("target")
    if target is None:
        return wrap(classes[int(batch["label"][row])], 24)
    parts, labels = target[row].topk(min(6, len(classes)))
    named = [(part, classes[label]) for part, label in zip(parts.tolist(), labels.tolist(), strict=True) if part > 0]
    return [line for part, name in named for line in wrap(name if part == 1 else f"{part:.0%} {name}", 24)]


def _together(names: list[str]) -> str:
    """Returns ``head`` for "head" and "head, no decay"."""
    parts = list(dict.fromkeys(name.removesuffix(", no decay") for name in names))
    return ", ".join(parts) if len(parts) <= 3 else f"{parts[0]} to {parts[-1]}"
