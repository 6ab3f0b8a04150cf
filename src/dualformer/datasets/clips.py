"""The torch data sets over labelled files, and the order in which training goes through them."""

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor

from dualformer.datasets.samples import DatasetError, VideoList
from dualformer.errors import DualFormerError
from dualformer.video.clips import read_training_clip, read_views, tell_if_short, training_view
from dualformer.video.decode import FrameCountError, VideoReader
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import random_clip


class TrainingClips(torch.utils.data.Dataset[dict[str, Any]]):
    """Randomly placed and cropped clips, by key (epoch, index): ``dict(clip, label, index)``.

    ``clip`` is uint8 (T, crop, crop, 3). It depends on ``seed``, the epoch and the index alone: not on the worker, nor
    on what was read before, so that a resumed run sees what an unbroken one would.

    ``cache_bytes``: memory for decoded frames of small data sets. Whole videos are kept as they decode, so that clips
    are bit for bit those read from the file; a video that no longer fits is read anew each time. Loader workers have
    memory of their own and share the budget out evenly, but any of them may meet any video: it takes workers times the
    decoded size of the data set to keep all of it.
    """

    def __init__(
        self,
        videos: VideoList,
        pre: Preprocessing,
        *,
        seed: int,
        flip: float,
        area: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        cache_bytes: int = 0,
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed must not be negative, not {seed}")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must not be negative, not {cache_bytes}")
        self.videos = videos
        self.pre = pre
        self._seed = seed
        self._flip, self._area, self._ratio = flip, area, ratio
        self._cache_bytes = cache_bytes
        self._cached: dict[int, tuple[NDArray[np.float64], Tensor]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        sample = self.videos.samples[index]
        rng = np.random.default_rng([self._seed, epoch, index])
        decoded = self._decoded(index) if self._cache_bytes else None
        if decoded is None:
            clip = read_training_clip(sample.path, self.pre, rng, flip=self._flip, area=self._area, ratio=self._ratio)
        else:
            times, frames = decoded
            tell_if_short(sample.path, times, self.pre)
            indices = random_clip(times, self.pre, rng)
            shown = ((i, frames[i]) for i in np.unique(indices).tolist())
            clip = training_view(shown, indices, self.pre, rng, flip=self._flip, area=self._area, ratio=self._ratio)
        return {"clip": clip, "label": sample.label, "index": index}

    def _decoded(self, index: int) -> tuple[NDArray[np.float64], Tensor] | None:
        """Times and all frames (n, H, W, 3) of a video from memory, read into it if there is room."""
        if index in self._cached:
            return self._cached[index]
        worker = torch.utils.data.get_worker_info()
        room = self._cache_bytes // (worker.num_workers if worker else 1) - self._cached_bytes
        if room <= 0:
            return None
        with VideoReader(self.videos.samples[index].path) as reader:
            if len(reader) * reader.info.height * reader.info.width * 3 > room:
                return None
            try:
                frames = reader.read(np.arange(len(reader)))
            except FrameCountError:
                frames = reader.read(np.arange(len(reader)))  # the reader has counted its frames meanwhile
            entry = (reader.times, frames)
        self._cached[index] = entry
        self._cached_bytes += frames.numel()
        return entry


class ViewClips(torch.utils.data.Dataset[dict[str, Any]]):
    """Test views by index: ``dict(views, label, index)`` with ``views`` uint8 (clips·crops, T, crop, crop, 3)."""

    def __init__(self, videos: VideoList, pre: Preprocessing, *, clips: int = 1, crops: int = 1) -> None:
        if clips < 1 or crops not in (1, 3):
            raise ValueError(f"views are 1 or more clips × 1 or 3 crops, not {clips}×{crops}")
        self.videos = videos
        self.pre = pre
        self._clips, self._crops = clips, crops

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.videos.samples[index]
        views = read_views(sample.path, self.pre, clips=self._clips, crops=self._crops)
        return {"views": views, "label": sample.label, "index": index}


class EpochSampler(torch.utils.data.Sampler[tuple[int, int]]):
    """Keys (epoch, index) of one epoch for one rank: every world-th of a permutation drawn from seed and epoch.

    All ranks get equally many; the up to world - 1 samples left over are others in each epoch. ``start`` counts the
    samples of this epoch that all ranks together have had already: a resumed run goes on where it stopped.
    Call :meth:`at` before each epoch.
    """

    def __init__(
        self, length: int, *, seed: int, epoch: int = 0, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if length < world or not 0 <= rank < world:
            raise ValueError(f"cannot deal {length} samples to rank {rank} of {world}")
        self._length = length
        self._seed = seed
        self._rank, self._world = rank, world
        self.at(epoch, start)

    def at(self, epoch: int, start: int = 0) -> "EpochSampler":
        """Move to a place: the epoch, and how many of its samples are done over all ranks."""
        if epoch < 0 or not 0 <= start <= self._length or start % self._world:
            raise ValueError(
                f"no such place: epoch {epoch}, sample {start} of {self._length} (a multiple of {self._world} ranks)"
            )
        self._epoch, self._start = epoch, start
        return self

    def __len__(self) -> int:
        return (self._length - self._start) // self._world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # numpy pads seeds with zeros, so the last entry keeps this draw apart from the clips' [seed, epoch, index].
        order = np.random.default_rng([self._seed, self._epoch, 0, 1]).permutation(self._length)
        mine = order[self._start + self._rank :: self._world][: len(self)]
        for index in mine.tolist():
            yield self._epoch, index


class Batches:
    """Batches of a ``DataLoader`` with these ``options`` over ``clips``, to be gone through once an epoch or once.

    A video that cannot be read raises :class:`DatasetError` with the remedy, whichever process met it. Ctrl-C is left
    to the process that reads the batches: its workers go on until it ends them. PyTorch's global random state stays
    as it is.
    """

    def __init__(self, clips: torch.utils.data.Dataset[dict[str, Any]], **options: Any) -> None:
        self._loader = torch.utils.data.DataLoader(
            _Guarded(clips),
            collate_fn=_collate,
            worker_init_fn=_leave_signals_to_the_main_process,
            generator=torch.Generator(),  # a loader draws once as it starts
            **options,
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._loader:
            if isinstance(batch, DualFormerError):
                raise DatasetError(
                    f"{batch}; find all such files with `dualformer check`, and leave them out by giving its manifest "
                    "with --manifest"
                ) from batch
            yield batch


def _leave_signals_to_the_main_process(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A first SIGTERM may have gone to the whole group, for the main process to save and stop; a second one is meant.
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


class _Guarded(torch.utils.data.Dataset[dict[str, Any] | DualFormerError]):
    """Items, or why there is none: raised in a loader worker, an error would arrive as a page of traceback."""

    def __init__(self, clips: torch.utils.data.Dataset[dict[str, Any]]) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)  # type: ignore[arg-type]  # asked for only where there is no sampler

    def __getitem__(self, key: Any) -> dict[str, Any] | DualFormerError:
        try:
            return self._clips[key]
        except DualFormerError as error:
            return error
        except FileNotFoundError as error:
            return DatasetError(str(error))
        except OSError as error:
            return DatasetError(f"{error.filename or 'a video'}: it cannot be read ({error.strerror})")


def _collate(items: list[dict[str, Any] | DualFormerError]) -> Any:
    bad = next((item for item in items if isinstance(item, DualFormerError)), None)
    return torch.utils.data.default_collate(items) if bad is None else bad
