"""``dualformer predict``: label video and image files."""

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualformer.cli.predict_folder import (
    FolderOptions,
    is_remote_media,
    named_files,
    predict_folder,
    print_costs,
    ray_alone,
)
from dualformer.cli.shared_options import WeightsOrExport, arguments, must
from dualformer.datasets.segments.segment_format_name import SegmentFormatName
from dualformer.plurals import counted
from dualformer.text_encoding import json_text

if TYPE_CHECKING:
    from dualformer.datasets.segments.annotated_video import AnnotatedVideo
    from dualformer.inference.ray_cluster import TaskSpec
    from dualformer.inference.recognizer import Recognizer
    from dualformer.inference.timeline import Timeline
    from dualformer.report.segment_editor import EditorVideo
    from dualformer.video.container import VideoError

_NOT_GIVEN = (None, False, ())

defaults = ray_alone


@dataclass(frozen=True, kw_only=True)
class Options(FolderOptions):
    weights: WeightsOrExport
    top: int = 5
    """Classes to name for each file."""
    json: bool = False
    """Print one JSON object per file, and nothing else. With --out of a table, one at the end."""
    out: Path | None = None
    """Write a table (.parquet, .csv or .jsonl) with a row for each file. A second call does only what is new or has
    changed. With --timeline, the folder of its files (default: timeline)."""
    timeline: bool = False
    """Of long videos, say what happens when: segments as CSV, JSON and subtitles (WebVTT), a picture, and a page on
    which they are seen beside the videos and corrected."""
    hop: float | None = None
    """With --timeline: seconds between the starts of two clips. What of this and the four below is not given is as the
    weights say, if `dualformer evaluate --tune-on` wrote it there, or else half a clip."""
    window: float | None = None
    """With --timeline: seconds over which clips are averaged; as long as a clip if not given."""
    threshold: float | None = None
    """The least probability of a class: name those classes alone that reach it, for weights of several labels each
    with its own threshold of the weights if not given. With --timeline: a class that is less likely does not happen
    (default: as the weights say, or 0.5)."""
    shortest: float | None = None
    """With --timeline: seconds that a segment lasts at least; three quarters of a clip if not given."""
    background: tuple[str, ...] = ()
    """With --timeline: classes that mean that nothing happens."""
    segment_format: SegmentFormatName | None = None
    """With --timeline: write the segments of all videos in this format as well, to be corrected by hand, and trained
    on."""
    burn: bool = False
    """With --timeline: write the video with the labels burnt in as well (MP4 without sound)."""

    def __post_init__(self) -> None:
        must("be at least 1", self, "top")
        must("be positive", self, "hop", "window", "shortest")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold must be a probability, not {self.threshold}")
        of_timelines = ("hop", "window", "shortest", "background", "segment_format", "burn")
        if not self.timeline and (stray := [name for name in of_timelines if getattr(self, name) not in _NOT_GIVEN]):
            raise ValueError(f"--{stray[0].replace('_', '-')} goes with --timeline")
        table = self.out is not None and not self.timeline
        if stray := [name for name in ("fresh", "retry") if getattr(self, name) and not table]:
            raise ValueError(f"--{stray[0]} goes with --out and a table")
        if stray := [name for name in ("ray", "actors") if getattr(self, name) and not (table or self.timeline)]:
            raise ValueError(f"--{stray[0]} goes with --out and a table, or with --timeline")
        super().__post_init__()


