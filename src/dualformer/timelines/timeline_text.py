"""How good timelines are, as text."""

from pathlib import Path

from dualformer.datasets.samples import first_few
from dualformer.inference.timeline import format_time
from dualformer.plurals import counted
from dualformer.timelines.evaluate_timelines import JudgedVideo, TimelineEvaluation
from dualformer.timelines.search_settings import FoundSettings
from dualformer.weights.segment_settings import SegmentSettings


def video_text(judged: JudgedVideo) -> str:
    """Returns a line on one video."""
    counts = judged.figures.counts[-1]
    true = counted(counts.right + counts.missed, "true segment")
    off = judged.figures.boundary_error
    parts = [
        format_time(judged.seconds, digits=0),
        f"{true}, {counts.right + counts.wrong} predicted, {counts.right} right at 50 % overlap",
        f"{judged.figures.frames.accuracy:.1%} of frames",
        *([] if off is None else [f"boundaries off by {off:.2f} s"]),
        *([f"breaks off: {judged.timeline.error}"] if judged.timeline.error else []),
    ]
    return f"{Path(judged.video.path).name}: {'; '.join(parts)}"


def timelines_text(evaluation: TimelineEvaluation) -> list[str]:
    """Returns the figures of all videos together, a line each, and the classes with the lowest F1."""
    figures = evaluation.figures
    f1, boundary, within = figures["f1_at"], figures["boundary_error"], figures["intervals"]
    overlaps = figures["scoring"]["overlaps"]
    if boundary["median"] is None:
        off = "not known"
    else:
        off = f"{boundary['median']:.2f} s in the median, {boundary['mean']:.2f} s on average"
    found = f"{counted(boundary['matched'], 'segment')} found, {boundary['unmatched']} not"
    rows = [
        ("mAP at an overlap of 0.5", f"{figures['average_precision_at']['0.5']:.1%}"),
        (
            f"mAP, mean of {overlaps[0]:g} to {overlaps[-1]:g}",
            _share(figures["mean_average_precision"], within["mean_average_precision"]),
        ),
        ("F1 at 10, 25, 50 %", f"{f1['10']:.1%}, {f1['25']:.1%}, {_share(f1['50'], within['f1_at_50'])}"),
        ("edit score", _share(figures["edit"], within["edit"])),
        ("frames with the right label", _share(figures["frame_accuracy"], within["frame_accuracy"])),
        ("the same where something happens", f"{figures['action_frame_accuracy']:.1%}"),
        ("boundaries off by", f"{off} ({found})"),
    ]
    width = max(len(name) for name, _ in rows)
    worst = sorted((each for each in evaluation.classes if each.f1 < 1), key=lambda each: each.f1)
    named = first_few((f"{each.label} {each.f1:.0%}" for each in worst), most=5)
    return [*(f"{name:<{width}}  {value}" for name, value in rows), *([f"lowest F1 at 50 %: {named}"] if worst else [])]


def settings_text(settings: SegmentSettings) -> str:
    """Returns settings of timelines in one line."""
    numbers = {name: getattr(settings, name) for name in ("hop", "window", "threshold", "shortest")}
    words = [f"{name} {value:g}" for name, value in numbers.items() if value is not None]
    return ", ".join([*words, *([f"background {' '.join(settings.background)}"] if settings.background else [])])


def found_text(found: FoundSettings) -> str:
    """Returns a line on settings that were found."""
    what = "F1 at 50 %" if found.objective == "f1" else "frames with the right label"
    better = f"{what} {found.score:.1%} in place of {found.before:.1%}"
    return f"found: {settings_text(found.settings)}: {better} ({found.tried} tried)"


def _share(value: float, interval: list[float] | None) -> str:
    return f"{value:.1%}" + (f" (95 %: {interval[0]:.1%} to {interval[1]:.1%})" if interval else "")
