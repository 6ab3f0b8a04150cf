"""``dualformer predict --timeline``: what happens when in long videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dualformer.cli._computing import Computing


@dataclass(frozen=True, kw_only=True)
class Settings:
    """As `read_timeline` takes them."""

    window: float | None
    hop: float | None
    threshold: float
    shortest: float | None
    background: tuple[str, ...]
    burn: bool


def run_timelines(
    files: list[Path], weights: str, out: Path, settings: Settings, *, views: str, computing: Computing, json: bool
) -> int:
    """One set of files for each video, called as it is; the exit code."""
    import json as json_module
    import sys
    import time

    from dualformer.cli._progress import Progress
    from dualformer.inference.recognizer import Recognizer
    from dualformer.inference.subtitles import as_json, clock, write_texts
    from dualformer.inference.timeline_drawing import burn, draw_timeline
    from dualformer.video.container import VideoError

    stems = [path.stem for path in files]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise ValueError(
            f"two videos are called {twice}, and so would their timelines be: name them one after the other"
        )
    recognizer = Recognizer.load(
        weights,
        device=computing.device,
        views=views,
        precision=computing.chosen_precision,
        compile_mode=computing.compile_mode,
    )
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in files:
        if not json:
            print(f"timeline of {path} with {weights} on {recognizer.device}: {len(recognizer.labels)} classes")
        begun = time.monotonic()
        try:
            with Progress("reading", "percent read", quiet=json) as progress:
                timeline = recognizer.timeline(
                    path,
                    window=settings.window,
                    hop=settings.hop,
                    threshold=settings.threshold,
                    shortest=settings.shortest,
                    background=settings.background,
                    progress=lambda done, total, progress=progress: (
                        progress.show(min(99, round(100 * done / total)), 100) if total else None
                    ),
                )
            written = write_texts(timeline, out, path.stem)
            picture = out / f"{path.stem}.png"
            draw_timeline(picture, timeline)
            written.append(picture)
            if settings.burn:
                film = out / f"{path.stem}.labels.mp4"
                with Progress("burning in", "percent written", quiet=json) as progress:
                    burn(
                        timeline,
                        film,
                        progress=lambda done, total, progress=progress: progress.show(round(100 * done / total), 100),
                    )
                written.append(film)
        except VideoError as error:
            failed += 1
            if json:
                print(json_module.dumps({"source": str(path), "error": error.reason}, ensure_ascii=False), flush=True)
            else:
                print(f"failed: {error}", file=sys.stderr, flush=True)
            continue
        seconds = time.monotonic() - begun
        if timeline.error is not None:
            failed += 1
        if json:
            files_written = {"files": [str(file) for file in written]}
            print(json_module.dumps({**as_json(timeline), **files_written}, ensure_ascii=False), flush=True)
            continue
        for segment in timeline.segments:
            span = f"{clock(segment.start):>9} – {clock(segment.end):>9}"
            print(f"{span}  {segment.probability:6.1%}  {segment.label}")
        if timeline.error is not None:
            print(f"failed: {path}: {timeline.error}; this is what comes before", file=sys.stderr, flush=True)
        print(
            f"{len(timeline.segments)} segments in {clock(timeline.seconds)}, of {timeline.clips} clips of "
            f"{timeline.clip:.3g} s; took {seconds:.1f} s"
        )
        print(f"written: {', '.join(map(str, written))}")
    return 1 if failed else 0
