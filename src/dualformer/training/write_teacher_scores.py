"""Writes a teacher's scores of every token of every video to disk, once, for trainings to come.

Frames are shrunk as for a test, and not cut; clips of the teacher's length follow one another over the whole video.
The network takes frames of any shape, so that one pass sees all of a frame, and no seams are left.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from dualformer.datasets.per_video_files import per_video_file, read_pieces, videos_by_key
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.errors import DualFormerError
from dualformer.files import atomic_write, is_lock, lock_for_writing, write_json
from dualformer.model.network import DualFormer
from dualformer.scoring.view_scores import Precision
from dualformer.training.read_teacher_scores import ScoresCard, TokenGrid
from dualformer.training.settings.teacher_settings import SCORES
from dualformer.training.teacher import TeacherError, check_single_label, file_digest, match_classes
from dualformer.video.backend import decoder
from dualformer.video.clip_reader import read_covering_clips
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card
from dualformer.weights.locate import resolve_weights


@dataclass(frozen=True, kw_only=True)
class WrittenScores:
    """The result of `write_scores`. ``found`` of the ``videos`` were there already; ``bad`` do not decode."""

    videos: int
    found: int
    clips: int
    bytes: int
    seconds: float
    bad: list[DualFormerError] = field(default_factory=list)


def write_scores(
    model: DualFormer,
    card: Card,
    videos: VideoList,
    out: Path | str,
    *,
    teacher: str,
    topk: int = 5,
    at_once: int = 4,
    workers: int = 0,
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> WrittenScores:
    """Writes scores of ``videos`` by ``model``, in eval mode and on its device, into ``out``; those there are kept.

    ``teacher``: where the weights are from, a path or a hub id. ``topk``: classes kept for each token. ``at_once``:
    clips that go through the network together. ``workers``: processes that decode, 0 does it in this one.
    Errors: ``DatasetError`` where ``out`` holds another teacher's scores, or two videos cannot be told apart;
    `TeacherError` for other classes than the data's; ``ValueError`` for numbers out of range;
    `InUseError` while another process writes to ``out``.
    """
    if topk < 1 or at_once < 1 or workers < 0:
        raise ValueError(f"topk and at_once must be 1 or more, workers 0 or more: not {topk}, {at_once}, {workers}")
    check_single_label(card, teacher)
    match_classes(card.labels, card.config.num_classes, videos.classes, teacher)
    out, count = Path(out), card.config.num_classes
    scores_card = ScoresCard(
        teacher=teacher,
        digest=file_digest(resolve_weights(teacher)),
        classes=card.labels,
        count=count,
        topk=min(topk, count),
        preprocessing=card.preprocessing.to_dict(),
        decoder=decoder(),
    )
    with lock_for_writing(out, folder=True):
        _open_folder(out, scores_card)
        every = videos_by_key(videos)
        todo = [sample for sample in every.values() if not per_video_file(out, sample).is_file()]
        found = len(every) - len(todo)
        begun, done, clips, written = time.monotonic(), 0, 0, 0
        bad: list[DualFormerError] = []
        parts: dict[int, list[dict[str, Tensor]]] = {}
        read = partial(_covering_clips, pre=card.preprocessing, at_once=at_once)
        for number, piece in read_pieces(todo, read, workers=workers):
            if isinstance(piece, tuple):
                scores = _score_clips(model, card.preprocessing, *piece, topk=topk, precision=precision)
                parts.setdefault(number, []).append(scores)
                clips += len(piece[0])
                continue
            if isinstance(piece, DualFormerError):
                bad.append(piece)
                parts.pop(number, None)
            else:
                written += _write_file(per_video_file(out, todo[number]), parts.pop(number))
            done += 1
            if progress is not None:
                progress(found + done, found + len(todo))
        seconds = time.monotonic() - begun
        return WrittenScores(
            videos=found + len(todo) - len(bad), found=found, clips=clips, bytes=written, seconds=seconds, bad=bad
        )


def _covering_clips(
    sample: Sample, *, pre: Preprocessing, at_once: int
) -> Iterator[tuple[Tensor, NDArray[np.float64]]]:
    """Yields clips (n, T, h, w, 3) of a video with their times (n, T)."""
    return read_covering_clips(sample.file, pre, at_once=at_once, fps=sample.fps)


@torch.no_grad()
def _score_clips(
    model: DualFormer,
    pre: Preprocessing,
    clips: Tensor,
    times: NDArray[np.float64],
    *,
    topk: int,
    precision: Precision,
) -> dict[str, Tensor]:
    """Returns the scores of clips (n, T, h, w, 3) by the names of `read_scores`, tokens in the order of their times."""
    device = model.norm.weight.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        scores = model.token_scores(model.forward_features(normalize(clips.to(device), pre)))
    count = scores.shape[-1]
    highest = scores.float().topk(min(topk, count), dim=-1)
    values = highest.values.to(torch.float16).cpu()
    if not values.isfinite().all():
        raise TeacherError("the teacher's scores are no numbers, or too large for float16: its weights are damaged")
    kind = torch.uint8 if count <= 2**8 else torch.int16 if count <= 2**15 else torch.int32
    grid = TokenGrid(model.config, (clips.shape[1], clips.shape[2], clips.shape[3]))
    return {
        "values": values.flatten(0, 1),
        "classes": highest.indices.to(kind).cpu().flatten(0, 1),
        "times": torch.from_numpy(np.concatenate([grid.in_time(each)[0] for each in times])),
        "rows": torch.from_numpy(grid.along(1, 0.0, 1.0)[0]),
        "columns": torch.from_numpy(grid.along(2, 0.0, 1.0)[0]),
    }


def _write_file(path: Path, parts: list[dict[str, Tensor]]) -> int:
    """Writes the file of a video and returns its size in bytes. Where clips overlap, the earlier one is kept."""
    tensors = {name: torch.cat([part[name] for part in parts]) for name in ("values", "classes", "times")}
    times = tensors["times"].numpy()
    kept = torch.from_numpy(times > np.maximum.accumulate(np.concatenate([[-np.inf], times[:-1]])))
    tensors = {name: tensor[kept] for name, tensor in tensors.items()} | {
        name: parts[0][name] for name in ("rows", "columns")
    }
    atomic_write(path, lambda temporary: save_file(tensors, temporary))
    return path.stat().st_size


def _open_folder(out: Path, card: ScoresCard) -> None:
    """Makes ``out`` the folder of these scores. Raises ``DatasetError`` where it has others, with what differs."""
    if not (out / SCORES).is_file():
        if out.exists() and not all(map(is_lock, out.iterdir())):
            raise ValueError(f"{out} is not empty and holds no scores: choose a new or empty folder")
        write_json(out / SCORES, card.to_dict())
        return
    there = ScoresCard.read(out)
    own = {"digest": "weights", "topk": "number of classes kept", "decoder": "decoder"}
    differing = [what for name, what in own.items() if getattr(there, name) != getattr(card, name)]
    if differing:
        raise DatasetError(
            f"{out} holds scores with another {' and another '.join(differing)} (those of {there.teacher}): choose "
            "another folder"
        )
