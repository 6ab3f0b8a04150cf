"""A frozen network that says what is in the clips another one is trained on.

A teacher is no module: what holds it neither trains it, puts it into training mode, nor saves it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.errors import DualFormerError
from dualformer.model.config import Size3
from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize, resize
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_files import is_exported
from dualformer.weights.locate import resolve
from dualformer.weights.safetensors_file import load_weights

_MOST_NAMED = 3


class TeacherError(DualFormerError):
    """A teacher that cannot teach these clips or classes. The message names it and the remedy."""


class Taught(NamedTuple):
    """Logits of a batch in the order of the student's classes."""

    clip: Tensor
    """B C"""
    tokens: Tensor | None
    """B t h w C, where the teacher has tokens and was asked."""


class Teacher(ABC):
    """Says what is in clips. ``lines``: what to tell of it; ``digest``: of its file."""

    def __init__(self, name: str, digest: str) -> None:
        self.name, self.digest = name, digest
        self.lines: list[str] = []

    @abstractmethod
    def place(self, device: torch.device) -> None:
        """Moves it to the device on which clips will come."""

    @abstractmethod
    def __call__(self, clips: Tensor, *, tokens: bool) -> Taught:
        """Clips uint8 B T H W 3, on its device. Gives no gradients."""


class NetworkTeacher(Teacher):
    """A DualFormer with its card, in eval mode for good."""

    def __init__(
        self,
        model: DualFormer,
        card: Card,
        *,
        name: str,
        digest: str,
        classes: Sequence[str],
        clips: Preprocessing,
    ) -> None:
        super().__init__(name, digest)
        self.model = model.eval().requires_grad_(False)
        self.pre = card.preprocessing
        self._order, note = match_classes(card.labels, card.config.num_classes, classes, name)
        self.lines.append(f"teacher: {name}, {card.config.num_classes} classes{note}")
        if fitted := how_fitted(self.pre, clips):
            self.lines.append(f"teacher: {fitted}")

    def place(self, device: torch.device) -> None:
        self.model.to(device)

    @torch.no_grad()
    def __call__(self, clips: Tensor, *, tokens: bool) -> Taught:
        pre = self.pre
        features = self.model.forward_features(fit_clips(clips, pre, (pre.frames, pre.crop, pre.crop)))
        logits = self._in_order(self.model.forward_head(features))
        return Taught(logits, self._in_order(self.model.token_scores(features)) if tokens else None)

    def _in_order(self, scores: Tensor) -> Tensor:
        scores = scores.float()
        return scores if self._order is None else scores[..., self._order.to(scores.device)]


def open_teacher(path_or_hub_id: str, *, classes: Sequence[str], clips: Preprocessing, tokens: bool) -> Teacher:
    """The teacher for a student with these classes and ``clips``; ``tokens``: scores of tokens are wanted.

    Errors: ``FileNotFoundError``; ``WeightsError`` for a file that cannot be read; `TeacherError` for one with other
    classes; ``ValueError`` where an exported model is asked for tokens.
    """
    if is_exported(path_or_hub_id):
        if tokens:
            raise ValueError(
                f"--teacher {path_or_hub_id} is an exported model, which knows whole clips only: say --distill clip, "
                "or give the weights that it was made from"
            )
        from dualformer.training.exported_teacher import open_exported  # here: it loads what exports need

        return open_exported(Path(path_or_hub_id), classes=classes, clips=clips)
    path = resolve(path_or_hub_id)
    model, card = load_weights(path_or_hub_id)
    if not card.config.num_classes:
        raise TeacherError(f"{path_or_hub_id}: a network without a classifier teaches nothing: give one with classes")
    check_labels(card, path_or_hub_id)
    return NetworkTeacher(model, card, name=path_or_hub_id, digest=digest_of(path), classes=classes, clips=clips)


