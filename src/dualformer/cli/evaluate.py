"""``dualformer evaluate``: how good weights are on labelled videos, and where they go wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dualformer.cli import shared_options as shared
from dualformer.cli.judge_timelines import TimelineOptions, check_timeline_options, judge_timelines
from dualformer.cli.option_names import OptionNames
from dualformer.plurals import counted
from dualformer.text_encoding import json_text
from dualformer.video.preprocessing import DEFAULT_VIEWS

if TYPE_CHECKING:
    from dualformer.evaluation.evaluate import Evaluation
    from dualformer.weights.card import Card
    from dualformer.weights.open_network import Network

_NOT_OF_FOLDS = (
    *("data", "on", "missing", "label_map", "manifest", "timeline", "frames_per_second"),
    *("report", "report_views", "report_mistakes", "compare", "compare_anything"),
)
"""Options that a cross-validation leaves no choice of, and those of one network's page."""
_OF_ONE_CALL = ("json", "out", "report", "report_views", "report_mistakes", "compare", "compare_anything")
"""Options of where an evaluation goes, which another one has others of."""


@dataclass(frozen=True, kw_only=True)
class Options(TimelineOptions):
    weights: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(
            metavar="WEIGHTS",
            help=f"{shared.WEIGHTS_OR_EXPORT} Or the folder that train --folds made: each video of its data is asked "
            "of the network that has not seen it.",
        ),
    ]
    data: str | None = None
    """Needed but for the folder of train --folds. A folder with one subfolder per class (its val/ or test/ where it
    has one), a CSV file (path,label,… or, of segments, path,start,end,label), segments that another program wrote
    (its file, or segments:FOLDER), a benchmark as downloaded (kinetics400:PATH, kinetics600:, kinetics700:, ucf101:,
    ucf101@2: for split 2, hmdb51:, diving48:, ssv2:, list: for files of "path label"), a data set of another program
    (Parquet, LeRobot, …; its columns are named as in columns@label=NAME,video=NAME:PATH), or shards (their folder or
    URL)."""
    on: str | None = None
    """Rows of a CSV file to evaluate on, as in batch=B (default: all); split=test of a folder with train/, val/ and
    test/, a benchmark or shards (default: val, or test where there is no val)."""
    missing: Literal["error", "wrong"] = "error"
    """What videos are that are listed and not there: an error, or counted as wrong."""
    views: shared.Views = DEFAULT_VIEWS
    control: Literal["none", "one_frame", "shuffled"] = "none"
    """What the model goes by: one_frame repeats the middle frame of each clip, shuffled mixes the order of its frames.
    Accuracy that stays the same does not come from motion."""
    seed: int = 0
    """Of the mixed order."""
    label_map: shared.LabelMap = None
    manifest: shared.Manifest = None
    out: Path | None = None
    """Folder of the files (default: that of --report, else evaluation, or evaluation-CONTROL, beside the weights
    file, with a number where that holds the report of other data, rows or views)."""
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
    workers: shared.Workers = None
    batch_size: int = 8
    """Views that go through the network at a time."""
    json: shared.Json = False

    def __post_init__(self) -> None:
        shared.must("be at least 1", self, "batch_size")
        shared.must("be 0 or more", self, "workers", "seed", "report_mistakes")
        for name in ("report_views", "report_mistakes", "compare", "compare_anything"):
            if self.report is None and getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"`{name}` is for the page: say with --report where to write it")
        check_timeline_options(self)
        if self.compare_anything and not self.compare:
            raise ValueError("--compare-anything has nothing to compare: name other result files with --compare")


