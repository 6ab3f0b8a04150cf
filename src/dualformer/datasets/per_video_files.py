"""Files that hold something about each video of a data set, such as a teacher's scores, made once for all trainings.

A file is found by the end of its video's path, so that a data set may move. What is missing can be made by several
processes, each of which reads its own videos.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dualformer.datasets.clip_datasets import ignore_interrupts
from dualformer.datasets.samples import DatasetError, Sample, SegmentSample, VideoList
from dualformer.errors import DualFormerError

Piece = TypeVar("Piece")


def video_key(sample: Sample) -> str:
    """Returns the name of a video among the files: the end of its path, so that a data set may move."""
    times = sample.segment.times if isinstance(sample, SegmentSample) else ""
    return "/".join(sample.origin.parts[-3:]) + times


def per_video_file(folder: Path, sample: Sample) -> Path:
    """Returns the file of a video in ``folder``."""
    name = hashlib.sha256(video_key(sample).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return folder / name[:2] / f"{name}.safetensors"


def videos_by_key(videos: VideoList) -> dict[str, Sample]:
    """Returns each video once, by `video_key`. Raises ``DatasetError`` for two that the files cannot tell apart."""
    found: dict[str, Sample] = {}
    for sample in videos.samples:
        other = found.setdefault(key := video_key(sample), sample)
        if other.path != sample.path:
            raise DatasetError(
                f"{other.path} and {sample.path} are both kept as {key!r} among the scores: rename a folder of one"
            )
    return found


def read_pieces(
    videos: Sequence[Sample], read: Callable[[Sample], Iterator[Piece]], *, workers: int
) -> Iterator[tuple[int, Piece | DualFormerError | None]]:
    """Yields the numbers of ``videos`` with the pieces that ``read`` yields of each, in order, and None at its end; or
    the error of a video that cannot be read, which ends it. ``workers``: processes that read, 0 does it in this one.
    """
    yield from DataLoader(
        _Pieces(videos, read),
        batch_size=None,
        num_workers=min(workers, len(videos)),
        collate_fn=_identity,
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),
    )


class _Pieces(IterableDataset[tuple[int, Piece | DualFormerError | None]], Generic[Piece]):
    """Pieces of videos with the videos' numbers, those of a video in order. Each worker reads its own videos."""

    def __init__(self, videos: Sequence[Sample], read: Callable[[Sample], Iterator[Piece]]) -> None:
        self._videos, self._read = videos, read

    def __iter__(self) -> Iterator[tuple[int, Piece | DualFormerError | None]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(first, len(self._videos), step):
            yield from ((number, piece) for piece in self._pieces(self._videos[number]))

    def _pieces(self, sample: Sample) -> Iterator[Piece | DualFormerError | None]:
        try:
            yield from self._read(sample)
            yield None
        except DualFormerError as error:
            yield error
        except OSError as error:
            yield DatasetError(f"{sample.path}: it cannot be read ({error.strerror or error})")


def _identity(piece: Any) -> Any:
    return piece
