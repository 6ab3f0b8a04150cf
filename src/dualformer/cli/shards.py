"""``dualformer shards``: the videos of a data set into tar files."""

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dualformer.cli.shared_options import Json, SplitOptions, arguments, bad_files, must, rows
from dualformer.training.settings.data_settings import DataSettings


@dataclass(frozen=True, kw_only=True)
class Options(SplitOptions):
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """What `dualformer train --data` takes: a folder, a CSV file, segments, a benchmark, or other shards. What is
    validated on is decided here, and not when shards are trained on."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to make: train-000000.tar, …, val-000000.tar, …, and index.json. Upload it as it is."""
    size_mb: float = 256.0
    """Megabytes of a shard, about."""
    seed: int = 0
    """Of that split, and of the order in which the videos to train on lie in the shards."""
    background: str | None = None
    """Of segments of videos: a class made of what is unmarked between them, as `dualformer train --background`,
    which names it again."""
    background_share: float = DataSettings.background_share
    """Pieces of it, as a multiple of the mean number of segments a class."""
    frames_per_second: float | None = None
    """Starts and ends of segments that are whole numbers are frames at this rate (default: seconds, or 1:02.5)."""
    judge: bool = False
    """Write only what `dualformer evaluate` would take of the data, as the split test."""
    on: str | None = None
    """With --judge: rows of a CSV or benchmark, as in split=test."""
    json: Json = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.size_mb > 0:
            raise ValueError(f"--size-mb must be more than 0, not {self.size_mb}")
        if self.on and not self.judge:
            raise ValueError("--on says what to judge by: say --judge with it, or choose with --train-on and --val-on")
        if self.judge and (self.train_on or self.val_on):
            raise ValueError("--judge writes one list, chosen by --on: leave out --train-on and --val-on")
        if self.judge and self.background:
            raise ValueError("--background is a class to train and validate on: leave out --judge, or --background")
        if self.background_share != DataSettings.background_share and not self.background:
            raise ValueError("--background-share is of the pieces of --background: name that, or leave it out")
        must("be positive", self, "background_share", "frames_per_second")


def run(options: Options) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.datasets.benchmarks.find_benchmark import short_name
    from dualformer.datasets.shards.write_shards import write_shards
    from dualformer.datasets.splits import open_all_splits, open_videos

    if options.judge:
        videos = open_videos(
            options.data,
            on=rows(options.on),
            bad=bad_files(options.manifest),
            missing="wrong",
            frames_per_second=options.frames_per_second,
        )
        lists, how = {"test": videos}, videos.source
    else:
        of_segments = arguments(options, "background", "background_share", "frames_per_second")
        lists, how = open_all_splits(options.data, **options.split(), **of_segments)
    if not options.json:
        counts = ", ".join(f"{split} {len(videos)}" for split, videos in lists.items())
        print(f"data: {how}")
        print(f"writing {counts} of them into shards of about {options.size_mb:g} MB in {options.out}", flush=True)
    begun = time.monotonic()
    with (
        Progress("writing", "MB written", quiet=options.json) as progress,
        progress.goes_on("with the shards that are still to be written"),
    ):
        written = write_shards(
            lists,
            options.out,
            made_from=short_name(options.data),
            size=round(options.size_mb * 1e6),
            seed=options.seed,
            progress=lambda done, total: progress.show(done // 10**6, max(1, total // 10**6)),
        )
    seconds = time.monotonic() - begun
    if options.json:
        result = {"index": str(written.index), "shards": written.shards, "found": written.found}
        result |= {"samples": dict(written.samples), "bytes": written.bytes, "seconds": round(seconds, 3)}
        print(json.dumps(result, indent=2))
        return 0
    found = f" ({written.found} of them were there already)" if written.found else ""
    print(f"{written.shards} shards{found}, {written.bytes / 1e6:.1f} MB; took {seconds:.1f} s")
    print(f"index: {written.index}")
    verb, out = "evaluate WEIGHTS" if options.judge else "train", shlex.quote(str(options.out))
    print(f"next: dualformer {verb} --data {out}   (the folder, or the URL that you upload it to)")
    return 0