def run(options: Options) -> int:
    from dualformer.evaluation.evaluation_folder import folder_beside, report_folder
    from dualformer.files import lock_for_writing
    from dualformer.training.folds import find_runs
    from dualformer.training.run_folder import BEST
    from dualformer.video.clip_reader import Views

    name = "evaluation" if options.control == "none" else f"evaluation-{options.control}"
    asked = {"data": options.data, "on": options.on, "views": str(Views.parse(options.views))}
    if runs := find_runs(Path(options.weights)):
        if stray := [name for name in _NOT_OF_FOLDS if getattr(options, name) != getattr(Options, name)]:
            raise ValueError(
                f"`{stray[0]}` does not go with {options.weights}, a cross-validation, whose networks are asked what "
                f"they have not seen: name the weights of one, such as {runs[0] / BEST}"
            )
        out = options.out or report_folder(Path(options.weights), name, weights=options.weights, asked=asked)
        with lock_for_writing(out, folder=True):
            return _evaluate_folds(options, runs, out)
    if options.data is None:
        raise ValueError("`data` says which videos to evaluate on, and is missing")
    if options.timeline:
        command = OptionNames(Options).command("evaluate", options, leave_out=("json",))
        where = ("weights", "on", "manifest", "views", "label_map")
        where += ("out", "report", "report_mistakes", "json")
        return judge_timelines(options, command=command, data=options.data, **shared.arguments(options, *where))
    beside = report_folder(folder_beside(options.weights), name, weights=options.weights, asked=asked)
    out = options.out or options.report or beside
    # From now on, and not when hours of work are to be written.
    with lock_for_writing(out, folder=True), lock_for_writing(options.report or out, folder=True):
        return _evaluate(options, options.data, out)


def _evaluate(options: Options, data: str, out: Path) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.datasets.splits import open_videos
    from dualformer.evaluation.evaluate import evaluate_views
    from dualformer.evaluation.evaluation_folder import write_evaluation
    from dualformer.evaluation.label_matching import read_label_map
    from dualformer.files import write_text
    from dualformer.inference.view_classifier import choose_device, compile_on, open_on
    from dualformer.report.mistake_clips import mistake_clips, why_not_explained
    from dualformer.report.page import PAGE, render_page
    from dualformer.report.report_data import report_details, report_figures
    from dualformer.report.report_plan import EvaluationConditions, describe_cost, plan_report
    from dualformer.video.clip_reader import Views
    from dualformer.weights.open_network import open_card

    views = Views.parse(options.views)
    choose_device(options.device)  # a wrong name shows at once
    where = shared.rows(options.on)
    bad = shared.bad_files(options.manifest)
    label_map = read_label_map(options.label_map) if options.label_map else None
    several = open_card(options.weights).multi_label
    videos = open_videos(
        data,
        on=where,
        bad=bad,
        missing=options.missing,
        multi_label=several,
        frames_per_second=options.frames_per_second,
    )
    model, card, device = open_on(options.weights, options.device)
    computing = compile_on(model, options.compile_mode, device=device) if options.compile_mode else model
    workers = shared.decoding_processes(options.workers)
    plan = None
    if options.report is not None:
        conditions = EvaluationConditions(
            videos=len(videos) + len(videos.missing),
            manifest_hash=videos.manifest_hash,
            control=options.control,
            multi_label=several,
        )
        plan = plan_report(
            options.weights,
            card,
            conditions,
            views=views,
            **shared.arguments(options, "report_views", "compare", "compare_anything"),
        )
    if not options.json:
        control = "" if options.control == "none" else f", control {options.control}"
        left_out = ""
        if videos.left_out:
            left_out = (
                f", {counted(videos.left_out.count, 'file')} left out by {options.manifest}{videos.left_out.notes}"
            )
            if videos.left_out.strange:
                print(videos.left_out.warning)
        as_wrong = f", {counted(len(videos.missing), 'missing one')} counted as wrong" if videos.missing else ""
        what = counted(len(videos), videos.kind.removesuffix("s"), videos.kind)
        processes = counted(workers, "decoding process")
        print(
            f"evaluating {options.weights} on {what} of {videos.source}{left_out}{as_wrong} "
            f"(manifest {videos.manifest_hash}): views {views}, {device}, {processes}{control}",
            flush=True,
        )
        if plan and len(plan.views) > 1:
            print(describe_cost(plan.views, card.preprocessing.placement), flush=True)
    with Progress("evaluating", "videos", quiet=options.json) as progress:
        evaluation, *others = evaluate_views(
            computing,
            card,
            videos,
            views=plan.views if plan else (views,),
            workers=workers,
            label_map=label_map,
            precision=options.chosen_precision,
            progress=progress.show,
            **shared.arguments(options, "batch_size", "control", "seed"),
        )
    names = OptionNames(Options)
    command = names.command("evaluate", options, leave_out=("json",))
    extra = {"weights": options.weights, "data": data, "on": options.on, "command": command}
    extra |= report_figures([evaluation, *others]) if plan else {}
    write_evaluation(out, evaluation, extra=extra)
    figures = {**evaluation.figures, **extra}
    page = None
    if plan and options.report:
        with Progress("explaining", "mistakes", quiet=options.json) as progress:
            mistakes = mistake_clips(
                evaluation, model, card, most=options.report_mistakes, device=device, progress=progress.show
            )
        details = report_details(evaluation, figures, log=plan.log, epoch=plan.epoch, compared=plan.others)
        page = options.report / PAGE
        why_not, views_option = why_not_explained(model), names["report_views"]
        write_text(page, render_page(figures, details, mistakes, not_explained=why_not, report_views=views_option))
    if options.json:
        where_to = {"report": str(out)} | ({"page": str(page)} if page else {})
        print(json_text({**figures, **where_to}, indent=2, stream=sys.stdout))
        return 0
    _tell(options, evaluation, out, page=page)
    return 0


