"""Teachers that are exported models. Their insides are not seen.

Those that ``dualformer export`` wrote have a card, which tells their classes and how clips are to be shown. Foreign
ones take B 3 T H W, normalised, and give B classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dualformer.model.config import Size3
from dualformer.training.teacher import (
    Taught,
    Teacher,
    TeacherError,
    check_labels,
    digest_of,
    fit_clips,
    fit_pixels,
    how_fitted,
    match_classes,
)
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.exported.exported_files import has_card, parts
from dualformer.weights.exported.exported_network import load_exported
from dualformer.weights.exported.runtime import Shape, open_runtime


class CardTeacher(Teacher):
    """An exported model with a card: it is shown 8-bit clips, and normalises them itself."""

    def __init__(self, path: Path, *, classes: Sequence[str], clips: Preprocessing) -> None:
        self._network = load_exported(path)
        card = self._network.card
        # The digest in a card is that of everything in the model.
        super().__init__(str(path), self._network.about.digest)
        if not card.config.num_classes:
            raise TeacherError(f"{path}: a network without a classifier teaches nothing: give one with classes")
        check_labels(card, str(path))
        self._order, note = match_classes(card.labels, card.config.num_classes, classes, self.name)
        self.lines.append(
            f"teacher: {path}, an exported model ({self._network.format}, {self._network.precision}) of "
            f"{card.config.num_classes} classes{note}"
        )
        if fitted := how_fitted(card.preprocessing, clips):
            self.lines.append(f"teacher: {fitted}")

    def place(self, device: torch.device) -> None:
        if self._network.runs_on(device):
            self._network.place(device)

    @torch.no_grad()
    def __call__(self, clips: Tensor, *, tokens: bool) -> Taught:
        assert not tokens
        logits = self._network(fit_pixels(clips, self._network.about.view)).to(clips.device)
        return Taught(logits if self._order is None else logits[:, self._order.to(logits.device)], None)


class ForeignTeacher(Teacher):
    """Its input may fix some lengths. They are kept to: clips are resized, frames repeated or left out, batches cut.
    Clips are normalised as the student's are, as nothing says how else.
    """

    def __init__(self, path: Path, *, classes: Sequence[str], clips: Preprocessing) -> None:
        super().__init__(str(path), digest_of(path))
        self._runtime = open_runtime(path)
        shape = self._runtime.shape
        if len(shape) != 5 or shape[1] not in (None, 3) or self._runtime.dtype != torch.float32:
            kind = "" if self._runtime.dtype == torch.float32 else f" of {self._runtime.dtype}"
            raise TeacherError(f"{path}: its input is {_written(shape)}{kind}, and clips are B 3 T H W: export it so")
        own = (clips.frames, clips.crop, clips.crop)
        wanted = [fixed or length for fixed, length in zip(shape[2:], own, strict=True)]
        self._size: Size3 = (wanted[0], wanted[1], wanted[2])
        self._at_once = shape[0]
        self._pre = clips
        count = self._logits(torch.zeros((1, *self._size, 3), dtype=torch.uint8)).shape[1]
        _, note = match_classes((), count, classes, self.name)
        self.lines.append(f"teacher: {path}, an exported model of {count} classes{note}")
        fitted = "" if self._size == own else f" fitted to {_written(self._size)} (frames, height, width) and"
        self.lines.append(f"teacher: it is shown the same clips,{fitted} normalised as the student's are")

    def place(self, device: torch.device) -> None:
        if self._runtime.runs_on(device):
            self._runtime.place(device)

    @torch.no_grad()
    def __call__(self, clips: Tensor, *, tokens: bool) -> Taught:
        assert not tokens
        return Taught(self._logits(clips).to(clips.device), None)

    def _logits(self, clips: Tensor) -> Tensor:
        video = fit_clips(clips, self._pre, self._size)
        parts: list[Tensor] = []
        for part in video.split(self._at_once or len(video)):
            missing = (self._at_once or len(part)) - len(part)
            filled = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
            scores = self._runtime.run(filled.to(self._runtime.device))
            if scores.dim() != 2 or len(scores) != len(filled):
                raise TeacherError(
                    f"{self.name}: it gives {_written(tuple(scores.shape))} for {len(filled)} clips, and not one row "
                    "of class scores for each: export it so"
                )
            parts.append(scores[: len(part)].float())
        return torch.cat(parts)


def open_exported(path: Path, *, classes: Sequence[str], clips: Preprocessing) -> Teacher:
    """Errors: ``FileNotFoundError``; ``WeightsError`` for what cannot be read, or was changed after it was exported;
    `TeacherError` for what takes no clips, or has other classes."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such exported model")
    if path.is_dir():
        parts(path)
    return (CardTeacher if has_card(path) else ForeignTeacher)(path, classes=classes, clips=clips)


def _written(shape: Shape) -> str:
    return "x".join("?" if length is None else str(length) for length in shape)
