"""``dualformer teach``: what a teacher says of every video of a data set, written down for trainings to come."""

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dualformer.cli.shared_options import Device, Json, SplitOptions, Workers, decoding_processes, must, refuse_exported
from dualformer.plurals import counted

_OF_TOKENS, _OF_ENCODERS = ("topk",), ("unlabelled", "clips", "probe_folds")


@dataclass(frozen=True, kw_only=True)
class Options(SplitOptions):
    teacher: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="TEACHER")] = None
    """A weights file, a folder with model.safetensors, or a hub id (owner/name); its classes are those of the data. Not
    with --encoder."""
    encoder: str | None = None
    """In place of TEACHER a frozen video or image encoder of the library transformers, as a folder or a hub id:
    VideoMAE, V-JEPA 2, ViViT, TimeSformer, VideoPrism, SigLIP, SigLIP 2, DINOv3, DINOv2 or CLIP. A probe learns the
    classes from its features."""
    data: str
    """What `dualformer train --data` takes but rendered streams. The videos to train on are taught."""
    out: Path
    """Folder to write to. A call that was stopped goes on where it was."""
    topk: int = 5
    """Classes kept for each token: the most that --teacher-topk of a training can ask for."""
    unlabelled: Path | None = None
    """With --encoder: a folder of further videos, whose labels are not known. The probe labels and scores them, and
    labelled.csv in --out lists all videos to train on."""
    clips: int = 4
    """With --encoder: clips of each video, evenly spread, whose features are kept."""
    probe_folds: int = 4
    """With --encoder: parts of the videos to train on, each of which is scored by a probe that was trained on the
    others (1: by one that has seen them all)."""
    group: str | None = None
    """Which videos belong together, as in `dualformer train --group`."""
    device: Device = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in."""
    workers: Workers = None
    batch_size: int = 4
    """Clips that go through the network at a time."""
    json: Json = False

    def __post_init__(self) -> None:
        super().__post_init__()
        must("be at least 1", self, "topk", "batch_size", "clips", "probe_folds")
        must("be 0 or more", self, "workers")
        if (self.teacher is None) == (self.encoder is None):
            raise ValueError("give either the weights of a teacher or an `encoder`")
        for name in _OF_TOKENS if self.encoder else _OF_ENCODERS:
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"`{name}` is for {'a teacher of tokens' if self.encoder else 'an `encoder`'}")
        if self.data in ("rendered", "rendered-people", "rendered-hands"):
            remedy = "render files of it" if self.encoder else "train on it with --teacher"
            raise ValueError(f"--data {self.data} has no files, and no clip comes twice: {remedy}")


def run(options: Options) -> int:
    from dualformer.datasets.splits import open_splits
    from dualformer.inference.view_classifier import choose_device

    _check_teacher(options.teacher)
    device = choose_device(options.device)
    if options.encoder:
        from dualformer.encoders.frozen_encoder import encoder_folder, import_transformers

        import_transformers()  # the data may take longer to open
        encoder_folder(options.encoder)
    splits = open_splits(options.data, **options.split(), group=options.group)
    if not options.json:
        print(f"data: {splits.description}", flush=True)
    return (_by_encoder if options.encoder else _by_tokens)(options, splits, device)


def _check_teacher(teacher: str | None) -> None:
    """Raises an error for a teacher that is not there, or is an encoder, before the data are opened."""
    from dualformer.weights.locate import CARD_FILE, find_local_weights

    if teacher is None:
        return
    refuse_exported(teacher, "scores whole clips only: teach with")
    if (Path(teacher) / CARD_FILE).is_file():
        from dualformer.encoders.frozen_encoder import is_encoder

        if is_encoder(Path(teacher)):
            raise ValueError(f"{teacher}: an encoder of transformers, and no weights of this package: give `encoder`")
    find_local_weights(teacher)


def _by_tokens(options: Options, splits: Any, device: Any) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.training.write_teacher_scores import write_scores
    from dualformer.weights.safetensors_file import load_weights

    assert options.teacher
    model, card = load_weights(options.teacher, device=device)
    pre = card.preprocessing
    if not options.json:
        side = "short" if pre.crop_mode == "center" else "long"
        print(
            f"teacher: {options.teacher}, {card.config.num_classes} classes; clips of {counted(pre.frames, 'frame')} "
            f"one after the other, frames uncut, {pre.resize} pixels on the {side} side; computing on {device} in "
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
        return _print_json(taught, options)
    found = f" ({taught.found} of them were scored already)" if taught.found else ""
    print(
        f"{counted(taught.videos, 'video')} scored{found}, {counted(taught.clips, 'clip')}; "
        f"{taught.bytes / 1e6:.1f} MB written to {options.out}; took {taught.seconds:.1f} s"
    )
    return _print_next(taught, options, options.data, _split_options(options))


def _by_encoder(options: Options, splits: Any, device: Any) -> int:
    from dualformer.cli.progress import Progress
    from dualformer.encoders.frozen_encoder import open_encoder
    from dualformer.encoders.teach_from_encoder import LABELLED, teach_from_encoder

    assert options.encoder
    further = _videos_in(options.unlabelled) if options.unlabelled else []
    encoder = open_encoder(options.encoder)
    if not options.json:
        t, h, w = encoder.grid
        print(
            f"encoder: {options.encoder}; {options.clips} clips a video of {encoder.preprocessing.describe()}; "
            f"{t}x{h}x{w} tokens of {encoder.width} features; computing on {device} in {options.precision}",
            flush=True,
        )
    with Progress("teaching", "videos have features", quiet=options.json) as progress:
        with progress.goes_on("with the videos that have no features yet"):
            taught = teach_from_encoder(
                encoder,
                splits.train,
                splits.val,
                options.out,
                unlabelled=further,
                clips=options.clips,
                folds=options.probe_folds,
                seed=options.seed,
                at_once=options.batch_size,
                workers=decoding_processes(options.workers),
                device=device,
                precision=options.precision,
                progress=progress.show,
            )
        for error in taught.bad:
            progress.say(str(error))
    if options.json:
        return _print_json(taught, options)
    found = f" ({taught.found} of them were there already)" if taught.found else ""
    print(f"features of {counted(taught.videos, 'video')}{found}; {taught.figures.text}")
    parts = taught.figures.folds
    how = f"{parts} probes that had not seen them, which are" if parts > 1 else "the probe itself, which is"
    again = "" if taught.trained else "; probes and scores were there already"
    print(f"videos to train on are scored by {how} right on {taught.figures.unseen:.1%}{again}")
    if not taught.labelled:
        return _print_next(taught, options, options.data, f" --distill clip{_split_options(options)}")
    table = options.out / LABELLED
    print(f"the probe labelled {counted(taught.labelled, 'further video')}: {table} lists them with the others")
    return _print_next(taught, options, str(table), " --distill clip")


def _videos_in(folder: Path) -> list[Any]:
    """Returns the videos of a folder, however deep, without labels."""
    from dualformer.datasets.media_tree import walk_media
    from dualformer.datasets.samples import Sample

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder of videos without labels (`unlabelled`)")
    if not (files := walk_media(folder).files):
        raise ValueError(f"`unlabelled={folder}` holds no videos")
    return [Sample(path=path, label=0) for path in files]


def _print_json(taught: Any, options: Options) -> int:
    result = asdict(taught) | {"bad": [str(error) for error in taught.bad], "out": str(options.out)}
    print(json.dumps(result, indent=2))
    return 1 if taught.bad else 0


def _print_next(taught: Any, options: Options, data: str, more: str) -> int:
    if taught.bad:
        print(
            f"{counted(len(taught.bad), 'video')} cannot be read: leave them out by --manifest, see dualformer "
            "check --help"
        )
    out = shlex.quote(str(options.out))
    print(f"next: dualformer train --data {shlex.quote(data)} --teacher-scores {out}{more}")
    return 1 if taught.bad else 0


def _split_options(options: Options) -> str:
    """Returns the options by which a training has the same split."""
    names = ("train_on", "val_on", "val_fraction", "seed", "manifest", "group")
    given = {name: getattr(options, name) for name in names if getattr(options, name) != getattr(Options, name, None)}
    return "".join(f" --{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in given.items())
