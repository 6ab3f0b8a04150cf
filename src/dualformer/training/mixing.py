"""Mixup and CutMix: the clips of a batch are mixed with one another, and their labels in the same parts.

What a batch looks like depends on (seed, epoch, number of the batch) and its clips alone, and not on how many ranks
share it. Each of ``world`` ranks holds every ``world``-th clip of the batch, and a clip's partner is the one that lies
half a batch further on. As long as a rank holds an even number, the partner of each is on the same rank, so that
nothing is sent around. The order of an epoch is random, and so are the partners.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch.nn import functional as F

from dualformer.training.objective import Batch
from dualformer.training.settings.mixing_settings import MixingSettings


@dataclass(frozen=True, kw_only=True)
class Mix:
    """One draw, for all clips of a batch."""

    share: float
    """The part of the mixture that is the clip itself."""
    centre: tuple[float, float] | None = None
    """CutMix: centre of the partner's box, as parts of height and width. None is mixup."""


def draw_mix(augmentation: MixingSettings, rng: np.random.Generator) -> Mix | None:
    """Draws how a batch is mixed; None leaves it as it is."""
    if not augmentation.mixes or rng.random() >= augmentation.mix_prob:
        return None
    cut = augmentation.cutmix > 0 and (augmentation.mixup == 0 or rng.random() < augmentation.switch_prob)
    alpha = augmentation.cutmix if cut else augmentation.mixup
    share = float(rng.beta(alpha, alpha))
    return Mix(share=share, centre=(float(rng.random()), float(rng.random())) if cut else None)


def mix_batch(
    batch: Batch, augmentation: MixingSettings, *, classes: int, seed: int, epoch: int, number: int, world: int = 1
) -> Batch:
    """Returns batch ``number`` of an epoch, mixed: ``clip``, ``target`` B classes (parts of each class, their sum is 1;
    of clips with several labels, their own targets mixed), and as ``label`` the class with the largest part. What a
    teacher said of the clips is mixed alike. A batch that is not to be mixed comes back as it is.

    Of ``world`` ranks each calls it for its own clips. ``ValueError`` where they cannot be paired.
    """
    check_pairs(len(batch["clip"]), world)
    # Another last number than those of an epoch's orders, and one more than that of a clip's draws.
    mix = draw_mix(augmentation, np.random.default_rng([seed, epoch, number, 3]))
    return batch if mix is None else apply_mix(batch, mix, classes)


def check_pairs(count: int, world: int = 1, repeats: int = MixingSettings.repeats) -> None:
    """``ValueError`` unless ``count`` clips on each of ``world`` ranks can be mixed, each with another video's."""
    if count * world < 2 * repeats:
        raise ValueError(f"`mixup` and `cutmix` need two videos in a batch: {2 * repeats} clips, not {count * world}")
    if world > 1 and count % 2:
        raise ValueError(f"`mixup` and `cutmix` need an even number of clips on each of {world} ranks, not {count}")


def apply_mix(batch: Batch, mix: Mix, classes: int) -> Batch:
    """Returns the batch with every clip mixed with the one half a batch further on."""
    clips, half = batch["clip"], len(batch["clip"]) // 2
    partners = clips.roll(-half, dims=0)
    share = mix.share
    if mix.centre is None:
        # One by one: as floats, a batch is four times as large.
        pairs = zip(clips, partners, strict=True)
        mixed = torch.stack([torch.lerp(b.float(), a.float(), share).round_().to(torch.uint8) for a, b in pairs])
    else:
        top, bottom, left, right = cut_box(mix, *clips.shape[2:4])
        mixed = clips.clone()
        mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (clips.shape[2] * clips.shape[3])
    labels = batch["target"] if "target" in batch else F.one_hot(batch["label"], classes).float()
    of_clips = {"target": labels} | {name: batch[name] for name in _OF_TEACHERS if name in batch}
    targets = {name: share * each + (1 - share) * each.roll(-half, dims=0) for name, each in of_clips.items()}
    return {**batch, **targets, "clip": mixed, "label": targets["target"].argmax(dim=1)}


_OF_TEACHERS = ("clip_target", "feature_target")


def cut_box(mix: Mix, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns top, bottom, left and right of the partner's box: ``1 - share`` of the frame, less what lies outside."""
    assert mix.centre is not None
    scale = sqrt(1 - mix.share)
    edges: list[int] = []
    for centre, length in zip(mix.centre, (height, width), strict=True):
        start = round(centre * length - scale * length / 2)
        edges += [max(0, start), min(length, start + round(scale * length))]
    return edges[0], edges[1], edges[2], edges[3]
