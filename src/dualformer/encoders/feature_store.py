"""Features of clips of every video by a frozen encoder, on disk, computed once.

A folder holds ``encoder.json``, which names the encoder and its settings, and below ``clips`` a file for every video:
features (n, t, h, w, D) of n evenly spread clips, float16, and the seconds that each begins and ends at (n, 2). Below
``still`` and ``shuffled`` are those of the same clips without motion: one frame repeated, and frames in random order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dualformer.datasets.per_video_files import per_video_file, read_pieces, video_key
from dualformer.datasets.samples import DatasetError, Sample
from dualformer.encoders.frozen_encoder import Encoder, EncoderError
from dualformer.errors import DualFormerError
from dualformer.files import atomic_write, is_lock, lock_for_writing, write_json
from dualformer.scoring.view_scores import Precision
from dualformer.video.backend import decoder
from dualformer.video.clip_reader import read_even_clips

ENCODER = "encoder.json"
FORMAT = 1
Kind = Literal["clips", "still", "shuffled"]
CONTROLS: tuple[Kind, ...] = ("still", "shuffled")


@dataclass(frozen=True, kw_only=True)
class FeatureCard:
    """The settings that a folder of features was made with. ``digest``: of the encoder's files."""

    encoder: str
    digest: str
    preprocessing: Mapping[str, Any]
    squash: bool
    clips: int
    grid: tuple[int, ...]
    width: int
    decoder: str
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> FeatureCard:
        """Reads the card of a folder. Errors: ``DatasetError``."""
        path = folder / ENCODER
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DatasetError(f"{path}: not the card of an encoder's features ({error}); make them anew") from error
        if not isinstance(data, dict) or set(data) != {one.name for one in fields(cls)} or data["format"] != FORMAT:
            raise DatasetError(f"{path}: not features of this version (format {FORMAT}); make them anew elsewhere")
        data["grid"] = tuple(data["grid"])
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class WrittenFeatures:
    """The result of `write_features`. ``found`` of the ``videos`` were there already; ``bad`` do not decode."""

    videos: int
    found: int
    bad: list[DualFormerError] = field(default_factory=list)


def feature_file(folder: Path, kind: Kind, sample: Sample) -> Path:
    """Returns the file of a video's features."""
    return per_video_file(folder / kind, sample)


def open_feature_folder(folder: Path, encoder: Encoder, *, clips: int) -> FeatureCard:
    """Makes ``folder`` that of these features, and returns their card. Raises ``DatasetError`` where it has others,
    with what differs.
    """
    card = FeatureCard(
        encoder=encoder.name,
        digest=encoder.digest,
        preprocessing=encoder.preprocessing.to_dict(),
        squash=encoder.squash,
        clips=clips,
        grid=encoder.grid,
        width=encoder.width,
        decoder=decoder(),
    )
    if not (folder / ENCODER).is_file():
        if folder.exists() and not all(map(is_lock, folder.iterdir())):
            raise ValueError(f"{folder} is not empty and holds no features: choose a new or empty folder")
        write_json(folder / ENCODER, asdict(card))
        return card
    there = FeatureCard.read(folder)
    own = {"digest": "encoder", "clips": "number of clips", "decoder": "decoder", "preprocessing": "preprocessing"}
    if differing := [what for name, what in own.items() if getattr(there, name) != getattr(card, name)]:
        raise DatasetError(
            f"{folder} holds features with another {' and another '.join(differing)} (those of {there.encoder}): "
            "choose another folder"
        )
    return there


