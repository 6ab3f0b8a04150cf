"""Teachers: frozen networks that score the clips another one is trained on.

They are DualFormers, or exported models, which score whole clips only. A teacher is no ``nn.Module``, so that an
objective that holds it neither trains it, puts it into training mode, nor saves it.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.datasets.samples import first_few
from dualformer.errors import DualFormerError
from dualformer.model.config import Size3
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize, resize
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_files import has_card, is_exported, openvino_files
from dualformer.weights.exported.exported_network import load_exported
from dualformer.weights.exported.runtime import Shape, open_runtime
from dualformer.weights.locate import resolve_weights
from dualformer.weights.safetensors_file import load_weights


class TeacherError(DualFormerError):
    """A teacher that cannot teach these clips or classes. The message names it and the remedy."""


class TeacherOutput(NamedTuple):
    """Scores (logits) of a batch in the order of the student's classes."""

    clip: Tensor
    """B C"""
    tokens: Tensor | None
    """B t h w C, where the teacher has tokens and was asked."""


class Teacher(ABC):
    """Scores clips. ``lines``: what to report about it; ``digest``: of its file."""

    def __init__(self, name: str, digest: str) -> None:
        self.name, self.digest = name, digest
        self.lines: list[str] = []
        self._order: Tensor | None = None
        """The place of each of the student's classes among the teacher's; None: they are the same."""

    def _match(self, card: Card, kind: str, *, classes: Sequence[str], clips: Preprocessing) -> None:
        """Matches a teacher's classes by its card to the student's ``classes``, and adds lines about it."""
        count = card.config.num_classes
        if not count:
            raise TeacherError(f"{self.name}: a network without a classifier teaches nothing: give one with classes")
        check_single_label(card, self.name)
        self._order, note = match_classes(card.labels, count, classes, self.name)
        self.lines.append(f"teacher: {self.name}, {kind}{count} classes{note}")
        if fitted := describe_fitting(card.preprocessing, clips):
            self.lines.append(f"teacher: {fitted}")

    @abstractmethod
    def place(self, device: torch.device) -> None:
        """Moves it to the device on which clips will come."""

    @abstractmethod
    def __call__(self, clips: Tensor, *, tokens: bool) -> TeacherOutput:
        """Scores clips uint8 B T H W 3, on its device, without gradients; ``tokens``: each token as well."""

    def _reorder(self, scores: Tensor) -> Tensor:
        scores = scores.float()
        return scores if self._order is None else scores[..., self._order.to(scores.device)]


class NetworkTeacher(Teacher):
    """A DualFormer with its card, in eval mode for good."""

    def __init__(self, path_or_hub_id: str, *, classes: Sequence[str], clips: Preprocessing) -> None:
        super().__init__(path_or_hub_id, file_digest(resolve_weights(path_or_hub_id)))
        model, card = load_weights(path_or_hub_id)
        self.model = model.eval().requires_grad_(False)
        self.pre = card.preprocessing
        self._match(card, "", classes=classes, clips=clips)

    def place(self, device: torch.device) -> None:
        self.model.to(device)

    @torch.no_grad()
    def __call__(self, clips: Tensor, *, tokens: bool) -> TeacherOutput:
        pre = self.pre
        features = self.model.forward_features(fit_clips(clips, pre, (pre.frames, pre.crop, pre.crop)))
        logits = self._reorder(self.model.forward_head(features))
        return TeacherOutput(logits, self._reorder(self.model.token_scores(features)) if tokens else None)


