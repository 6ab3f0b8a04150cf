"""``dualformer check``: decode every file of a data set, and write down which ones are bad."""

from __future__ import annotations

import json
import logging
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dualformer.cli.shared_options import Json, must

if TYPE_CHECKING:
    from dualformer.datasets.manifest import Verdict


_SHOWN = 10
"""Notes that are printed."""


@dataclass(frozen=True, kw_only=True)
class Options:
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """A folder (searched for videos and images all the way down), a CSV file with a column path, one file, or a
    benchmark as downloaded (kinetics400:PATH, kinetics600:, kinetics700:, ucf101:, ucf101@2: for split 2, hmdb51:,
    diving48:, ssv2:, list: for files of "path label"), a data set of another program (Parquet, LeRobot, …), or shards
    (their folder or URL): then checksums are compared as well."""
    out: Path = Path("manifest.csv")
    """Where the verdicts are written (CSV)."""
    workers: int | None = None
    """Processes that decode at the same time; one per core if not given."""
    seconds: float = 60.0
    """A file that takes longer than this to decode is bad."""
    frames: int = 16
    """Frames of a clip: videos with fewer are counted, for training repeats their last one. 16 are those of train."""
    frames_per_second: float | None = None
    """Of segments: starts and ends that are whole numbers are frames at this rate (default: seconds, or 1:02.5)."""
    fresh: bool = False
    """Decode every file. Otherwise those are left out that --out already calls good and that have not changed since."""
    json: Json = False

    def __post_init__(self) -> None:
        must("be positive", self, "seconds", "frames_per_second")
        must("be at least 1", self, "workers", "frames")


def run(options: Options) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.datasets.data_source import survey
    from dualformer.datasets.decode_check import check_into, journal_of
    from dualformer.datasets.manifest import write_manifest
    from dualformer.datasets.samples import first_few
    from dualformer.datasets.segments.segment_list import problems_of_segments
    from dualformer.datasets.shards.read_shards import damaged_shards, find_shards, mark_damaged
    from dualformer.files import lock_for_writing
    from dualformer.plurals import counted
    from dualformer.video.backend import decoder
    from dualformer.video.file_formats import is_image

    found = survey(options.data, frames_per_second=options.frames_per_second)
    paths = found.paths
    if not options.out.parent.is_dir():
        raise FileNotFoundError(f"no such folder for --out: {options.out.parent}")
    if not options.json:
        if found.description:
            print(f"data: {found.description}")
        if found.manifest_hash:
            print(f"manifest {found.manifest_hash}   (the same for equal names, classes and splits, wherever they lie)")
        print(
            f"checking {counted(len(paths), 'file')} of {options.data}: every frame is decoded, by {decoder()}, in "
            f"{options.seconds:g} s a file at most"
        )
    with lock_for_writing(options.out):  # one check at a time
        begun = time.monotonic()
        with Progress("decoding", "checked", quiet=options.json) as progress:
            done = 0

            def show(verdict: Verdict) -> None:
                nonlocal done
                done += 1
                if not verdict.ok:
                    progress.say(f"bad: {verdict.location}: {verdict.reason}")
                progress.show(done, len(paths))

            with progress.goes_on(f"from what {journal_of(options.out)} keeps"):
                checked = check_into(
                    options.out,
                    paths,
                    seconds_limit=options.seconds,
                    workers=options.workers,
                    fresh=options.fresh,
                    progress=show,
                )
        verdicts = checked.verdicts
        if place := find_shards(options.data):
            with Progress("reading shards", "shards read", quiet=options.json) as progress:
                damaged = damaged_shards(place, progress=progress.show)
            for file, reason in damaged.items():
                progress.say(f"bad: {place}/{file}: {reason}")
            verdicts = mark_damaged(verdicts, damaged)
            write_manifest(options.out, verdicts)
    lengths = {v.path: v.duration for v in verdicts if v.ok}
    wrong = problems_of_segments(options.data, lengths, frames_per_second=options.frames_per_second)
    seconds = time.monotonic() - begun
    bad = [verdict for verdict in verdicts if not verdict.ok]
    good = [verdict for verdict in verdicts if verdict.ok]
    short = [verdict for verdict in good if verdict.frames < options.frames and not is_image(verdict.path)]
    noted = [verdict for verdict in good if verdict.notes]
    if options.json:
        listed = [{"path": v.location, "reason": v.reason} for v in bad]
        result = {
            "checked": len(verdicts),
            "known": checked.kept,
            "good": len(verdicts) - len(bad),
            "bad": listed,
            "short": [{"path": v.location, "frames": v.frames} for v in short],
            "notes": [{"path": v.location, "notes": v.notes} for v in noted],
            "seconds": round(seconds, 3),
            "decoder": decoder(),
            "segments": wrong,
            "missing": [{"path": str(m.path), "listed": m.listed} for m in found.missing],
            "manifest_hash": found.manifest_hash,
        }
        print(json.dumps({**result, "manifest": str(options.out)}, indent=2))
        return 1 if bad or wrong else 0
    length = sum(verdict.duration for verdict in good)
    frames = sum(verdict.frames for verdict in good)
    missing = f", {len(found.missing)} missing" if found.missing else ""
    known = f" ({checked.kept} were known and have not changed)" if checked.kept else ""
    found_bad = f"{len(bad)} bad{missing}; took {seconds:.1f} s"
    print(f"{len(good)} good ({counted(frames, 'frame')}, {length:.1f} s of video){known}, {found_bad}")
    if short:
        named = first_few(f"{v.location} ({v.frames})" for v in short)
        print(
            f"{len(short)} shorter than a clip of {counted(options.frames, 'frame')}, which repeats their last one: "
            f"{named}"
        )
    for verdict in noted[:_SHOWN]:
        print(f"note: {verdict.location}: {verdict.notes}")
    if len(noted) > _SHOWN:
        print(f"note: {len(noted) - _SHOWN} more, in the column notes")
    for problem in wrong[:_SHOWN]:
        print(f"segment: {problem}")
    if len(wrong) > _SHOWN:
        print(f"segment: {len(wrong) - _SHOWN} more")
    print(f"verdicts: {options.out}")
    if found.trainable:
        print(_next(options, multi_label=found.multi_label, bad=bool(bad)))
    return 1 if bad or wrong else 0


def _next(options: Options, *, multi_label: bool, bad: bool) -> str:
    """Returns the command that trains on what is good, or why there is none."""
    from dualformer.datasets.samples import DatasetError
    from dualformer.datasets.splits import open_splits, read_bad_videos
    from dualformer.training.settings.train_config import TrainConfig

    words = ["dualformer", "train", "--data", options.data, *(["--multi-label"] if multi_label else [])]
    words += ["--manifest", str(options.out)] if bad else []
    rate = options.frames_per_second
    words += [] if rate is None else ["--frames-per-second", f"{rate:g}"]
    note = "   (leaves the bad files out)" if bad else ""
    log = logging.getLogger("dualformer")
    level = log.level
    log.setLevel(logging.ERROR)  # what is left out of a folder has been said
    try:
        left_out = read_bad_videos(options.out) if bad else ()
        splits = open_splits(options.data, bad=left_out, multi_label=multi_label, frames_per_second=rate)
    except (DatasetError, ValueError) as error:
        return f"it cannot be trained on yet: {error}"
    finally:
        log.setLevel(level)
    try:
        TrainConfig(data=options.data).flip_for(splits.train.classes)
    except ValueError:
        words += ["--flip", "off"]
        note = note or "   (or --flip on, where a mirrored video is of the same class)"
    return f"next: {shlex.join(words)}{note}"
