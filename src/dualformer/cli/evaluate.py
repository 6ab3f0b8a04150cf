"""``dualformer evaluate``: how good weights are on labelled videos, and where they go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import tyro

from dualformer.cli._computing import Computing

if TYPE_CHECKING:
    from collections.abc import Callable

    from dualformer.evaluation.evaluate import Evaluation
    from dualformer.evaluation.metrics import ClassFigures
    from dualformer.evaluation.multilabel_metrics import LabelFigures

T = TypeVar("T")

_MANY = 24  # classes; of more, only the worst and the best are printed


@dataclass(frozen=True, kw_only=True)
class Options(Computing):
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
    """Folder of the files (default: that of --report, else evaluation, or evaluation-CONTROL, beside the weights
    file)."""
    report: Path | None = None
    """Folder for report.html: everything on one page that needs no network, with the surest mistakes as clips."""
    report_views: tuple[str, ...] | None = None
    """Other views to compare on the page, as in 1x1 2x1 4x3 (default: those that cost little besides --views)."""
    report_mistakes: int = 8
    """How many mistakes the page shows as clips."""
    compare: tuple[Path, ...] = ()
    """Files figures.json of other evaluations of the same videos, for accuracy against cost on the page."""
    compare_anything: bool = False
    """Compare with evaluations of other videos or under another control, too."""
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
        if self.report_mistakes < 0:
            raise ValueError(f"--report-mistakes must be 0 or more, not {self.report_mistakes}")
        for name in ("report_views", "report_mistakes", "compare", "compare_anything"):
            if self.report is None and getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"--{name.replace('_', '-')} is for the page: say with --report where to write it")
        if self.compare_anything and not self.compare:
            raise ValueError("--compare-anything has nothing to compare: name other result files with --compare")


def run(options: Options) -> int:
    import json
    import os

    from dualformer.cli._progress import Progress
    from dualformer.datasets.splits import open_videos, parse_where, read_bad
    from dualformer.evaluation.evaluate import evaluate_views
    from dualformer.evaluation.evaluation_folder import class_figures, label_figures, write_report
    from dualformer.evaluation.label_matching import read_label_map
    from dualformer.inference.device import choose_device, compile_on, open_on
    from dualformer.report.mistake_clips import mistake_clips, why_not_explained
    from dualformer.report.page import PAGE, write_page
    from dualformer.report.report_data import figures_of_report, gather
    from dualformer.report.report_plan import Judged, cost_in_words, plan_report
    from dualformer.video.views import Views
    from dualformer.weights.open_network import open_card

    views = Views.parse(options.views)
    choose_device(options.device)  # a wrong name shows at once
    where = parse_where(options.on) if options.on else None
    bad = read_bad(options.manifest) if options.manifest else set()
    label_map = read_label_map(options.label_map) if options.label_map else None
    several = open_card(options.weights).multi_label
    videos = open_videos(options.data, on=where, bad=bad, missing=options.missing, multi_label=several)
    model, card, device = open_on(options.weights, options.device)
    computing = compile_on(model, options.compile_mode, device=device) if options.compile_mode else model
    workers = min(8, (os.cpu_count() or 1) - 1) if options.workers is None else options.workers
    plan = None
    if options.report is not None:
        judged = Judged(
            videos=len(videos) + len(videos.missing),
            manifest_hash=videos.manifest_hash,
            control=options.control,
            multi_label=several,
        )
        plan = plan_report(
            options.weights,
            card,
            judged,
            views=views,
            wanted=options.report_views,
            compare=options.compare,
            anything=options.compare_anything,
        )
    out = options.out or options.report or _beside(options.weights, options.control)
    for folder in (out, options.report or out):
        folder.mkdir(parents=True, exist_ok=True)  # now, and not when hours of work are to be written
    if not options.json:
        control = "" if options.control == "none" else f", control {options.control}"
        left_out = f", {len(bad)} files left out by {options.manifest}" if options.manifest else ""
        counted = f", {len(videos.missing)} missing ones counted as wrong" if videos.missing else ""
        print(
            f"evaluating {options.weights} on {len(videos)} {videos.things} of {videos.source}{left_out}{counted} "
            f"(manifest {videos.manifest_hash}): views {views}, {device}, {workers} decoding processes{control}",
            flush=True,
        )
        if plan and len(plan.views) > 1:
            print(cost_in_words(plan.views), flush=True)
    with Progress("evaluating", "videos", quiet=options.json) as progress:
        evaluation, *others = evaluate_views(
            computing,
            card,
            videos,
            views=plan.views if plan else (views,),
            workers=workers,
            batch_size=options.batch_size,
            label_map=label_map,
            control=options.control,
            seed=options.seed,
            precision=options.chosen_precision,
            progress=progress.show,
        )
    extra = {"weights": options.weights, "data": options.data, "command": command_of(options)}
    extra |= figures_of_report([evaluation, *others]) if plan else {}
    write_report(out, evaluation, extra=extra)
    figures = {**evaluation.figures, **extra}
    page = None
    if plan and options.report:
        with Progress("explaining", "mistakes", quiet=options.json) as progress:
            mistakes = mistake_clips(
                evaluation, model, card, most=options.report_mistakes, device=device, progress=progress.show
            )
        page = write_page(
            options.report / PAGE,
            figures,
            gather(evaluation, figures, log=plan.log, epoch=plan.epoch, compared=plan.others),
            mistakes,
            not_explained=why_not_explained(model),
        )
    if options.json:
        where_to = {"report": str(out)} | ({"page": str(page.path)} if page else {})
        print(json.dumps({**figures, **where_to}, indent=2, ensure_ascii=False))
        return 0
    print("\n".join(_figures(evaluation)))
    print("\n".join(_labels(label_figures(evaluation)) if several else _classes(class_figures(evaluation))))
    confusion = "" if several else "confusion.png, "
    print(f"report: {out}   (figures.json, per_class.csv, predictions.csv, {confusion}contact_sheet.png)")
    if page:
        print(f"page: {page.path}   ({page.size / 1e6:.1f} MB: open it in a browser, pass it on as it is)")
    if several:
        print("there is no confusion matrix: with several labels a video, no class is taken for another")
    rows = f" --on '{options.on}'" if options.on else ""
    again = f"dualformer evaluate {options.weights} --data {options.data}{rows}"
    if options.control == "none":
        print(f"next: {again} --control one_frame   (is it the motion that it recognises?)")
    else:
        print(f"next: compare with {again}   (the same without the control)")
    return 0


def command_of(options: Options) -> str:
    """The command line of the same evaluation."""
    import dataclasses
    import shlex

    words = ["dualformer", "evaluate", options.weights]
    for field in dataclasses.fields(Options):
        value = getattr(options, field.name)
        if field.name in ("weights", "json") or value == field.default:
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        if not isinstance(value, bool):
            words += map(str, value if isinstance(value, tuple) else (value,))
    return shlex.join(words)


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