class ExportedTeacher(Teacher):
    """An exported model with the card that ``dualformer export`` writes. It takes 8-bit clips and normalises them."""

    def __init__(self, path: Path, *, classes: Sequence[str], clips: Preprocessing) -> None:
        self._network = load_exported(path)
        card = self._network.card
        # The digest in a card is that of everything in the model.
        super().__init__(str(path), self._network.export_card.digest)
        kind = f"an exported model ({self._network.format}, {self._network.precision}) of "
        self._match(card, kind, classes=classes, clips=clips)

    def place(self, device: torch.device) -> None:
        if self._network.runs_on(device):
            self._network.place(device)

    @torch.no_grad()
    def __call__(self, clips: Tensor, *, tokens: bool) -> TeacherOutput:
        assert not tokens
        scores = self._network(fit_uint8_clips(clips, self._network.export_card.view))
        return TeacherOutput(self._reorder(scores.to(clips.device)), None)


class ForeignTeacher(Teacher):
    """An exported model of others, which takes B 3 T H W and gives B classes.

    Lengths that its input fixes are kept to: clips are resized, frames repeated or left out, batches cut. Clips are
    normalised as the student's are, as nothing says how else.
    """

    def __init__(self, path: Path, *, classes: Sequence[str], clips: Preprocessing) -> None:
        super().__init__(str(path), file_digest(path))
        self._runtime = open_runtime(path)
        shape = self._runtime.shape
        if len(shape) != 5 or shape[1] not in (None, 3) or self._runtime.dtype != torch.float32:
            kind = "" if self._runtime.dtype == torch.float32 else f" of {self._runtime.dtype}"
            raise TeacherError(
                f"{path}: its input is {_shape_text(shape)}{kind}, and clips are B 3 T H W: export it so"
            )
        own = (clips.frames, clips.crop, clips.crop)
        wanted = [fixed or length for fixed, length in zip(shape[2:], own, strict=True)]
        self._size: Size3 = (wanted[0], wanted[1], wanted[2])
        self._fixed_batch = shape[0]
        self._pre = clips
        count = self._logits(torch.zeros((1, *self._size, 3), dtype=torch.uint8)).shape[1]
        _, note = match_classes((), count, classes, self.name)
        self.lines.append(f"teacher: {path}, an exported model of {count} classes{note}")
        fitted = "" if self._size == own else f" fitted to {_shape_text(self._size)} (frames, height, width) and"
        self.lines.append(f"teacher: it is shown the same clips,{fitted} normalised as the student's are")

    def place(self, device: torch.device) -> None:
        if self._runtime.runs_on(device):
            self._runtime.place(device)

    @torch.no_grad()
    def __call__(self, clips: Tensor, *, tokens: bool) -> TeacherOutput:
        assert not tokens
        return TeacherOutput(self._logits(clips).to(clips.device), None)

    def _logits(self, clips: Tensor) -> Tensor:
        video = fit_clips(clips, self._pre, self._size)
        rows: list[Tensor] = []
        for part in video.split(self._fixed_batch or len(video)):
            missing = (self._fixed_batch or len(part)) - len(part)
            filled = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
            scores = self._runtime.run(filled.to(self._runtime.device))
            if scores.dim() != 2 or len(scores) != len(filled):
                raise TeacherError(
                    f"{self.name}: it gives {_shape_text(tuple(scores.shape))} for {len(filled)} clips, and not one "
                    "row of class scores for each: export it so"
                )
            rows.append(scores[: len(part)].float())
        return torch.cat(rows)


def open_teacher(path_or_hub_id: str, *, classes: Sequence[str], clips: Preprocessing, tokens: bool) -> Teacher:
    """Opens the teacher of a student with these classes and ``clips``; ``tokens``: whether tokens are to be scored.

    Errors: ``FileNotFoundError``; ``WeightsError`` for a file that cannot be read, or an export that was changed since;
    `TeacherError` for one that takes no clips or has other classes; ``ValueError`` where an exported model is asked for
    tokens.
    """
    if is_exported(path_or_hub_id):
        if tokens:
            raise ValueError(
                f"`teacher={path_or_hub_id}` is an exported model, which knows whole clips only: say `distill=clip`, "
                "or give the weights that it was made from"
            )
        path = Path(path_or_hub_id)
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such exported model")
        if path.is_dir():
            openvino_files(path)
        return (ExportedTeacher if has_card(path) else ForeignTeacher)(path, classes=classes, clips=clips)
    return NetworkTeacher(path_or_hub_id, classes=classes, clips=clips)


