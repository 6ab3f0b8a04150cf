"""``dualformer predict``: label video and image files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILES…")]
    """Video or image files; a folder stands for all of them in it, however deep. An image is a video of one frame."""
    weights: str
    """A weights file, a folder with model.safetensors, or a hub id (owner/name)."""
    top: int = 5
    """Classes to name for each file."""
    views: str = "4x1"
    """Views of each video, clips x crops (1 or 3 crops); their probabilities are averaged."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda, cuda:1, …"""
    json: bool = False
    """Print one JSON object per file, and nothing else."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"--top must be at least 1, not {self.top}")
        if not self.files:
            raise ValueError("name at least one video, image or folder")


def run(options: Options) -> int:
    import json
    import sys
    import time

    from dualformer.datasets.files import find_videos
    from dualformer.inference.recognizer import Recognizer
    from dualformer.video.decode import VideoError

    recognizer = Recognizer.load(options.weights, device=options.device, views=options.views)
    paths = [path for named in options.files for path in (find_videos(named) if named.is_dir() else [named])]
    paths = list(dict.fromkeys(paths))
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
