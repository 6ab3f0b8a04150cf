"""``dualformer predict``: label video and image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dualformer.cli._computing import Computing
from dualformer.cli._folder import named_files, run_folder, with_address

_NOT_GIVEN = (None, False, ())


@dataclass(frozen=True, kw_only=True)
class Options(Computing):
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILES…")]
    """Video or image files; a folder stands for all of them in it, however deep. An image is a video of one frame. A
    list stands for its files: .csv with a column path, .txt with a path on each line."""
    weights: str
    """A weights file, a folder with model.safetensors, a hub id (owner/name), or an exported model."""
    top: int = 5
    """Classes to name for each file."""
    views: str = "4x1"
    """Views of each video, clips x crops (1 or 3 crops); their probabilities are averaged."""
    json: bool = False
    """Print one JSON object per file, and nothing else. With --out of a table, one at the end."""
    out: Path | None = None
    """Write a table (.parquet, .csv or .jsonl) with a row for each file. A second call does only what is new or has
    changed. With --timeline, the folder of its files (default: timeline)."""
    fresh: bool = False
    """With --out: replace what is in the table."""
    retry: bool = False
    """With --out: try those files again that failed."""
    ray: str | None = None
    """With --out: spread the files over a Ray cluster at this address; alone, over processes of this machine."""
    actors: int | None = None
    """Processes of --ray; one for each GPU, or CPU where there is none, if not given."""
    timeline: bool = False
    """Of long videos, say what happens when: segments as CSV, JSON and subtitles (WebVTT), and a picture."""
    hop: float | None = None
    """With --timeline: seconds between the starts of two clips; half a clip if not given."""
    window: float | None = None
    """With --timeline: seconds over which clips are averaged; as long as a clip if not given."""
    threshold: float | None = None
    """With --timeline: a class that is less likely does not happen; 0.5 if not given."""
    shortest: float | None = None
    """With --timeline: seconds that a segment lasts at least; three quarters of a clip if not given."""
    background: tuple[str, ...] = ()
    """With --timeline: classes that mean that nothing happens."""
    burn: bool = False
    """With --timeline: write the video with the labels burnt in as well (MP4 without sound)."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"--top must be at least 1, not {self.top}")
        if not self.files:
            raise ValueError("name at least one video, image or folder")
        for name in ("hop", "window", "shortest"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"--{name} must be positive, not {value}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold must be a probability, not {self.threshold}")
        of_timelines = ("hop", "window", "threshold", "shortest", "background", "burn")
        if not self.timeline and (stray := [name for name in of_timelines if getattr(self, name) not in _NOT_GIVEN]):
            raise ValueError(f"--{stray[0]} goes with --timeline")
        table = self.out is not None and not self.timeline
        if stray := [name for name in ("fresh", "retry", "ray", "actors") if getattr(self, name) and not table]:
            raise ValueError(f"--{stray[0]} goes with --out and a table")
        if self.actors is not None and self.ray is None:
            raise ValueError("--actors goes with --ray")


def defaults(arguments: Sequence[str]) -> tuple[None, str, list[str]]:
    return None, "", with_address(arguments)


def run(options: Options) -> int:
    import json
    import sys
    import time

    if options.timeline:
        return _timelines(options)
    if options.out is not None:
        return _table(options, options.out)
    from dualformer.inference.recognizer import Recognizer
    from dualformer.video.decode import VideoError

    recognizer = Recognizer.load(
        options.weights,
        device=options.device,
        views=options.views,
        precision=options.chosen_precision,
        compile_mode=options.compile_mode,
    )
    paths = named_files(options.files)
    if not options.json:
        pre = recognizer.preprocessing
        several = (
            " (a video may be of several: each has a probability for itself)" if recognizer.card.multi_label else ""
        )
        print(
            f"labelling {len(paths)} files with {options.weights} on {recognizer.device}: "
            f"{len(recognizer.labels)} classes{several}, views {recognizer.views} of {pre.frames}x{pre.crop}x{pre.crop}"
        )
    begun = time.monotonic()
    failed = 0
    for path, outcome in recognizer.many(paths):
        if isinstance(outcome, VideoError):
            failed += 1
            if options.json:
                print(json.dumps({"path": str(path), "error": outcome.reason}, ensure_ascii=False), flush=True)
            else:
                print(f"failed: {outcome}", file=sys.stderr, flush=True)
            continue
        best = outcome.top(options.top)
        if options.json:
            labels = [{"label": label, "probability": probability} for label, probability in best]
            print(json.dumps({"path": str(path), "labels": labels}, ensure_ascii=False), flush=True)
        else:
            lines = [f"{probability:7.1%}  {label}" for label, probability in best]
            print("\n".join([str(path), *lines]), flush=True)
    if not options.json:
        print(f"{len(paths) - failed} labelled, {failed} failed; took {time.monotonic() - begun:.1f} s")
        folder = next((named for named in options.files if named.is_dir()), None)
        if failed and folder is not None:
            print(f"next: dualformer check {folder}   (every file that does not decode, and why)")
        else:
            print(f"next: dualformer evaluate {options.weights} --data DATA   (how often is it right?)")
    return 1 if failed else 0


def _table(options: Options, out: Path) -> int:
    from dualformer.inference.ray_cluster import Recipe

    recipe = Recipe(
        kind="labels",
        weights=options.weights,
        top=options.top,
        views=options.views,
        device=options.device,
        precision=options.chosen_precision,
        compile_mode=options.compile_mode,
    )
    return run_folder(
        out,
        options.files,
        recipe,
        ray=options.ray,
        actors=options.actors,
        fresh=options.fresh,
        retry=options.retry,
        json=options.json,
    )


def _timelines(options: Options) -> int:
    from dualformer.cli._timeline import Settings, run_timelines

    settings = Settings(
        window=options.window,
        hop=options.hop,
        threshold=0.5 if options.threshold is None else options.threshold,
        shortest=options.shortest,
        background=options.background,
        burn=options.burn,
    )
    return run_timelines(
        named_files(options.files),
        options.weights,
        options.out or Path("timeline"),
        settings,
        views=options.views,
        computing=options,
        json=options.json,
    )
