"""``dualformer check``: decode every file of a data set, and write down which ones are bad."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from dualformer.datasets.files import Verdict


@dataclass(frozen=True, kw_only=True)
class Options:
    data: tyro.conf.Positional[Path]
    """A folder (searched for video files all the way down), a CSV file with a column path, or one video file."""
    out: Path = Path("manifest.csv")
    """Where the verdicts are written (CSV)."""
    workers: int | None = None
    """Processes that decode at the same time; one per core if not given."""
    seconds: float = 60.0
    """A file that takes longer than this to decode is bad."""
    json: bool = False
    """Print the result as JSON, and nothing else."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"--seconds must be positive, not {self.seconds}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--workers must be at least 1, not {self.workers}")


def run(options: Options) -> int:
    import time

    from dualformer.cli._progress import Progress
    from dualformer.datasets.check import check_videos, find_videos, write_manifest

    paths = find_videos(options.data)
    if not options.out.parent.is_dir():
        raise FileNotFoundError(f"no such folder for --out: {options.out.parent}")
    if not options.json:
        print(
            f"checking {len(paths)} files of {options.data}: decodes every frame, {options.seconds:g} s a file at most"
        )
    begun = time.monotonic()
    with Progress("decoding", "checked", quiet=options.json) as progress:
        done = 0

        def show(verdict: Verdict) -> None:
            nonlocal done
            done += 1
            if not verdict.ok:
                progress.say(f"bad: {verdict.path}: {verdict.reason}")
            progress.show(done, len(paths))

        verdicts = check_videos(paths, seconds_limit=options.seconds, workers=options.workers, progress=show)
    seconds = time.monotonic() - begun
    write_manifest(options.out, verdicts)
    bad = [verdict for verdict in verdicts if not verdict.ok]
    if options.json:
        import json

        listed = [{"path": str(v.path), "reason": v.reason} for v in bad]
        result = {
            "checked": len(verdicts),
            "good": len(verdicts) - len(bad),
            "bad": listed,
            "seconds": round(seconds, 3),
        }
        print(json.dumps({**result, "manifest": str(options.out)}, indent=2))
        return 1 if bad else 0
    good = [verdict for verdict in verdicts if verdict.ok]
    length = sum(verdict.duration for verdict in good)
    frames = sum(verdict.frames for verdict in good)
    print(f"{len(good)} good ({frames} frames, {length:.1f} s of video), {len(bad)} bad; took {seconds:.1f} s")
    print(f"verdicts: {options.out}")
    trainable = options.data.is_dir() or options.data.suffix.lower() == ".csv"
    if bad and trainable:
        print(f"next: dualformer train --data {options.data} --manifest {options.out}   (leaves the bad files out)")
    elif trainable:
        print(f"next: dualformer train --data {options.data}")
    return 1 if bad else 0
