"""``dualformer teach``: what a teacher says of every token of a data set, written down for trainings to come."""

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dualformer.cli.shared_options import Device, Json, SplitOptions, Workers, decoding_processes, must


@dataclass(frozen=True, kw_only=True)
class Options(SplitOptions):
    teacher: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEACHER")]
    """A weights file, a folder with model.safetensors, or a hub id (owner/name); its classes are those of the data."""
    data: str
    """What `dualformer train --data` takes but rendered streams. The videos to train on are taught."""
    out: Path
    """Folder to write to. A call that was stopped goes on where it was."""
    topk: int = 5
    """Classes kept for each token: the most that --teacher-topk of a training can ask for."""
    device: Device = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in."""
    workers: Workers = None
    batch_size: int = 4
    """Clips that go through the network at a time."""
    json: Json = False

    def __post_init__(self) -> None:
        super().__post_init__()
        must("be at least 1", self, "topk", "batch_size")
        must("be 0 or more", self, "workers")
        if self.data in ("rendered", "rendered-people", "rendered-hands"):
            raise ValueError(f"--data {self.data} has no files, and no clip comes twice: train on it with --teacher")


def run(options: Options) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.datasets.splits import open_splits
    from dualformer.inference.view_classifier import choose_device
    from dualformer.training.write_teacher_scores import write_scores
    from dualformer.weights.safetensors_file import load_weights

    device = choose_device(options.device)
    splits = open_splits(options.data, **options.split())
    model, card = load_weights(options.teacher, device=device)
    pre = card.preprocessing
    if not options.json:
        side = "short" if pre.crop_mode == "center" else "long"
        print(f"data: {splits.description}")
        print(
            f"teacher: {options.teacher}, {card.config.num_classes} classes; clips of {pre.frames} frames one after "
            f"the other, frames uncut, {pre.resize} pixels on the {side} side; computing on {device} in "
            f"{options.precision}",
            flush=True,
        )
    with Progress("teaching", "videos scored", quiet=options.json) as progress:
        with progress.goes_on("with the videos that are still to be scored"):
            taught = write_scores(
                model,
                card,
                splits.train,
                options.out,
                teacher=options.teacher,
                topk=options.topk,
                at_once=options.batch_size,
                workers=decoding_processes(options.workers),
                precision=options.precision,
                progress=progress.show,
            )
        for error in taught.bad:
            progress.say(str(error))
    if options.json:
        result = asdict(taught) | {"bad": [str(error) for error in taught.bad], "out": str(options.out)}
        print(json.dumps(result, indent=2))
        return 1 if taught.bad else 0
    found = f" ({taught.found} of them were scored already)" if taught.found else ""
    print(
        f"{taught.videos} videos scored{found}, {taught.clips} clips; {taught.bytes / 1e6:.1f} MB written to "
        f"{options.out}; took {taught.seconds:.1f} s"
    )
    if taught.bad:
        print(f"{len(taught.bad)} videos cannot be read: leave them out by --manifest, see dualformer check --help")
    data, out = shlex.quote(options.data), shlex.quote(str(options.out))
    print(f"next: dualformer train --data {data} --teacher-scores {out}")
    return 1 if taught.bad else 0