def run(options: Options) -> int:
    if options.timeline:
        return _timelines(options)
    if options.out is not None:
        return predict_folder(options, "labels", options.out, top=options.top, threshold=options.threshold)
    from dualformer.files import LABEL_SEPARATOR
    from dualformer.video.container import VideoError
    from dualformer.video.video_source import source_name

    recognizer = options.load(options.weights, views=options.views)
    paths = named_files(options.files)
    if not options.json:
        pre = recognizer.preprocessing
        several = (
            " (a video may be of several: each has a probability for itself)" if recognizer.card.multi_label else ""
        )
        print(
            f"labelling {counted(len(paths), 'file')} with {options.weights} on {recognizer.device}: "
            f"{len(recognizer.labels)} classes{several}, views {recognizer.views} of {pre.frames}x{pre.crop}x{pre.crop}"
        )
    begun = time.monotonic()
    failed, unread = 0, list[object]()
    for path, outcome in recognizer.many(paths):
        if isinstance(outcome, VideoError):
            failed += 1
            unread.append(path)
            if options.json:
                print(json_text({"path": source_name(path), "error": outcome.reason}, stream=sys.stdout), flush=True)
            else:
                print(f"failed: {outcome}", file=sys.stderr, flush=True)
            continue
        above = outcome.above(options.threshold)
        best = outcome.top(options.top) if options.threshold is None else above
        several = outcome.multi_label or options.threshold is not None
        if options.json:
            answer: dict[str, object] = {"path": source_name(path)}
            answer["labels"] = [{"label": label, "probability": probability} for label, probability in best]
            if several:
                answer["above"] = [label for label, _ in above]
            if outcome.notes:
                answer["notes"] = list(outcome.notes)
            print(json_text(answer, stream=sys.stdout), flush=True)
        else:
            lines = [f"{probability:7.1%}  {label}" for label, probability in best]
            if several:
                named = LABEL_SEPARATOR.join(label for label, _ in above)
                lines.append(f"labels: {named or 'none of the classes'}")
            print("\n".join([source_name(path), *lines]), flush=True)
    if not options.json:
        print(f"{len(paths) - failed} labelled, {failed} failed; took {time.monotonic() - begun:.1f} s")
        if failed:
            folders = (named for named in options.files if not is_remote_media(named) and named.is_dir())
            files = (path for path in unread if isinstance(path, Path) and not is_remote_media(path) and path.exists())
            what = next(folders, None) or next(files, None)
            if what is not None:
                print(f"next: dualformer check {shlex.quote(str(what))}   (every file that does not decode, and why)")
        else:
            weights = shlex.quote(options.weights)
            print(f"next: dualformer evaluate {weights} --data DATA   (how often is it right?)")
    return 1 if failed else 0


def _timelines(options: Options) -> int:
    """Writes what happens when, as one set of files for each video, called as it is; returns the exit code."""
    from dualformer.cli.progress import Progress
    from dualformer.datasets.segments.segment_formats import check_names
    from dualformer.inference.timeline import clashing_timelines, format_time, timeline_json, write_timeline_files
    from dualformer.inference.timeline_drawing import draw_timeline, write_labelled_video
    from dualformer.video.container import VideoError
    from dualformer.video.video_segment import stem_of
    from dualformer.video.video_source import source_name

    files = named_files(options.files)
    stems = [stem_of(path) for path in files]
    if clash := clashing_timelines(stems):
        two = (
            f"two videos are called {clash[0]}" if clash[0] == clash[1] else f"{clash[0]} and {clash[1]} are two videos"
        )
        raise ValueError(f"{two}, and their timelines would be one: name them one after the other, with another --out")
    over_ray = options.task_spec() if options.ray else None
    recognizer = over_ray.here().load() if over_ray else options.load(options.weights, views=options.views)
    if options.segment_format:
        check_names(list(dict.fromkeys(map(_whole, files))), recognizer.labels, options.segment_format)
    out = options.out or Path("timeline")
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    found: dict[Path, AnnotatedVideo] = {}
    shown: dict[Path, EditorVideo] = {}
    read = _read_over_ray(options, recognizer, files, over_ray) if over_ray else _read_here(options, recognizer, files)
    for path, stem in zip(files, stems, strict=True):
        begun = time.monotonic()
        video, timeline = next(read)
        try:
            if isinstance(timeline, VideoError):
                raise timeline
            written = write_timeline_files(timeline, out, stem)
            picture = out / f"{stem}.png"
            draw_timeline(picture, timeline)
            written.append(picture)
            if options.burn:
                film = out / f"{stem}.labels.mp4"
                with Progress("burning in", "percent written", quiet=options.json) as progress:
                    write_labelled_video(timeline, film, video=video, progress=progress.percent())
                written.append(film)
        except VideoError as error:
            failed += 1
            if options.json:
                print(json_text({"source": source_name(path), "error": error.reason}, stream=sys.stdout), flush=True)
            else:
                print(f"failed: {error}", file=sys.stderr, flush=True)
            continue
        seconds = time.monotonic() - begun
        failed += timeline.error is not None
        annotated = _annotated(path, video, timeline)
        before = found.get(annotated.path)
        found[annotated.path] = annotated if before is None else _joined(before, annotated)
        shown[annotated.path] = _to_correct(found[annotated.path], video, timeline, shown.get(annotated.path))
        if options.json:
            files_written = {"files": [str(file) for file in written]}
            print(json_text({**timeline_json(timeline), **files_written}, stream=sys.stdout), flush=True)
            continue
        for segment in timeline.segments:
            span = f"{format_time(segment.start):>9} – {format_time(segment.end):>9}"
            print(f"{span}  {segment.probability:6.1%}  {segment.label}")
        if timeline.error is not None:
            print(
                f"failed: {source_name(path)}: {timeline.error}; this is what comes before", file=sys.stderr, flush=True
            )
        print(
            f"{counted(len(timeline.segments), 'segment')} in {format_time(timeline.seconds)}, of "
            f"{counted(timeline.clips, 'clip')} of {timeline.clip:.3g} s"
            + ("" if options.ray else f"; took {seconds:.1f} s")
        )
        if not timeline.segments:
            print(_why_no_segments(timeline))
        elif gap := longest_gap(timeline):
            print(gap)
        print(f"written: {', '.join(map(str, written))}")
    for _ in read:  # it ends with what all took
        pass
    if shown:
        _write_page(list(shown.values()), recognizer.labels, out, quiet=options.json)
    if options.segment_format and found:
        _write_segments(options.segment_format, list(found.values()), out, quiet=options.json)
    return 1 if failed else 0


