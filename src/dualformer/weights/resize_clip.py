"""Resizes a network's clip: resamples its weights, or inflates a network of images to one of videos."""

from dataclasses import replace

import torch

from dualformer.model.config import Config, Scale, Size3, Stage
from dualformer.model.network import DualFormer
from dualformer.weights.card import Card
from dualformer.weights.errors import size_text
from dualformer.weights.resample import Peg, is_image_network, resample_state

_PATCH_FRAMES, _WINDOW_FRAMES, _COARSE_CELLS = 2, 8, 4
"""Lengths along time in the presets."""


def inflate(model: DualFormer, clip: Size3, *, peg: Peg = "middle") -> DualFormer:
    """Returns a network of videos of ``clip`` (frames, height, width) that starts from the weights of one of images.

    Along time, patch and pyramid kernels are repeated and divided by their new length, and position tables are
    repeated, so that a static video gives the patch tokens and the priors of the image. The PEG's kernel goes into the
    middle one of its three frames. ``peg="spread"`` repeats and divides it as well: it then gives less on the first and
    last frame, where it sees padding, and GP-MSA carries that to all other frames.

    In GP-MSA every prior counts as often as its grid has cells in time. A static video gives the image's features
    exactly if these are the same for all scales of a stage, as in the presets for 16 frames. For 32 frames the fine
    scale has 8 and the coarse one 4, so that fine priors weigh twice as much as they do for an image.

    Errors: ``ValueError`` if the network is not one of images, or if ``clip`` is one frame.
    """
    if not is_image_network(model.config):
        raise ValueError(
            f"only a network of images is inflated, and this one is cut for clips of {size_text(model.config.clip)}; "
            "resize_clip resamples its weights for another clip"
        )
    if clip[0] < 2:
        raise ValueError(f"a video has at least 2 frames, not {clip[0]}: inflate to a clip such as 16x224x224")
    return _refitted(model, video_config(model.config, clip), peg=peg)[0]


def video_config(config: Config, clip: Size3) -> Config:
    """Returns the config that a network of images is inflated to: along time, it is as in the presets.

    Patches of 2 frames, windows of 8, pyramid grids of half as many cells as the stage's map has frames (of 4 for
    factorised scales). Everything else, so also the grids in space, is kept.
    """
    first, *rest = config.stages
    stages = (replace(first, patch=(_PATCH_FRAMES, *first.patch[1:])), *rest)
    maps = config.replace(stages=stages, clip=clip).map_sizes()
    return config.replace(
        stages=tuple(_in_time(stage, size[0]) for stage, size in zip(stages, maps, strict=True)), clip=clip
    )


def resize_clip(
    model: DualFormer, card: Card, clip: Size3, *, stride: int | None = None, peg: Peg = "middle"
) -> tuple[DualFormer, Card, list[str]]:
    """Returns a network and its card for clips of another size (frames, height, width), and a line for each change.

    A network of images is inflated if ``clip`` has several frames (`inflate`, into `video_config`). Any other keeps its
    grids, and gives for such clips what it gave before (see `resample`, also for ``peg``). Preprocessing follows the
    clip; ``stride`` is the new distance between frames (default: as before, and 2 for an inflated network). Figures
    that were measured with the old clip, and the settings of timelines where it lasted otherwise, are left out.
    Errors: ``ValueError`` for a clip or stride that is none, or a clip that is not square, which preprocessing would
    not make.
    """
    frames, height, width = clip
    if height != width:
        raise ValueError(f"a clip of {size_text(clip)} is not square, as preprocessing needs it")
    old = card.preprocessing
    inflated = is_image_network(card.config) and frames > 1
    config = video_config(card.config, clip) if inflated else card.config.replace(clip=clip)
    if stride is None:
        stride = 2 if inflated else old.stride
    preprocessing = replace(
        old,
        frames=frames,
        stride=stride,
        crop=height,
        resize=old.resize if old.crop == height else max(height, round(old.resize * height / old.crop)),
    )
    if config == card.config and preprocessing == old:
        return model, card, []
    model, notes = _refitted(model, config, peg=peg)
    if preprocessing != old:
        notes.append(f"preprocessing: {preprocessing.describe()} (it was {old.describe()})")
    if card.metrics:
        notes.append(f"figures left out, as they were measured with clips of {size_text(card.config.clip)}")
    timeline = card.timeline if (frames, stride) == (old.frames, old.stride) else None
    if timeline != card.timeline:
        notes.append("settings of timelines left out, as they were found with clips that last otherwise")
    verb = "inflated from a network of images" if inflated else "resampled from a network for clips"
    origin = f"{verb} of {size_text(card.config.clip)}"
    card = replace(
        card,
        config=config,
        preprocessing=preprocessing,
        metrics={},
        timeline=timeline,
        provenance=f"{origin}: {card.provenance}" if card.provenance else origin,
    )
    return model, card, notes


def _refitted(model: DualFormer, config: Config, *, peg: Peg) -> tuple[DualFormer, list[str]]:
    """Returns a copy with another config, in the same mode, on the same device and of the same types."""
    state, notes = resample_state(model.state_dict(), model.config, config, peg=peg)
    with torch.device("meta"):
        fitted = DualFormer(config, seed=0)
    fitted.load_state_dict({key: tensor.detach().clone() for key, tensor in state.items()}, assign=True)
    return fitted.train(model.training), notes


def _in_time(stage: Stage, frames: int) -> Stage:
    def in_time(scale: Scale) -> Scale:
        cells = _COARSE_CELLS if scale.factorised else max(1, frames // 2)
        return replace(scale, grid=(cells, *scale.grid[1:]))

    return replace(stage, window=(_WINDOW_FRAMES, *stage.window[1:]), scales=tuple(map(in_time, stage.scales)))