def check_single_label(card: Card, teacher: str) -> None:
    """Raises `TeacherError` for a teacher whose classes do not share one label among them."""
    if card.multi_label:
        raise TeacherError(
            f"{teacher}: it was trained with `multi_label=True`, and what is learnt are parts of one label: give "
            "weights of one label a video"
        )


def match_classes(names: Sequence[str], count: int, classes: Sequence[str], teacher: str) -> tuple[Tensor | None, str]:
    """Returns the place of each of the student's ``classes`` among the teacher's ``count`` (None: they are the same),
    and a remark on it. A teacher without ``names`` must have as many classes; what else it knows is left out.

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
        raise TeacherError(
            f"{teacher}: it does not know {first_few(map(repr, unknown))} of the {len(classes)} classes of the data: "
            "take a teacher that was trained on them"
        )
    if tuple(names) == tuple(classes):
        return None, ""
    place = {name: i for i, name in enumerate(names)}
    left_out = len(names) - len(classes)
    rest = f", {left_out} of them not in the data and left out" if left_out else ""
    return torch.tensor([place[name] for name in classes]), f" matched by name{rest}"


def fit_clips(clips: Tensor, pre: Preprocessing, size: Size3) -> Tensor:
    """Returns clips uint8 B T H W 3 as B 3 T' H' W' for a network that takes ``size``, normalised as ``pre`` says.

    Frames are repeated or left out evenly; pictures are resized, antialiased.
    """
    video = normalize(fit_frames(clips, size[0]), pre)
    if video.shape[3:] == size[1:]:
        return video
    flat = video.transpose(1, 2).flatten(0, 1)
    flat = F.interpolate(flat, size=size[1:], mode="bilinear", antialias=True, align_corners=False)
    return flat.unflatten(0, (len(clips), size[0])).transpose(1, 2)


def fit_uint8_clips(clips: Tensor, size: Size3) -> Tensor:
    """Returns clips uint8 B T H W 3 as uint8 B T' H' W' 3 of ``size``, for an exported model that normalises them."""
    return torch.stack([resize(clip, size[1], size[2]) for clip in fit_frames(clips, size[0])])


def fit_frames(clips: Tensor, want: int) -> Tensor:
    """Returns clips B T H W 3 with ``want`` frames, repeated or left out evenly."""
    return clips if clips.shape[1] == want else clips[:, frame_indices(clips.shape[1], want)]


def frame_indices(have: int, want: int) -> list[int]:
    """Returns which of ``have`` frames to show where ``want`` are needed: the middle one of each of as many parts."""
    return [(2 * i + 1) * have // (2 * want) for i in range(want)]


def describe_fitting(own: Preprocessing, clips: Preprocessing) -> str:
    """Returns in words what is done to a student's clips for a teacher trained on others; empty if nothing is."""
    changes: list[str] = []
    if own.frames != clips.frames:
        more = own.frames > clips.frames
        changes.append(f"{clips.frames} frames {'repeated to' if more else 'thinned out to'} {own.frames}")
    if own.crop != clips.crop:
        changes.append(f"resized from {clips.crop} to {own.crop} pixels")
    if (own.mean, own.std) != (clips.mean, clips.std):
        changes.append("normalised in its own way")
    text = ", ".join(["it is shown the same clips", *changes])
    if (own.stride, own.fps) != (clips.stride, clips.fps):
        return f"{text}; it was trained on frames {_spacing(own)} apart, and these are {_spacing(clips)}"
    return text if changes else ""


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _spacing(pre: Preprocessing) -> str:
    return f"{pre.stride}" if pre.fps is None else f"{pre.stride}/{pre.fps:g} s"


def _shape_text(shape: Shape) -> str:
    return "x".join("?" if length is None else str(length) for length in shape)
