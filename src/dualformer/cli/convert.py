"""``dualformer convert``: released and Twins-SVT checkpoints become weights files; weights are cut for another clip."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dualformer.cli.shared_options import Device, Workers, decoding_processes, refuse_exported
from dualformer.plurals import counted

if TYPE_CHECKING:
    from dualformer.model.network import DualFormer
    from dualformer.weights.card import Card

#: Options that say what a released checkpoint cannot say of itself, and a weights file does.
_OF_RELEASES = ("preprocessing", "preset", "labels", "licence", "provenance")
#: Of these, what a Twins-SVT checkpoint cannot say of itself either.
_OF_TWINS = ("labels", "licence", "provenance")

_OF_FITS = ("fit_steps", "device", "workers")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is converted, what it cannot say of itself, and where the result goes."""

    weights: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="WEIGHTS")]
    """A released checkpoint (.pth); ImageNet weights of Twins-SVT (.pth, .safetensors, a folder or a hub id, such as
    timm/twins_svt_small.in1k); or a weights file, a folder with one, or a hub id, to be cut for another --clip: it is
    resampled, or inflated if it is a network of images and the clip has several frames."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """The weights file to write, such as tiny-k400.safetensors."""
    layout: Literal["exact", "standard"] | None = None
    """Twins-SVT weights only: exact (the default) keeps all of them, with fine scales made by full convolutions;
    standard has the paper's pyramid, depth-wise and in stages 1 and 2 with a coarse scale, made anew."""
    fit: Path | None = None
    """With --layout standard: pictures and videos without labels (a file, a folder, or a CSV with a column path), on
    which the new pyramids, with their keys and values, learn to give what those of the exact layout give; the
    agreement before and after is printed."""
    fit_steps: int = 400
    """Steps of --fit, of 16 pictures each."""
    device: Device = "auto"
    workers: Workers = None
    clip: str | None = None
    """Frames x height x width. Of a released checkpoint: what it was trained with, needed only where its kernels cannot
    tell. Of a weights file and of Twins-SVT: the clip to cut it for, as 16x224x224."""
    stride: int | None = None
    """Not of released checkpoints: distance between two frames of the new clip; by default as before, and 2 where a
    network of images is inflated."""
    preprocessing: Literal["kinetics", "transfer"] | None = None
    """Released checkpoints only, and needed there: what the network was trained on, kinetics (Kinetics-400 and -600) or
    transfer (Diving-48, HMDB-51 and UCF-101, which have another mean and standard deviation)."""
    preset: str | None = None
    """Released checkpoints only: the model that the file should be, such as dualformer_tiny; any other is an error."""
    labels: Path | None = None
    """Not of weights files: class names, one a line, in the classifier's order. Without it classes are called 0, 1, 2,
    …, and 1,000 classes of Twins-SVT have ImageNet's names."""
    licence: str | None = None
    """Not of weights files: terms of use to write into the file (default: unknown)."""
    provenance: str | None = None
    """Not of weights files: where the weights come from, to write into the file; by default the name and SHA-256
    of the checkpoint."""

    def __post_init__(self) -> None:
        if self.fit is not None and self.layout != "standard":
            raise ValueError("--fit goes with --layout standard: the exact layout has nothing to learn")
        for name in _OF_FITS if self.fit is None else ():
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"`{name}` is for `fit`, which is not given")


def run(options: Options) -> int:
    refuse_exported(options.weights, "cannot be changed: convert")
    from dualformer.weights.errors import size_text
    from dualformer.weights.locate import CHECKPOINT_SUFFIXES, is_checkpoint
    from dualformer.weights.plain_state import load_checkpoint
    from dualformer.weights.safetensors_file import save_weights

    if options.out.suffix.lower() in CHECKPOINT_SUFFIXES:
        raise ValueError(
            f"{options.out}: what is written is no checkpoint but a weights file: name it "
            f"{options.out.with_suffix('.safetensors').name}"
        )
    print(f"reading {options.weights}")
    content: object = None
    if is_checkpoint(options.weights):
        loaded = load_checkpoint(Path(options.weights))
        content = {} if loaded is None else loaded
    if (twins := _twins(options, content)) is not None:
        model, card = _change(options, *twins)
    elif content is not None:
        model, card = _convert(options, content)
    else:
        model, card = _recut(options)
    for number, stage in enumerate(card.config.stages, 1):
        grids = " and ".join(size_text(scale.grid) for scale in stage.scales) or "none, attends to all tokens"
        print(f"  stage {number}: {stage.channels} channels, {stage.depth} blocks, pyramid grids {grids}")
    total = sum(parameter.numel() for parameter in model.parameters())
    without = total - sum(parameter.numel() for parameter in model.get_classifier().parameters())
    print(f"  {total / 1e6:.2f} M parameters, {without / 1e6:.2f} M without the classifier")
    save_weights(options.out, model, card)
    print(f"weights: {options.out} ({options.out.stat().st_size / 1e6:.1f} MB)")
    out = shlex.quote(str(options.out))
    print(f"next: dualformer info {out}")
    if card.config.num_classes:
        print(f"next: dualformer predict {'PICTURE' if card.config.clip[0] == 1 else 'VIDEO'} --weights {out}")
    return 0