def _evaluate_folds(options: Options, runs: Sequence[Path], out: Path) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.datasets.splits import open_videos
    from dualformer.evaluation.evaluate_folds import Fold, evaluate_folds
    from dualformer.evaluation.evaluation_folder import write_evaluation
    from dualformer.inference.view_classifier import choose_device, compile_on, open_on
    from dualformer.training.run_folder import BEST, SPLIT
    from dualformer.weights.open_network import open_card

    choose_device(options.device)  # a wrong name shows at once

    def load(weights: Path) -> tuple[Network, Card]:
        network, card, device = open_on(weights, options.device)
        return (compile_on(network, options.compile_mode, device=device) if options.compile_mode else network), card

    several = open_card(runs[0] / BEST).multi_label
    folds = [
        Fold(
            name=run.name,
            open=partial(load, run / BEST),
            videos=open_videos(run / SPLIT, on=shared.rows("split=val"), multi_label=several),
        )
        for run in runs
    ]
    workers = shared.decoding_processes(options.workers)
    if not options.json:
        what = counted(sum(len(fold.videos) for fold in folds), folds[0].videos.kind.removesuffix("s"))
        control = "" if options.control == "none" else f", control {options.control}"
        print(
            f"evaluating the {len(folds)} folds of {options.weights} on {what}, each by the weights that have not seen "
            f"it: views {options.views}{control}",
            flush=True,
        )
    with Progress("evaluating", "videos", quiet=options.json) as progress:
        evaluation = evaluate_folds(
            folds,
            source=f"the folds of {options.weights}",
            workers=workers,
            precision=options.chosen_precision,
            progress=progress.show,
            **shared.arguments(options, "views", "batch_size", "control", "seed"),
        )
    command = OptionNames(Options).command("evaluate", options, leave_out=("json",))
    extra = {"weights": options.weights, "command": command}
    write_evaluation(out, evaluation, extra=extra)
    if options.json:
        print(json_text({**evaluation.figures, **extra, "report": str(out)}, indent=2, stream=sys.stdout))
        return 0
    _tell(options, evaluation, out)
    return 0


def _tell(options: Options, evaluation: Evaluation, out: Path, *, page: Path | None = None) -> None:
    """Prints an evaluation, where its files are, and what to try next."""
    from dualformer.evaluation.evaluation_text import classes_text, figures_text

    several = evaluation.targets is not None
    print("\n".join([*figures_text(evaluation), *classes_text(evaluation)]))
    confusion = "" if several else "confusion.png, "
    print(f"report: {out}   (figures.json, per_class.csv, predictions.csv, {confusion}contact_sheet.png)")
    if page:
        print(f"page: {page}   ({page.stat().st_size / 1e6:.1f} MB: open it in a browser, pass it on as it is)")
    if several:
        print("there is no confusion matrix: with several labels a video, no class is taken for another")
    again = OptionNames(Options).command("evaluate", replace(options, control="none"), leave_out=_OF_ONE_CALL)
    if options.control != "none":
        print(f"next: {again}   (the same without the control, to compare)")
    elif evaluation.preprocessing.frames > 1:
        print(f"next: {again} --control one_frame   (is it the motion that it recognises?)")