def write_features(
    encoder: Encoder,
    videos: Sequence[Sample],
    folder: Path,
    *,
    controls: Collection[str] = (),
    clips: int = 4,
    at_once: int = 4,
    workers: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> WrittenFeatures:
    """Writes features of ``videos``, each once, into ``folder``; those there are kept, those of other videos, too.

    ``controls``: `video_key` of those whose clips are encoded without motion as well. ``clips``: of each video, evenly
    spread. ``at_once``: how many go through the encoder together. ``workers``:
    processes that decode, 0 does it in this one. Memory is that of a few clips. Errors: as `open_feature_folder`;
    `EncoderError` for features that are no numbers; `InUseError` while another process writes to ``folder``.
    """
    if clips < 1 or at_once < 1 or workers < 0:
        raise ValueError(f"clips and at_once must be 1 or more, workers 0 or more: not {clips}, {at_once}, {workers}")
    device = torch.device(device)
    with lock_for_writing(folder, folder=True):
        open_feature_folder(folder, encoder, clips=clips)
        todo = [sample for sample in videos if _missing(folder, sample, controls)]
        found, bad = len(videos) - len(todo), list[DualFormerError]()
        encoder.place(device)
        encode = partial(_encode, encoder, at_once=at_once, device=device, precision=precision)
        for number, piece in read_pieces(todo, partial(_read, encoder=encoder, clips=clips), workers=workers):
            if isinstance(piece, tuple):
                _write(folder, todo[number], controls, *piece, encode)
                continue
            if isinstance(piece, DualFormerError):
                bad.append(piece)
            if progress is not None:
                progress(found + number + 1, len(videos))
    return WrittenFeatures(videos=len(videos) - len(bad), found=found, bad=bad)


class StoredFeatures:
    """The features of one video, read from its file clip by clip."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def clip(self, number: int) -> Tensor:
        """Returns the features of a clip, t h w D, float32. Errors: ``DatasetError``."""
        with self._open() as file:
            return file.get_slice("features")[number].float()

    def clips(self) -> Tensor:
        """Returns those of all clips, n t h w D, float32. Errors: ``DatasetError``."""
        with self._open() as file:
            return file.get_tensor("features").float()

    def spans(self) -> Tensor:
        """Returns the seconds that the clips begin and end at, (n, 2). Errors: ``DatasetError``."""
        with self._open() as file:
            return file.get_tensor("spans")

    def _open(self) -> Any:
        try:
            return safe_open(self.path, "pt")
        except (SafetensorError, OSError) as error:
            reason = f"stored features that cannot be read ({error})"
            raise DatasetError(f"{self.path}: {reason}: delete the file and go on with dualformer teach") from error


def _read(sample: Sample, *, encoder: Encoder, clips: int) -> Iterator[tuple[Tensor, NDArray[np.float64]]]:
    """Yields all clips of a video as the encoder takes them, uint8 n T H W 3, with their spans."""
    frames, spans = read_even_clips(sample.file, encoder.preprocessing, clips=clips, fps=sample.fps)
    yield encoder.fit_frames(frames), spans


def _missing(folder: Path, sample: Sample, controls: Collection[str]) -> dict[Kind, Path]:
    """Returns the files of a video that are still to be written."""
    kinds: tuple[Kind, ...] = ("clips", *CONTROLS) if video_key(sample) in controls else ("clips",)
    files: list[tuple[Kind, Path]] = [(kind, feature_file(folder, kind, sample)) for kind in kinds]
    return {kind: path for kind, path in files if not path.is_file()}


def _write(
    folder: Path,
    sample: Sample,
    controls: Collection[str],
    clips: Tensor,
    spans: NDArray[np.float64],
    encode: Callable[[Tensor], Tensor],
) -> None:
    for kind, path in _missing(folder, sample, controls).items():
        tensors = {"features": encode(_without_motion(clips, kind, sample)), "spans": torch.from_numpy(spans)}
        atomic_write(path, partial(save_file, tensors))


def _without_motion(clips: Tensor, kind: Kind, sample: Sample) -> Tensor:
    """Returns clips n T H W 3 with their middle frame throughout, or in an order of frames that is the video's own."""
    frames = clips.shape[1]
    if kind == "still":
        return clips[:, frames // 2].unsqueeze(1).expand_as(clips)
    if kind == "shuffled":
        seed = hashlib.sha256(video_key(sample).encode("utf-8", "surrogateescape")).digest()
        return clips[:, torch.from_numpy(np.random.default_rng(list(seed)).permutation(frames))]
    return clips


def _encode(encoder: Encoder, clips: Tensor, *, at_once: int, device: torch.device, precision: Precision) -> Tensor:
    parts: list[Tensor] = []
    for part in clips.split(at_once):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            features = encoder(part.to(device))
        parts.append(features.to(torch.float16).cpu())
    features = torch.cat(parts).contiguous()
    if not features.isfinite().all():
        raise EncoderError(f"{encoder.name}: its features are no numbers, or too large for float16")
    return features
