"""Fits the pyramids of the standard layout to those of the exact one, on pictures and videos without labels.

Both networks see the same pictures. Wherever a pyramid stands, the tokens behind its attention shall be those of the
exact network. Only the pyramids learn, with the projections of their priors to keys and values: a depth-wise kernel
does not mix channels as a full one does, and the projection makes up for it. Each learns from its own tokens, so that
no gradient goes from block to block and a step costs little more than both forward passes. What earlier pyramids get
wrong, later ones see.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.errors import DualFormerError
from dualformer.model.attention import PyramidAttention
from dualformer.model.block import SubBlock
from dualformer.model.network import DualFormer, StageLayers
from dualformer.training.optimizer import schedule
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import Views, read_views_or_error
from dualformer.video.container import VideoError
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

_HELD_OUT = 5
"""One file in so many is not trained on, and shows the agreement."""
_MOST_SHOWN = 256
_CACHE_BYTES = 2 * 10**9
_UNLABELLED = "unlabelled"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How alike two networks answer for the same pictures."""

    files: int
    """That the pictures are of, which may be several of each."""
    cosine: float
    """Of their features, on average."""
    same_label: float | None
    """The part of the pictures that they call the same; None without a classifier."""

    def __str__(self) -> str:
        labels = "" if self.same_label is None else f", the same label for {self.same_label:.1%}"
        return f"cosine of the features {self.cosine:.3f}{labels}"