_Read = Iterator[tuple[Any, "Timeline | VideoError"]]
"""What was read and its timeline, of each video in turn."""


def _read_here(options: Options, recognizer: "Recognizer", files: Sequence[Path]) -> _Read:
    from dualformer.cli.progress import Progress
    from dualformer.video.container import VideoError
    from dualformer.video.video_source import resolve_source, source_name

    for path in files:
        if not options.json:
            what = f"{len(recognizer.labels)} classes"
            print(f"timeline of {source_name(path)} with {options.weights} on {recognizer.device}: {what}")
        video: Any = path
        try:
            with Progress("reading", "percent read", quiet=options.json) as progress:
                video = resolve_source(path)  # a pipe can be read only once
                timeline = recognizer.timeline(video, **_settings(options), progress=progress.percent(most=99))
                if timeline.error is None:
                    progress.show(100, 100)
        except VideoError as error:
            timeline = error
        yield video, timeline


def _read_over_ray(options: Options, recognizer: "Recognizer", files: Sequence[Path], spec: "TaskSpec") -> _Read:
    from dualformer.cli.progress import Progress
    from dualformer.inference.ray_cluster import RayTimelines
    from dualformer.video.video_segment import parse_segment
    from dualformer.video.video_source import source_name

    begun = time.monotonic()
    with RayTimelines(spec, recognizer, **options.over_ray, **_settings(options)) as films:
        if not options.json:
            what = f"{len(recognizer.labels)} classes"
            where = f"over Ray ({options.ray})"
            print(f"timelines of {counted(len(files), 'video')} with {options.weights} {where}: {what}")
        found = films.run(files, lambda done, known: progress.show(done, known))
        for path in files:
            # One for each film: between them, others are shown.
            with Progress("reading", "jobs done", quiet=options.json) as progress:
                timeline = next(found)
            if not options.json:
                print(f"timeline of {source_name(path)}")
            yield parse_segment(path) or path, timeline
        if not options.json:
            print_costs(films.costs, len(files), "video")
            print(f"all of them took {time.monotonic() - begun:.1f} s")


def _settings(options: Options) -> dict[str, Any]:
    named = arguments(options, "threshold", "window", "hop", "shortest")
    return {"background": options.background or None, **named}


def _write_segments(name: SegmentFormatName, videos: list["AnnotatedVideo"], out: Path, *, quiet: bool) -> None:
    """Writes all segments in a format; videos without any that it cannot name are told instead."""
    from dualformer.datasets.samples import first_few
    from dualformer.datasets.segments.segment_formats import FORMATS, write_segments

    known = [video for video in videos if video.segments or FORMATS[name].names_unmarked]
    path = out / name if FORMATS[name].has_folder else out / f"segments{FORMATS[name].extension}"
    made = write_segments(known, path, name, frames_per_second=1.0) if known else []  # the rate of an image
    if quiet:
        return
    if made:
        print(f"segments as {name}: {', '.join(map(str, made))}")
    if unnamed := [video.path.name for video in videos if video not in known]:
        count = counted(len(unnamed), "video", "videos")
        print(f"{name} cannot say that nothing happens in a video: left out {count} of it ({first_few(unnamed)})")