def _twins(options: Options, content: object) -> tuple[DualFormer, Card] | None:
    """Returns the network of a Twins-SVT checkpoint and its card, None for any other file.

    ``content``: of a checkpoint that PyTorch wrote, None of a weights file.
    """
    from dualformer.weights.card import read_labels
    from dualformer.weights.locate import resolve_weights
    from dualformer.weights.safetensors_file import has_card, load_weights
    from dualformer.weights.twins import is_twins, twins_card, twins_network
    from dualformer.weights.wrapped_network import find_state

    if content is not None:
        path, state = Path(options.weights), find_state(content)
        if not isinstance(state, dict) or not is_twins(path, state):
            return None
        model, card = twins_network(path, state), twins_card(path, state)
    else:
        path = resolve_weights(options.weights)
        if has_card(path):
            return None
        model, card = load_weights(options.weights)
    if stray := _given(options, set(_OF_RELEASES) - set(_OF_TWINS)):
        raise ValueError(f"{', '.join(stray)}: only for released DualFormer checkpoints, and {path} is of Twins-SVT")
    labels = read_labels(options.labels) if options.labels else None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = replace(
        card,
        labels=labels or card.labels,
        licence=options.licence or card.licence,
        provenance=options.provenance or f"{card.provenance}, sha256 {digest}",
    )
    kept = "" if options.layout == "standard" else ", all of its weights kept"  # else what is made anew is printed
    names = "ImageNet's names" if card.config.num_classes == 1000 else "called by their numbers: no --labels given"
    print(
        f"  Twins-SVT: a network of images of 224x224{kept}; {card.config.num_classes} classes, "
        f"{'named by --labels' if labels else names}"
    )
    return model, card


def _fit(options: Options, pictures: Path, model: DualFormer, exact: DualFormer, card: Card) -> Card:
    """Fits the pyramids of ``model``, in place, to those of ``exact``; returns the card that says so."""
    from dualformer.cli.progress import Progress
    from dualformer.datasets.manifest import find_videos
    from dualformer.inference.view_classifier import choose_device
    from dualformer.training.fit_pyramids import fit_pyramids

    device, files = choose_device(options.device), find_videos(pictures)
    print(f"  fitting the pyramids on {counted(len(files), 'file')} of {pictures}, on {device}", flush=True)
    with Progress("fitting", "steps of the fit", quiet=False) as progress:
        before, after = fit_pyramids(
            model.to(device),
            exact.to(device),
            card.preprocessing,
            files,
            fit_steps=options.fit_steps,
            workers=decoding_processes(options.workers),
            log=progress.say,
            progress=progress.show,
        )
    model.cpu()
    were = "was" if before.files == 1 else "were"
    print(f"  agreement with the exact layout on {counted(before.files, 'file')} that {were} not trained on")
    print(f"    before: {before}")
    print(f"    after:  {after}")
    return replace(card, provenance=f"{card.provenance}; the pyramids fitted on {pictures.name}")


def _given(options: Options, names: Collection[str]) -> list[str]:
    return [f"--{name}" for name in _OF_RELEASES if name in names and getattr(options, name) is not None]


def _convert(options: Options, content: object) -> tuple[DualFormer, Card]:
    from dualformer.model.config import parse_clip
    from dualformer.weights.card import read_labels
    from dualformer.weights.errors import size_text
    from dualformer.weights.release import convert_release, matching_presets, release_card

    if options.preprocessing is None:
        raise ValueError(
            f"{options.weights}: a released checkpoint does not say what it was trained on; say it with "
            "--preprocessing kinetics or --preprocessing transfer"
        )
    if options.stride is not None:
        raise ValueError("--stride is for weights files; that of a released checkpoint follows from --preprocessing")
    if options.layout is not None:
        raise ValueError(f"--layout is for Twins-SVT weights: {options.weights} is a released DualFormer checkpoint")
    labels = read_labels(options.labels) if options.labels else None
    clip = parse_clip(options.clip) if options.clip else None
    model, config, released = convert_release(options.weights, content, preset=options.preset, clip=clip)
    card = release_card(
        options.weights,
        config,
        trained_on=options.preprocessing,
        released=released,
        labels=labels,
        licence=options.licence or "unknown",
        provenance=options.provenance,
    )
    print(f"  widths, depths and scales of {', '.join(matching_presets(config)) or 'no preset'}")
    print(f"  {config.num_classes} classes{'' if labels else ', called by their numbers: no --labels given'}")
    source = "as you say" if clip else "by its kernels"
    print(f"  clips of {size_text(config.clip)} ({source}), one frame in {card.preprocessing.stride}")
    return model, card


def _recut(options: Options) -> tuple[DualFormer, Card]:
    from dualformer.weights.safetensors_file import load_weights

    if given := _given(options, _OF_RELEASES):
        raise ValueError(
            f"{', '.join(given)}: only for released checkpoints (.pth), and {options.weights} is none: a weights file "
            "says this itself"
        )
    if options.clip is None and options.layout is None:
        raise ValueError(f"{options.weights}: say what to cut these weights for, such as --clip 16x224x224")
    return _change(options, *load_weights(options.weights))


def _change(options: Options, model: DualFormer, card: Card) -> tuple[DualFormer, Card]:
    """Returns a network and its card in the layout and for the clip that are asked for."""
    from dualformer.model.config import parse_clip
    from dualformer.weights.errors import size_text
    from dualformer.weights.layouts import is_exact, to_standard
    from dualformer.weights.resize_clip import resize_clip

    if options.layout == "exact" and not is_exact(card.config):
        raise ValueError(f"{options.weights}: --layout exact is for Twins-SVT weights, and what comes of them")
    if options.layout == "standard":
        exact = model
        model, card, notes = to_standard(exact, card)
        for note in notes:
            print(f"  {note}")
        if options.fit is not None:
            card = _fit(options, options.fit, model, exact, card)
    if options.clip is not None:
        before = card.config.clip
        model, card, notes = resize_clip(model, card, parse_clip(options.clip), stride=options.stride)
        print(f"  clips of {size_text(before)} → {size_text(card.config.clip)}{'' if notes else ': nothing to change'}")
        for note in notes:
            print(f"  {note}")
    elif options.stride is not None:
        raise ValueError("--stride goes with --clip")
    return model, card