def fit_pyramids(
    standard: DualFormer,
    exact: DualFormer,
    pre: Preprocessing,
    files: Sequence[Path],
    *,
    fit_steps: int = 400,
    batch_size: int = 16,
    lr: float = 3e-3,
    workers: int = 0,
    seed: int = 0,
    log: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Agreement, Agreement]:
    """Trains the pyramids of ``standard``, with the projections of their priors, in place, to give what those of
    ``exact`` give: networks of images on the same device, with ``pre`` for their input.

    ``files`` are pictures and videos, of which single frames are taken. One in five is left out, for the agreement
    before and after, which is returned; of one file alone, the same file shows it. ``fit_steps`` have ``batch_size``
    pictures each; AdamW's rate falls from ``lr`` to 0 along a cosine. ``workers`` processes decode. ``log`` gets a line
    on files that do not decode. Errors: ``ValueError`` for networks that have no such pyramids, numbers below 1 and no
    files.
    """
    if min(fit_steps, batch_size) < 1:
        raise ValueError(f"`fit_steps` and `batch_size` must be at least 1, not {fit_steps} and {batch_size}")
    if not files:
        raise ValueError("there are no pictures and videos to fit on")
    pairs = dict(zip(_pyramid_blocks(standard), _pyramid_blocks(exact), strict=True))
    if pre.frames != 1 or not pairs:
        raise ValueError("pyramids are fitted between networks of images, one of which has the standard layout")
    order = np.random.default_rng(seed).permutation(len(files)).tolist()
    shown = order[: max(1, len(order) // _HELD_OUT)]
    learnt = order[len(shown) :] or shown
    views = _held_out(files, shown, pre, log)
    held_out = torch.cat(views)
    before = agreement(standard, exact, held_out, pre, files=len(views))
    learning = [parameter for block in pairs for part in _learning(block) for parameter in part.parameters()]
    required = {parameter: parameter.requires_grad for parameter in standard.parameters()}
    try:
        standard.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)
        for block in pairs:
            _learning(block)[0].train()
        optimizer = torch.optim.AdamW(learning, lr=lr, weight_decay=0.0)
        device = standard.norm.weight.device
        clips = TrainingClips(
            _list(files, learnt),
            pre,
            seed=seed,
            augmentation=Augmentation(flip=0.5, area=(0.35, 1.0)),
            cache_bytes=_CACHE_BYTES,
        )
        for step, pictures in enumerate(_batches(clips, fit_steps, batch_size, seed=seed, workers=workers, log=log), 1):
            for group in optimizer.param_groups:
                group["lr"] = lr * schedule(step - 1, steps=fit_steps, warmup=fit_steps // 20)
            loss = _difference(standard, exact, normalize(pictures.to(device), pre))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if progress is not None:
                progress(step, fit_steps)
    finally:
        for parameter, wanted in required.items():
            parameter.requires_grad_(wanted)
        standard.eval()
    return before, agreement(standard, exact, held_out, pre, files=len(views))


@torch.no_grad()
def agreement(
    one: DualFormer, other: DualFormer, pictures: Tensor, pre: Preprocessing, *, files: int | None = None
) -> Agreement:
    """Returns how alike two networks of images answer for uint8 ``pictures`` (n, 1, H, W, 3), of so many ``files``
    (default: one each)."""
    cosines, same = list[float](), list[float]()
    for part in pictures.split(16):
        video = normalize(part.to(one.norm.weight.device), pre)
        features = [network.forward_features(video) for network in (one, other)]
        pooled = [
            network.forward_head(each, pre_logits=True) for network, each in zip((one, other), features, strict=True)
        ]
        cosines += F.cosine_similarity(pooled[0], pooled[1]).tolist()
        if one.config.num_classes:
            labels = [network.head(each).argmax(1) for network, each in zip((one, other), pooled, strict=True)]
            same += (labels[0] == labels[1]).float().tolist()
    return Agreement(
        files=len(pictures) if files is None else files,
        cosine=float(np.mean(cosines)),
        same_label=float(np.mean(same)) if same else None,
    )


def _difference(standard: DualFormer, exact: DualFormer, pictures: Tensor) -> Tensor:
    """Returns how far the tokens behind each pyramid's attention are from those of the exact network, relative to what
    its attention adds, on average."""
    differences: list[Tensor] = []
    x = y = pictures
    for own, others in zip(standard.stages, exact.stages, strict=True):
        assert isinstance(own, StageLayers) and isinstance(others, StageLayers)
        with torch.no_grad():
            x, y = own.make_tokens(x), others.make_tokens(y)
        for layer, other in zip(own.layers(), others.layers(), strict=True):
            if isinstance(layer, SubBlock) and _has_pyramid(layer):
                assert isinstance(other, SubBlock)
                with torch.no_grad():
                    added = other.attn(other.norm1(y))
                    wanted = y + added
                attended = x + layer.attn(layer.norm1(x))
                differences.append((attended - wanted).square().mean() / added.square().mean().clamp(min=1e-12))
                with torch.no_grad():
                    x = attended.detach()
                    x, y = x + layer.mlp(layer.norm2(x)), wanted + other.mlp(other.norm2(wanted))
            else:
                with torch.no_grad():
                    x, y = layer(x), other(y)
        x, y = x.permute(0, 4, 1, 2, 3), y.permute(0, 4, 1, 2, 3)
    return torch.stack(differences).mean()


def _pyramid_blocks(model: DualFormer) -> list[SubBlock]:
    return [module for module in model.modules() if isinstance(module, SubBlock) and _has_pyramid(module)]


def _has_pyramid(block: SubBlock) -> bool:
    return isinstance(block.attn, PyramidAttention) and block.attn.pyramid is not None


def _learning(block: SubBlock) -> tuple[nn.Module, nn.Module]:
    """Returns the pyramid of a block, and the projection of its priors to keys and values."""
    assert isinstance(block.attn, PyramidAttention) and block.attn.pyramid is not None
    return block.attn.pyramid, block.attn.kv


def _list(files: Sequence[Path], chosen: Sequence[int]) -> VideoList:
    samples = tuple(Sample(path=files[index], label=0) for index in chosen)
    return VideoList(classes=(_UNLABELLED,), samples=samples, source=_UNLABELLED)


def _held_out(
    files: Sequence[Path], shown: Sequence[int], pre: Preprocessing, log: Callable[[str], None]
) -> list[Tensor]:
    """Returns views of each file that is left out, uint8 (n, 1, H, W, 3), as for a test; of few files four each."""
    several = Views(1 if len(shown) > _MOST_SHOWN // 4 else 4, 1)
    views: list[Tensor] = []
    for index in shown[: _MOST_SHOWN // several.clips]:
        read = read_views_or_error(files[index], pre, several)
        if isinstance(read, VideoError):
            log(f"left out: {read}")
        else:
            views.append(read.views)
    if not views:
        raise DatasetError(f"{files[shown[0]]}: no picture or video that is left out for the agreement can be read")
    return views


def _batches(
    clips: TrainingClips,
    steps: int,
    batch_size: int,
    *,
    seed: int,
    workers: int,
    log: Callable[[str], None],
) -> Iterator[Tensor]:
    """Yields uint8 pictures (B, 1, H, W, 3) of as many batches as there are steps."""
    told: set[str] = set()

    def left_out(error: DualFormerError) -> None:
        if str(error) not in told:
            told.add(str(error))
            log(f"left out: {error}")

    batch_size = min(batch_size, len(clips))
    sampler = EpochSampler(len(clips), seed=seed)
    options: dict[str, Any] = {"sampler": sampler, "batch_size": batch_size, "drop_last": True, "num_workers": workers}
    batches = Batches(clips, left_out=left_out, **options)
    done, epoch = 0, 0
    while done < steps:
        sampler.at(epoch)
        for batch in batches:
            yield batch["clip"]
            done += 1
            if done == steps:
                return
        epoch += 1
