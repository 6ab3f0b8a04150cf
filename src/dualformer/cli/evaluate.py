"""``dualformer evaluate``: how good weights are on labelled videos, and where they go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import tyro

if TYPE_CHECKING:
    from collections.abc import Callable

    from dualformer.evaluation.evaluate import Evaluation
    from dualformer.evaluation.metrics import ClassFigures
    from dualformer.evaluation.several import LabelFigures

T = TypeVar("T")

_MANY = 24  # classes; of more, only the worst and the best are printed


@dataclass(frozen=True, kw_only=True)
class Options:
    weights: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="WEIGHTS")]
    """A weights file, a folder with model.safetensors, a hub id (owner/name), or an exported model."""
    data: str
    """A folder with one subfolder per class (its val/ or test/ where it has one), a CSV file (path,label,…), or a
    benchmark as downloaded (kinetics400:PATH, kinetics600:, kinetics700:, ucf101:, ucf101@2: for split 2, hmdb51:,
    diving48:, ssv2:, list: for files of "path label"), or shards (their folder or URL)."""
    on: str | None = None
    """Rows of a CSV file to evaluate on, as in batch=B (default: all); split=test of a benchmark or shards (default:
    val, or test where there is no val)."""
    missing: Literal["error", "wrong"] = "error"
    """What videos are that are listed and not there: an error, or counted as wrong."""
    views: str = "4x1"
    """Views of each video, clips x crops (1 or 3 crops); their probabilities are averaged."""
    control: Literal["none", "one_frame", "shuffled"] = "none"
    """What the model goes by: one_frame repeats the middle frame of each clip, shuffled mixes the order of its frames.
    Accuracy that stays the same does not come from motion."""
    seed: int = 0
    """Of the mixed order."""
    label_map: Path | None = None
    """Where class names differ: a JSON object or a CSV file (class,label) from the data's names to the weights'."""
    manifest: Path | None = None
    """Manifest that `dualformer check` wrote: files it calls bad are left out."""
    out: Path | None = None
    """Folder of the report (default: evaluation, or evaluation-CONTROL, beside the weights file)."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda, cuda:1, …"""
    workers: int | None = None
    """Processes that decode (default: one less than there are cores, at most 8)."""
    batch_size: int = 8
    """Views that go through the network at a time."""
    json: bool = False
    """Print the figures as JSON, and nothing else."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, not {self.batch_size}")
        for name in ("workers", "seed"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"--{name} must be 0 or more, not {value}")


def run(options: Options) -> int:
    import json
    import os

    from dualformer.cli._progress import Progress
    from dualformer.datasets.open import open_videos, parse_where, read_bad
    from dualformer.evaluation.classes import read_label_map
    from dualformer.evaluation.evaluate import evaluate
    from dualformer.evaluation.report import class_figures, label_figures, write_report
    from dualformer.inference.device import choose_device, open_on
    from dualformer.video.views import Views
    from dualformer.weights.open import open_card

    views = Views.parse(options.views)
    choose_device(options.device)  # a wrong name shows at once
    where = parse_where(options.on) if options.on else None
    bad = read_bad(options.manifest) if options.manifest else set()
    label_map = read_label_map(options.label_map) if options.label_map else None
    several = open_card(options.weights).multi_label
    videos = open_videos(options.data, on=where, bad=bad, missing=options.missing, multi_label=several)
    model, card, device = open_on(options.weights, options.device)
    workers = min(8, (os.cpu_count() or 1) - 1) if options.workers is None else options.workers
    out = options.out or _beside(options.weights, options.control)
    out.mkdir(parents=True, exist_ok=True)  # now, and not when hours of work are to be written
    if not options.json:
        control = "" if options.control == "none" else f", control {options.control}"
        left_out = f", {len(bad)} files left out by {options.manifest}" if options.manifest else ""
        counted = f", {len(videos.missing)} missing ones counted as wrong" if videos.missing else ""
        print(
            f"evaluating {options.weights} on {len(videos)} {videos.things} of {videos.source}{left_out}{counted} "
            f"(manifest {videos.manifest_hash}): views {views}, {device}, {workers} decoding processes{control}",
            flush=True,
        )
    with Progress("evaluating", "videos", quiet=options.json) as progress:
        evaluation = evaluate(
            model,
            card,
            videos,
            views=views,
            workers=workers,
            batch_size=options.batch_size,
            label_map=label_map,
            control=options.control,
            seed=options.seed,
            progress=progress.show,
        )
    write_report(out, evaluation, extra={"weights": options.weights, "data": options.data})
    if options.json:
        print(json.dumps({**evaluation.figures, "report": str(out)}, indent=2, ensure_ascii=False))
        return 0
    print("\n".join(_figures(evaluation)))
    print("\n".join(_labels(label_figures(evaluation)) if several else _classes(class_figures(evaluation))))
    confusion = "" if several else "confusion.png, "
    print(f"report: {out}   (figures.json, per_class.csv, predictions.csv, {confusion}contact_sheet.png)")
    if several:
        print("there is no confusion matrix: with several labels a video, no class is taken for another")
    rows = f" --on '{options.on}'" if options.on else ""
    again = f"dualformer evaluate {options.weights} --data {options.data}{rows}"
    if options.control == "none":
        print(f"next: {again} --control one_frame   (is it the motion that it recognises?)")
    else:
        print(f"next: compare with {again}   (the same without the control)")
    return 0


def _beside(weights: str, control: str) -> Path:
    from dualformer.weights.locate import TENSORS

    folder = "evaluation" if control == "none" else f"evaluation-{control}"
    path = Path(weights)
    if not path.exists():
        return Path(folder)  # from the hub: the report belongs here, not in the cache
    return (path if (path / TENSORS).is_file() else path.parent) / folder


def _figures(evaluation: Evaluation) -> list[str]:
    figures = evaluation.figures
    speed = ("speed", f"{figures['clips_per_second']:.1f} clips/s, {figures['seconds']:.1f} s in all")
    if evaluation.targets is not None:
        return _aligned(
            ("mean average precision", f"{figures['mean_average_precision']:.1%}"),
            ("in a random order, about", f"{figures['chance']:.1%}"),
            ("micro F1 at one half", f"{figures['micro_f1']:.1%}"),
            ("macro F1 at one half", f"{figures['macro_f1']:.1%}"),
            ("labels of a video", f"{figures['labels']:.2f} on average, {figures['labels_named']:.2f} named"),
            ("cross-entropy", f"{figures['cross_entropy']:.3f} nats a class"),
            speed,
        )
    low, high = figures["top1_interval"]
    lines = [("top-1", f"{figures['top1']:.1%}   (95 % interval {low:.1%} to {high:.1%})")]
    if "top5" in figures:
        lines.append(("top-5", f"{figures['top5']:.1%}"))
    lines += [
        ("mean class accuracy", f"{figures['mean_class_accuracy']:.1%}"),
        ("always the commonest class", f"{figures['majority_class']:.1%}"),
        ("cross-entropy", f"{figures['cross_entropy']:.3f} nats"),
        ("calibration error", f"{figures['calibration_error']:.3f}"),
        speed,
    ]
    return _aligned(*lines)


def _aligned(*lines: tuple[str, str]) -> list[str]:
    width = max(len(name) for name, _ in lines)
    return ["", *(f"{name:<{width}}  {value}" for name, value in lines), ""]


def _classes(rows: list[ClassFigures]) -> list[str]:
    return _extremes([row for row in rows if row.count], _table, lambda row: row.recall or 0.0)


def _labels(rows: list[LabelFigures]) -> list[str]:
    return _extremes([row for row in rows if row.count], _label_table, lambda row: row.average_precision or 0.0)


def _extremes(rows: list[T], table: Callable[[list[T]], list[str]], good: Callable[[T], float]) -> list[str]:
    """All rows; of very many, the worst and the best."""
    if len(rows) <= _MANY:
        return [*table(rows), ""]
    ordered = sorted(rows, key=good)
    half = _MANY // 2
    worst, best = table(ordered[:half]), table(ordered[-half:])
    return [f"the {half} worst classes:", *worst, "", f"the {half} best:", *best, ""]


def _label_table(rows: list[LabelFigures]) -> list[str]:
    width = max(5, *(len(row.name) for row in rows))
    lines = [f"{'class':<{width}}  videos  average precision  recall  precision     F1"]
    for row in rows:
        shares = f"{_percent(row.recall):>6}  {_percent(row.precision):>9}  {_percent(row.f1):>5}"
        lines.append(f"{row.name:<{width}}  {row.count:>6}  {_percent(row.average_precision):>17}  {shares}")
    return lines


def _table(rows: list[ClassFigures]) -> list[str]:
    width = max(5, *(len(row.name) for row in rows))
    lines = [f"{'class':<{width}}  videos  recall  precision     F1  most confused with"]
    for row in rows:
        confused = f"{row.confused_with} ({row.confused_count})" if row.confused_with is not None else "–"
        shares = f"{_percent(row.recall):>6}  {_percent(row.precision):>9}  {_percent(row.f1):>5}"
        lines.append(f"{row.name:<{width}}  {row.count:>6}  {shares}  {confused}")
    return lines


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
