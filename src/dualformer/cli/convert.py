"""``dualformer convert``: a released ``.pth`` checkpoint becomes a weights file; weights are cut for another clip."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from dualformer.model.network import DualFormer
    from dualformer.weights.card import Card

#: Options that say what a released checkpoint cannot say of itself, and a weights file does.
_OF_RELEASES = ("preprocessing", "preset", "labels", "licence", "provenance")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is converted, what it cannot say of itself, and where the result goes."""

    weights: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="WEIGHTS")]
    """A released checkpoint (.pth); or a weights file, a folder with one, or a hub id, to be cut for another --clip: it
    is resampled, or inflated if it is a network of images and the clip has several frames."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """The weights file to write, such as tiny-k400.safetensors."""
    clip: str | None = None
    """Frames x height x width. Of a released checkpoint: what it was trained with, needed only where its kernels cannot
    tell. Of a weights file: the clip to cut it for, as 16x224x224."""
    stride: int | None = None
    """Weights files only: distance between two frames of the new clip; by default as before, and 2 where a network of
    images is inflated."""
    preprocessing: Literal["kinetics", "transfer"] | None = None
    """Released checkpoints only, and needed there: what the network was trained on, kinetics (Kinetics-400 and -600) or
    transfer (Diving-48, HMDB-51 and UCF-101, which have another mean and standard deviation)."""
    preset: str | None = None
    """Released checkpoints only: the model that the file should be, such as dualformer_tiny; any other is an error."""
    labels: Path | None = None
    """Released checkpoints only: class names, one a line, in the classifier's order. Without it classes are called
    0, 1, 2, …"""
    licence: str | None = None
    """Released checkpoints only: terms of use to write into the file (default: unknown)."""
    provenance: str | None = None
    """Released checkpoints only: where the weights come from, to write into the file; by default the name and SHA-256
    of the checkpoint."""


def run(options: Options) -> int:
    from dualformer.weights.errors import size_text
    from dualformer.weights.locate import is_checkpoint
    from dualformer.weights.safetensors_file import save_weights

    print(f"reading {options.weights}")
    model, card = _convert(options) if is_checkpoint(options.weights) else _recut(options)
    for number, stage in enumerate(card.config.stages, 1):
        grids = " and ".join(size_text(scale.grid) for scale in stage.scales) or "none, attends to all tokens"
        print(f"  stage {number}: {stage.channels} channels, {stage.depth} blocks, pyramid grids {grids}")
    save_weights(options.out, model, card)
    print(f"weights: {options.out} ({options.out.stat().st_size / 1e6:.1f} MB)")
    out = shlex.quote(str(options.out))
    print(f"next: dualformer info {out}")
    print(f"next: dualformer predict VIDEO --weights {out}")
    return 0


def _convert(options: Options) -> tuple[DualFormer, Card]:
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
    labels = read_labels(options.labels) if options.labels else None
    clip = parse_clip(options.clip) if options.clip else None
    model, config, released = convert_release(options.weights, preset=options.preset, clip=clip)
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
    from dualformer.model.config import parse_clip
    from dualformer.weights.errors import size_text
    from dualformer.weights.resize_clip import resize_clip
    from dualformer.weights.safetensors_file import load_weights

    if given := [f"--{name}" for name in _OF_RELEASES if getattr(options, name) is not None]:
        raise ValueError(
            f"{', '.join(given)}: only for released checkpoints (.pth), and {options.weights} is none: a weights file "
            "says this itself"
        )
    if options.clip is None:
        raise ValueError(f"{options.weights}: say what to cut these weights for, such as --clip 16x224x224")
    model, card = load_weights(options.weights)
    before = card.config.clip
    model, card, notes = resize_clip(model, card, parse_clip(options.clip), stride=options.stride)
    print(f"  clips of {size_text(before)} → {size_text(card.config.clip)}{'' if notes else ': nothing to change'}")
    for note in notes:
        print(f"  {note}")
    return model, card