def check_labels(card: Card, teacher: str) -> None:
    """`TeacherError` where its classes do not share one label among them."""
    if card.multi_label:
        raise TeacherError(
            f"{teacher}: it was trained with --multi-label, and what is learnt are parts of one label: give weights of "
            "one label a video"
        )


def match_classes(names: Sequence[str], count: int, classes: Sequence[str], teacher: str) -> tuple[Tensor | None, str]:
    """For each of the student's ``classes`` its place among the teacher's ``count`` (None: they are the same), and a
    remark on it. A teacher without ``names`` must have as many classes; what else it knows is left out.

    Errors: `TeacherError`.
    """
    if not names:
        if count != len(classes):
            raise TeacherError(
                f"{teacher}: it gives scores of {count} classes, whose names it does not say, and the data has "
                f"{len(classes)}: take a teacher of the same classes"
            )
        return None, ", taken to be those of the data in the same order, as it does not name them"
    if unknown := [name for name in classes if name not in set(names)]:
        some = ", ".join(map(repr, unknown[:_MOST_NAMED]))
        more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
        raise TeacherError(
            f"{teacher}: it does not know {some}{more} of the {len(classes)} classes of the data: take a teacher that "
            "was trained on them"
        )
    if tuple(names) == tuple(classes):
        return None, ""
    place = {name: i for i, name in enumerate(names)}
    left_out = len(names) - len(classes)
    rest = f", {left_out} of them not in the data and left out" if left_out else ""
    return torch.tensor([place[name] for name in classes]), f" matched by name{rest}"


def fit_clips(clips: Tensor, pre: Preprocessing, size: Size3) -> Tensor:
    """Clips uint8 B T H W 3 → B 3 T' H' W' for a network that takes ``size``, normalised as ``pre`` says.

    Frames are repeated or left out evenly; pictures are resized, antialiased.
    """
    frames, height, width = clips.shape[1:4]
    if frames != size[0]:
        clips = clips[:, frame_places(frames, size[0])]
    video = normalize(clips, pre)
    if (height, width) == size[1:]:
        return video
    flat = video.transpose(1, 2).flatten(0, 1)
    flat = F.interpolate(flat, size=size[1:], mode="bilinear", antialias=True, align_corners=False)
    return flat.unflatten(0, (len(clips), size[0])).transpose(1, 2)


def fit_pixels(clips: Tensor, size: Size3) -> Tensor:
    """Clips uint8 B T H W 3 → uint8 B T' H' W' 3 of ``size``, for an exported model, which normalises them itself."""
    if clips.shape[1] != size[0]:
        clips = clips[:, frame_places(clips.shape[1], size[0])]
    return torch.stack([resize(clip, size[1], size[2]) for clip in clips])


def frame_places(have: int, want: int) -> list[int]:
    """Which of ``have`` frames to show where ``want`` are needed: those in the middle of each of as many parts."""
    return [(2 * i + 1) * have // (2 * want) for i in range(want)]


def how_fitted(own: Preprocessing, clips: Preprocessing) -> str:
    """What is done to a student's clips for a teacher that was trained on others, in words; empty: nothing."""
    changes: list[str] = []
    if own.frames != clips.frames:
        more = own.frames > clips.frames
        changes.append(f"{clips.frames} frames {'repeated to' if more else 'thinned out to'} {own.frames}")
    if own.crop != clips.crop:
        changes.append(f"resized from {clips.crop} to {own.crop} pixels")
    if (own.mean, own.std) != (clips.mean, clips.std):
        changes.append("normalised in its own way")
    apart = ""
    if (own.stride, own.fps) != (clips.stride, clips.fps):
        apart = f"; it was trained on frames {_apart(own)} apart, and these are {_apart(clips)}"
    what = f"it is shown the same clips, {', '.join(changes)}" if changes else "it is shown the same clips"
    return what + apart if changes or apart else ""


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _apart(pre: Preprocessing) -> str:
    return f"{pre.stride}" if pre.fps is None else f"{pre.stride}/{pre.fps:g} s"
