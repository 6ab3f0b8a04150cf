"""``dualformer predict --timeline``: what happens when in long videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualformer.inference.recognizer import Recognizer


def predict_timelines(
    files: Sequence[Path],
    load: Callable[[], Recognizer],
    out: Path,
    *,
    weights: str,
    burn: bool,
    json: bool,
    **settings: Any,
) -> int:
    """Writes one set of files for each video, called as it is; returns the exit code.

    ``load`` gives the recognizer of ``weights``; ``burn`` writes a film with the labels as well; ``settings`` are those
    of `Recognizer.timeline`.
    """
    import json as json_module
    import sys
    import time

    from dualformer.cli.progress import Progress
    from dualformer.inference.subtitles import as_json, clock, write_texts
    from dualformer.inference.timeline_drawing import burn as burn_in
    from dualformer.inference.timeline_drawing import draw_timeline
    from dualformer.video.container import VideoError

    stems = [path.stem for path in files]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise ValueError(
            f"two videos are called {twice}, and so would their timelines be: name them one after the other"
        )
    recognizer = load()
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in files:
        if not json:
            print(f"timeline of {path} with {weights} on {recognizer.device}: {len(recognizer.labels)} classes")
        begun = time.monotonic()
        try:
            with Progress("reading", "percent read", quiet=json) as progress:
                # What is still being written may end later than it says.
                timeline = recognizer.timeline(path, **settings, progress=progress.percent(most=99))
            written = write_texts(timeline, out, path.stem)
            picture = out / f"{path.stem}.png"
            draw_timeline(picture, timeline)
            written.append(picture)
            if burn:
                film = out / f"{path.stem}.labels.mp4"
                with Progress("burning in", "percent written", quiet=json) as progress:
                    burn_in(timeline, film, progress=progress.percent())
                written.append(film)
        except VideoError as error:
            failed += 1
            if json:
                print(json_module.dumps({"source": str(path), "error": error.reason}, ensure_ascii=False), flush=True)
            else:
                print(f"failed: {error}", file=sys.stderr, flush=True)
            continue
        seconds = time.monotonic() - begun
        failed += timeline.error is not None
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
