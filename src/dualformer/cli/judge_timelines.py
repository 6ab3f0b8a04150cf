"""``dualformer evaluate --timeline``: how good timelines of long videos are, and which settings make them better."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dualformer.cli import shared_options as shared
from dualformer.plurals import counted
from dualformer.text_encoding import json_text

if TYPE_CHECKING:
    from dualformer.datasets.samples import LeftOut
    from dualformer.datasets.segments.annotated_video import AnnotatedVideo
    from dualformer.inference.recognizer import Recognizer
    from dualformer.scoring.segment_summary import SegmentScoring
    from dualformer.weights.segment_settings import SegmentSettings

_SETTINGS = ("hop", "window", "threshold", "shortest")
_OF_TIMELINES = (*_SETTINGS, "background", "tune_on", "tune_for", "protocol", "ambiguous")
_OF_CLIPS = (*("missing", "control", "seed", "report_views", "compare", "compare_anything", "workers", "batch_size"),)


@dataclass(frozen=True, kw_only=True)
class TimelineOptions(shared.InferenceOptions):
    """Timelines of long videos, judged by their true segments."""

    timeline: bool = False
    """Judge timelines of long videos: --data is a file or folder of segments (docs/segments.md), --on split=NAME a part
    of it. Files go to timelines beside the weights."""
    frames_per_second: float | None = None
    """Of segments: starts and ends that are whole numbers are frames at this rate (default: seconds, or 1:02.5)."""
    hop: float | None = None
    """With --timeline: seconds between the starts of two clips. This and the four below mean what they mean to
    `dualformer predict --timeline`."""
    window: float | None = None
    """With --timeline: seconds over which clips are averaged."""
    threshold: float | None = None
    """With --timeline: a class that is less likely does not happen."""
    shortest: float | None = None
    """With --timeline: seconds that a segment lasts at least."""
    background: tuple[str, ...] = ()
    """With --timeline: labels that mean that nothing happens."""
    tune_on: str | None = None
    """With --timeline: part of the data (split=val), or another file of segments, on which hop, window, threshold and
    shortest are searched for before. They are written into the weights file, and timelines go by them from then on."""
    tune_for: Literal["f1", "frame_accuracy"] = "f1"
    """With --tune-on: what shall be best, F1 at 50 % overlap or the share of frames with the right label."""
    protocol: Literal["activitynet", "thumos"] = "activitynet"
    """With --timeline: how predictions are matched for average precision."""
    ambiguous: str | None = None
    """With --timeline: a true label that is no class; predictions there are neither right nor wrong (THUMOS:
    Ambiguous)."""


def check_timeline_options(options: TimelineOptions) -> None:
    """Raises ``ValueError`` for options of timelines without `timeline`, and for those of clips with it."""

    def given(names: Sequence[str]) -> list[str]:
        return [name for name in names if getattr(options, name) != getattr(type(options), name)]

    shared.must("be positive", options, "hop", "window", "shortest", "frames_per_second")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise ValueError(f"`threshold` must be a probability, not {options.threshold}")
    if not options.timeline:
        if stray := given(_OF_TIMELINES):
            raise ValueError(f"`{stray[0]}` goes with --timeline")
        return
    if stray := given(_OF_CLIPS):
        raise ValueError(f"`{stray[0]}` does not go with --timeline")
    if options.tune_on is not None and (stray := given(_SETTINGS)):
        raise ValueError(f"`{stray[0]}` is searched for with --tune-on: leave one of them out")
    if options.tune_on is None and given(["tune_for"]):
        raise ValueError("`tune_for` goes with --tune-on")


def judge_timelines(
    options: TimelineOptions,
    *,
    weights: str,
    data: str,
    on: str | None,
    manifest: Path | None,
    views: str,
    label_map: Path | None,
    out: Path | None,
    report: Path | None,
    report_mistakes: int,
    json: bool,
    command: str,
) -> int:
    """Judges timelines, after a search for settings if one is asked for, and returns the exit code."""
    from dualformer.cli.progress import Progress
    from dualformer.evaluation.evaluation_folder import folder_beside, report_folder
    from dualformer.evaluation.label_matching import read_label_map
    from dualformer.files import lock_for_writing, write_text
    from dualformer.report.page import PAGE
    from dualformer.report.segment_editor import EDITOR, render_segment_editor, videos_to_correct
    from dualformer.report.timeline_page import error_clips, render_timeline_page
    from dualformer.scoring.segment_summary import SegmentScoring
    from dualformer.timelines.evaluate_timelines import JudgedVideo, evaluate_timelines
    from dualformer.timelines.timeline_errors import error_stretches
    from dualformer.timelines.timeline_folder import FIGURES, write_timeline_evaluation
    from dualformer.timelines.timeline_text import settings_text, timelines_text, video_text

    names = read_label_map(label_map) if label_map else None
    bad = shared.bad_files(manifest)
    videos, left_out = _part(data, on, options.frames_per_second, bad)
    tuning = None if options.tune_on is None else _tuning_videos(options, options.tune_on, weights, data, bad)
    if tuning is not None:
        _refuse_the_same(videos, tuning, str(options.tune_on))
    recognizer = options.load(weights, views=views)
    own = recognizer.card.segment_settings
    background = options.background or own.background
    there = {*recognizer.labels, *(each.label for video in (*videos, *(tuning or ())) for each in video.segments)}
    if unknown := [name for name in options.background if name not in there]:
        raise ValueError(f"`background`: {unknown[0]!r} is no class of the weights, and no label of {data}")
    if options.ambiguous is not None and options.ambiguous not in there:
        raise ValueError(f"`ambiguous`: {options.ambiguous!r} is no label of {data}")
    scoring = SegmentScoring(background=background, **shared.arguments(options, "protocol", "ambiguous"))
    asked = {"data": data, "on": on}
    beside = report_folder(folder_beside(weights), "timelines", weights=weights, asked=asked, figures=FIGURES)
    out = out or report or beside
    with lock_for_writing(out, folder=True), lock_for_writing(report or out, folder=True):
        if tuning is not None:
            settings = _tune(options, recognizer, tuning, scoring, names, weights=weights, quiet=json)
        else:
            known = tuple(name for name in background if name in recognizer.labels)
            settings = own.but(background=known, **shared.arguments(options, *_SETTINGS))
        if not json:
            what = counted(len(videos), "long video")
            said = settings_text(settings)
            without = f", {counted(left_out.count, 'file')} left out by {manifest}{left_out.notes}" if left_out else ""
            print(f"judging timelines of {weights} on {what} of {data}{without}: {said}", flush=True)
        on_terminal = sys.stdout.isatty() and not json
        with Progress("reading", "percent read", quiet=not on_terminal) as progress:

            def tell(judged: JudgedVideo, number: int, count: int) -> None:
                if not json:
                    (progress.say if on_terminal else print)(f"{number}/{count} {video_text(judged)}")

            evaluation = evaluate_timelines(
                recognizer,
                videos,
                settings=settings,
                scoring=scoring,
                label_map=names,
                source=data,
                on_video=tell,
                progress=progress.percent(most=99),
            )
        extra: dict[str, Any] = {"weights": weights, "data": data, "on": on, "command": command}
        files = write_timeline_evaluation(out, evaluation, extra=extra)
        editor = out / EDITOR
        to_correct = videos_to_correct(evaluation)
        write_text(editor, render_segment_editor(to_correct, recognizer.labels, folder=out, title=Path(weights).stem))
        page = None
        if report is not None:
            with Progress("cutting", "errors", quiet=json) as progress:
                errors = error_stretches(evaluation)
                clips = error_clips(errors, most=report_mistakes, progress=progress.show)
            page, shown = report / PAGE, {**evaluation.figures, **extra}
            beside = EDITOR if report == out else None
            write_text(page, render_timeline_page(evaluation, shown, clips, wrong=len(errors), editor=beside))
    if json:
        where_to = {"report": str(out), "editor": str(editor)} | ({"page": str(page)} if page else {})
        print(json_text({**evaluation.figures, **extra, **where_to}, indent=2, stream=sys.stdout))
        return 0
    print("\n".join(timelines_text(evaluation)))
    print(f"report: {out}   ({', '.join(path.name for path in vars(files).values())})")
    print(f"to correct: {editor}   (open it in a browser: see the segments beside the videos, and correct them)")
    if page:
        print(f"page: {page}   ({page.stat().st_size / 1e6:.1f} MB: open it in a browser, pass it on as it is)")
    return 0


def _tune(
    options: TimelineOptions,
    recognizer: Recognizer,
    videos: Sequence[AnnotatedVideo],
    scoring: SegmentScoring,
    label_map: dict[str, str] | None,
    *,
    weights: str,
    quiet: bool,
) -> SegmentSettings:
    """Returns the settings that are the best on ``videos``, and writes them into the weights file."""
    from dualformer.cli.progress import Progress
    from dualformer.timelines.evaluate_timelines import with_labels_of_weights
    from dualformer.timelines.search_settings import score_for_search, search_settings
    from dualformer.timelines.timeline_text import found_text
    from dualformer.weights.safetensors_file import store_timeline_settings

    source = str(options.tune_on)
    known = with_labels_of_weights(recognizer, videos, scoring=scoring, label_map=label_map, source=source)
    if not quiet:
        print(f"searching settings of timelines on {counted(len(known), 'long video')} of {source}", flush=True)
    with Progress("reading", "percent read", quiet=quiet or not sys.stdout.isatty()) as progress:
        scored = score_for_search(recognizer, known, progress=progress.percent(most=99))
    found = search_settings(recognizer, scored, objective=options.tune_for, scoring=scoring)
    store_timeline_settings(weights, found.settings)
    if not quiet:
        print(f"{found_text(found)}; written into {weights}", flush=True)
    return found.settings


def _tuning_videos(
    options: TimelineOptions, tune_on: str, weights: str, data: str, bad: Collection[Path]
) -> list[AnnotatedVideo]:
    """Returns the videos to search settings on. Raises ``ValueError`` where nothing can be written into the weights."""
    from dualformer.weights.exported.exported_files import is_exported

    there = Path(weights).exists()
    if not there or is_exported(weights):
        what = "an exported model" if there else "no weights file of yours"
        raise ValueError(f"`tune_on` writes into a weights file, and {weights} is {what}")
    rate = options.frames_per_second
    named = (tune_on, None) if Path(tune_on).exists() else (data, tune_on)
    return _part(*named, rate, bad)[0]


def _refuse_the_same(videos: Sequence[AnnotatedVideo], tuning: Sequence[AnnotatedVideo], tune_on: str) -> None:
    """Raises ``ValueError`` for videos that would be judged by settings that were found on them."""
    from dualformer.datasets.samples import first_few

    judged = {video.path for video in videos}
    if same := [video.path.name for video in tuning if video.path in judged]:
        raise ValueError(
            f"settings that are found on a video judge it too well: {counted(len(same), 'video')} to be judged, "
            f"{first_few(same)}, would be searched on by `tune_on={tune_on}`: say with `on` what to judge"
        )


def _part(
    data: str, on: str | None, frames_per_second: float | None, bad: Collection[Path]
) -> tuple[list[AnnotatedVideo], LeftOut | None]:
    """Returns the videos of a file or folder of segments, those of one part with ``on``, as in split=test, without the
    ``bad`` ones; and which these are, if there is a list of them."""
    from dualformer.datasets.samples import DatasetError
    from dualformer.datasets.segments.segment_list import PREFIX, read_recordings
    from dualformer.remote_paths import as_path

    path = as_path(data.removeprefix(PREFIX)).expanduser()
    videos, left_out = read_recordings(path, bad=bad, frames_per_second=frames_per_second)
    if on is None:
        return videos, left_out
    chosen = shared.rows(on) or {}
    if set(chosen) != {"split"}:
        raise ValueError(f"of segments, a part is chosen as split=NAME, not {on}")
    part = [video for video in videos if video.split in chosen["split"]]
    if not part:
        splits = ", ".join(sorted({video.split for video in videos if video.split})) or "none"
        raise DatasetError(f"{data}: no video is of {on}; its parts: {splits}")
    return part, left_out