def _write_page(videos: list["EditorVideo"], labels: tuple[str, ...], out: Path, *, quiet: bool) -> None:
    """Writes the page on which the segments of all videos are corrected."""
    from dualformer.files import write_text
    from dualformer.report.segment_editor import EDITOR, render_segment_editor

    page, title = out / EDITOR, videos[0].path.name if len(videos) == 1 else counted(len(videos), "video")
    write_text(page, render_segment_editor(videos, labels, folder=out, title=title))
    if not quiet:
        print(f"to correct: {page}   (open it in a browser: see the segments beside the video, and correct them)")


def _annotated(path: Path, video: object, timeline: "Timeline") -> "AnnotatedVideo":
    """Returns the segments of a timeline, those of a part of a video at their times in all of it."""
    from dualformer.datasets.segments.annotated_video import AnnotatedVideo
    from dualformer.video.video_segment import VideoSegment

    begins = video.start if isinstance(video, VideoSegment) else 0.0
    return AnnotatedVideo(
        path=_whole(path),
        segments=tuple(replace(s, start=s.start + begins, end=s.end + begins) for s in timeline.segments),
        lines=tuple(f"{path}: {segment.label}" for segment in timeline.segments),
        fps=timeline.frames / timeline.seconds if timeline.frames > 1 else None,
    )


def _whole(path: Path) -> Path:
    """Returns the absolute path of a video, or of that which ``path`` names a part of."""
    from dualformer.video.file_slices import media_path
    from dualformer.video.video_segment import parse_segment

    part = parse_segment(path)
    return (media_path(part.file) if part else path).absolute()


def _joined(one: "AnnotatedVideo", other: "AnnotatedVideo") -> "AnnotatedVideo":
    """Returns the segments of two parts of one video."""
    return replace(one, segments=(*one.segments, *other.segments), lines=(*one.lines, *other.lines))


def _to_correct(
    annotated: "AnnotatedVideo", video: object, timeline: "Timeline", before: "EditorVideo | None"
) -> "EditorVideo":
    """Returns a video for the page, which reaches to the end of the last of its parts that were read."""
    from dualformer.report.segment_editor import EditorVideo
    from dualformer.video.video_segment import VideoSegment

    end = timeline.seconds + (video.start if isinstance(video, VideoSegment) else 0.0)
    return EditorVideo(
        path=annotated.path,
        seconds=max(end, before.seconds) if before else end,
        predicted=annotated.segments,
        fps=annotated.fps,
        error=timeline.error or (before and before.error),
    )


def longest_gap(timeline: "Timeline") -> str:
    """Returns a line on the longest time without a label, with the likeliest class in it; empty where that is shorter
    than a clip, or classes are named that mean that nothing happens."""
    from dualformer.inference.timeline import format_time

    ends = [0.0, *(segment.end for segment in timeline.segments)]
    starts = [*(segment.start for segment in timeline.segments), timeline.seconds]
    begin, end = max(zip(accumulate(ends, max), starts, strict=True), key=lambda gap: gap[1] - gap[0])
    inside = (timeline.bounds[:-1] >= begin) & (timeline.bounds[1:] <= end)
    if timeline.settings.background or end - begin < timeline.clip or not inside.any():
        return ""
    highest = timeline.probabilities[inside].max(axis=0)
    best = int(highest.argmax())
    where = f"from {format_time(begin)} to {format_time(end)} there is no label"
    if highest[best] < timeline.settings.threshold:
        most = f"{highest[best]:.3f}, below {timeline.settings.threshold:g}"
        return f"{where}: {timeline.labels[best]} is the likeliest there with at most {most}: lower `threshold`"
    return f"{where}: {timeline.labels[best]} is the likeliest there, but not for long enough: lower `shortest`"


def _why_no_segments(timeline: "Timeline") -> str:
    """Returns a line on what kept a timeline empty, with the option that changes it."""
    quiet, threshold = timeline.settings.background, timeline.settings.threshold
    kept = timeline.probabilities[:, [place for place, label in enumerate(timeline.labels) if label not in quiet]]
    if not kept.shape[1]:
        return "every class is named by `background`"
    if quiet and not timeline.multi_label:
        likeliest = float(kept.sum(axis=1).max(initial=0.0))
        if likeliest < threshold:
            return (
                f"the classes besides `background` never reached a probability of {threshold:g} together, but "
                f"{likeliest:.3f}: lower `threshold`"
            )
        return f"nothing kept a probability of {threshold:g} besides `background` for long enough (`shortest`)"
    best = float(kept.max(initial=0.0))
    if best < threshold:
        return f"no class reached a probability of {threshold:g}, and the likeliest {best:.3f}: lower `threshold`"
    return f"no class kept a probability of {threshold:g} for long enough: lower `shortest`"
