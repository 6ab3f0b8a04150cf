"""``dualformer teach``: what a teacher says of every token of a data set, written down for trainings to come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    teacher: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEACHER")]
    """A weights file, a folder with model.safetensors, or a hub id (owner/name); its classes are those of the data."""
    data: str
    """What `dualformer train --data` takes but "rendered". The videos to train on are taught."""
    out: Path
    """Folder to write to. A call that was stopped goes on where it was."""
    topk: int = 5
    """Classes kept for each token: the most that --teacher-topk of a training can ask for."""
    train_on: str | None = None
    """Rows of a CSV or benchmark to train on, as in split=train. This and the four below mean what they mean to
    `dualformer train`; give both the same."""
    val_on: str | None = None
    """Rows to validate on."""
    val_fraction: float = 0.2
    """Part of each class to validate on where the data has no split of its own."""
    seed: int = 0
    """Of that split."""
    manifest: Path | None = None
    """Manifest that `dualformer check` wrote: files it calls bad are left out."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda, cuda:1, …"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in."""
    workers: int | None = None
    """Processes that decode (default: one less than there are cores, at most 8)."""
    batch_size: int = 4
    """Clips that go through the network at a time."""
    json: bool = False
    """Print the result as JSON, and nothing else."""

    def __post_init__(self) -> None:
        for name in ("topk", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        for name in ("workers", "seed"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"--{name} must be 0 or more, not {value}")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"--val-fraction must lie between 0 and 1, not {self.val_fraction}")
        if self.data == "rendered":
            raise ValueError("--data rendered has no files, and no clip comes twice: train on it with --teacher")


def run(options: Options) -> int:
    import dataclasses
    import json
    import os

    from dualformer.cli._progress import Progress
    from dualformer.datasets.splits import open_splits, parse_where, read_bad
    from dualformer.inference.device import choose_device
    from dualformer.training.write_scores import write_scores
    from dualformer.weights.safetensors_file import load_weights

    device = choose_device(options.device)
    splits = open_splits(
        options.data,
        train_on=parse_where(options.train_on) if options.train_on else None,
        val_on=parse_where(options.val_on) if options.val_on else None,
        val_fraction=options.val_fraction,
        seed=options.seed,
        bad=read_bad(options.manifest) if options.manifest else set(),
    )
    model, card = load_weights(options.teacher, device=device)
    pre = card.preprocessing
    if not options.json:
        print(f"data: {splits.how}")
        print(
            f"teacher: {options.teacher}, {card.config.num_classes} classes; clips of {pre.frames} frames one after "
            f"the other, frames uncut with a short side of {pre.resize} pixels; computing on {device} in "
            f"{options.precision}",
            flush=True,
        )
    default = max(1, min(8, (os.cpu_count() or 1) - 1))
    with Progress("teaching", "videos scored", quiet=options.json) as progress:
        try:
            taught = write_scores(
                model,
                card,
                splits.train,
                options.out,
                teacher=options.teacher,
                topk=options.topk,
                at_once=options.batch_size,
                workers=default if options.workers is None else options.workers,
                precision=options.precision,
                progress=progress.show,
            )
        except KeyboardInterrupt:
            progress.say("stopped; the same command goes on with the videos that are still to be scored")
            raise
        for error in taught.bad:
            progress.say(str(error))
    if options.json:
        result = dataclasses.asdict(taught) | {"bad": [str(error) for error in taught.bad], "out": str(options.out)}
        print(json.dumps(result, indent=2))
        return 1 if taught.bad else 0
    found = f" ({taught.found} of them were scored already)" if taught.found else ""
    print(
        f"{taught.videos} videos scored{found}, {taught.clips} clips; {taught.bytes / 1e6:.1f} MB written to "
        f"{options.out}; took {taught.seconds:.1f} s"
    )
    if taught.bad:
        print(f"{len(taught.bad)} videos cannot be read: leave them out by --manifest, see dualformer check --help")
    print(f"next: dualformer train --data {options.data} --teacher-scores {options.out}")
    return 1 if taught.bad else 0
