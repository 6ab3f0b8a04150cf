"""``dualformer convert``: a released ``.pth`` checkpoint becomes a weights file with labels and preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    """The released file, what it was trained on, and where the result goes."""

    release: tyro.conf.Positional[Path]
    """The released checkpoint, a .pth file."""
    out: tyro.conf.Positional[Path]
    """The weights file to write, such as tiny-k400.safetensors."""
    preprocessing: Literal["kinetics", "transfer"]
    """What the network was trained on: kinetics (Kinetics-400 and -600), or transfer (Diving-48, HMDB-51 and UCF-101,
    which have another mean and standard deviation)."""
    preset: str | None = None
    """The model that the file should be, such as dualformer_tiny; any other is then an error."""
    clip: str | None = None
    """Frames x height x width that the file was trained with; only needed where its kernels cannot tell."""
    labels: Path | None = None
    """Class names, one a line, in the classifier's order. Without it classes are called 0, 1, 2, …"""
    licence: str = "unknown"
    """Terms of use to write into the file."""
    provenance: str | None = None
    """Where the weights come from, to write into the file; by default the name and SHA-256 of the checkpoint."""


def run(options: Options) -> int:
    from dualformer.model.config import parse_clip
    from dualformer.weights.keys import times
    from dualformer.weights.labels import read_labels
    from dualformer.weights.native import save_weights
    from dualformer.weights.release import convert_release, matching_presets, release_card

    labels = read_labels(options.labels) if options.labels else None
    clip = parse_clip(options.clip) if options.clip else None
    print(f"reading {options.release}")
    model, config = convert_release(options.release, preset=options.preset, clip=clip)
    card = release_card(
        options.release,
        config,
        trained_on=options.preprocessing,
        labels=labels,
        licence=options.licence,
        provenance=options.provenance,
    )
    print(f"  widths, depths and scales of {', '.join(matching_presets(config)) or 'no preset'}")
    print(f"  {config.num_classes} classes{'' if labels else ', called by their numbers: no --labels given'}")
    source = "as you say" if clip else "by its kernels"
    print(f"  clips of {times(config.clip)} ({source}), one frame in {card.preprocessing.stride}")
    for number, stage in enumerate(config.stages, 1):
        grids = " and ".join(times(scale.grid) for scale in stage.scales) or "none, attends to all tokens"
        print(f"  stage {number}: {stage.channels} channels, {stage.depth} blocks, pyramid grids {grids}")
    save_weights(options.out, model, card)
    print(f"weights: {options.out} ({options.out.stat().st_size / 1e6:.1f} MB)")
    print(f"next: dualformer info {options.out}")
    print(f"      dualformer predict VIDEO --weights {options.out}")
    return 0
