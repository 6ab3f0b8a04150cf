"""Torch data sets over labelled files, the sampler that orders training clips, and batches of them."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor

from dualformer.datasets.samples import DatasetError, SegmentSample, VideoList
from dualformer.datasets.shards.storage import StorageError
from dualformer.errors import DualFormerError
from dualformer.video.augmentation import Augmentation
from dualformer.video.backend import decoder
from dualformer.video.clip_reader import (
    make_training_clip,
    read_training_clip,
    read_views,
    training_clip_from_reader,
    views_from_reader,
    warn_if_short,
)
from dualformer.video.container import UnreachableError, VideoError
from dualformer.video.kept_readers import KeptReaders
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import random_clip


class TrainingClips(torch.utils.data.Dataset[dict[str, Any]]):
    """Randomly placed and augmented clips, by key (epoch, number): ``dict(clip, label, index)``.

    ``clip`` is uint8 (T, crop, crop, 3), ``index`` its video: of n videos, clips number i, n + i, 2n + i and so on are
    draws of video i. A clip depends on ``seed``, the epoch and its number alone, not on workers or earlier clips: a
    resumed run sees the clips of an uninterrupted one. Of multi-label videos ``label`` is the first label, and items
    also have a ``target``, float32 (classes,): 1 for each label, 0 for the others.

    ``mirrored``: for each label that of its mirrored clips, -1 where clips are not mirrored. None: the same labels.

    ``cache_bytes``: memory for the decoded frames of small data sets. Clips are bit for bit those read from the file; a
    video that no longer fits, and one that does not decode to its end as its packets promise, is read anew each time.
    Loader workers share the budget evenly and each of them may read any video: caching everything takes workers times
    the decoded size of the data set.

    ``return_geometry``: items also have the geometry of their `TrainingClip`: ``box`` (4,), ``times`` (T,), ``flip``.
    """

    def __init__(
        self,
        videos: VideoList,
        pre: Preprocessing,
        *,
        seed: int,
        augmentation: Augmentation,
        mirrored: Sequence[int] | None = None,
        cache_bytes: int = 0,
        return_geometry: bool = False,
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed must not be negative, not {seed}")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must not be negative, not {cache_bytes}")
        if augmentation.scale_jitter and augmentation.scale_jitter[0] < pre.crop:
            raise ValueError(
                f"`scale_jitter` from {augmentation.scale_jitter[0]} pixels on: frames must be no smaller than the "
                f"crops of {pre.crop} (`size`)"
            )
        if mirrored is not None and len(mirrored) != len(videos.classes):
            raise ValueError(f"{len(mirrored)} mirrored labels for {len(videos.classes)} classes")
        if mirrored is not None and any(
            other not in range(-1, len(mirrored)) or (other >= 0 and mirrored[other] != label)
            for label, other in enumerate(mirrored)
        ):
            raise ValueError(f"mirrored labels must lead back to where they came from, unlike {tuple(mirrored)}")
        decoder()  # raises here where it is missing, and not in every worker
        self.videos = videos
        self.pre = pre
        self._seed = seed
        self.augmentation, self.mirrored = augmentation, mirrored
        self.return_geometry = return_geometry
        self._readers = KeptReaders()
        self._cache_bytes = cache_bytes
        self._cached: dict[int, tuple[NDArray[np.float64], Tensor]] = {}
        self._cached_bytes = 0
        self._read_anew: set[int] = set()

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, number = key
        index = number % len(self.videos)
        sample = self.videos.samples[index]
        augmentation, mirrored = self.augmentation.of_epoch(epoch), self.mirrored
        if mirrored is not None and any(mirrored[label] < 0 for label in sample.labels):
            augmentation = replace(augmentation, flip=0.0)
        rng = np.random.default_rng([self._seed, epoch, number])
        decoded = self._decoded(index) if self._cache_bytes else None
        if decoded is None and isinstance(sample, SegmentSample):
            clip = self._readers.read(
                sample.file,
                lambda reader: training_clip_from_reader(reader, sample.file, self.pre, rng, augmentation),
                fps=sample.fps,
            )
        elif decoded is None:
            clip = read_training_clip(sample.file, self.pre, rng, augmentation, fps=sample.fps)
        else:
            times, frames = decoded
            warn_if_short(sample.file, times, self.pre)
            indices = random_clip(times, self.pre, rng)
            shown = ((i, frames[i]) for i in np.unique(indices).tolist())
            clip = make_training_clip(shown, indices, times, self.pre, rng, augmentation)
        labels = [mirrored[label] if mirrored and clip.mirrored else label for label in sample.labels]
        item = {"clip": clip.frames, "label": labels[0], "index": index} | _target(self.videos, labels)
        if self.return_geometry:
            item |= {"box": np.array(clip.box), "times": clip.times, "flip": clip.mirrored}
        return item

    def _decoded(self, index: int) -> tuple[NDArray[np.float64], Tensor] | None:
        """Returns times and all frames (n, H, W, 3) of a video from memory, read into it if there is room.

        None for a damaged video: which of its clips can be read must not depend on the cache.
        """
        if index in self._cached:
            return self._cached[index]
        if index in self._read_anew:
            return None
        worker = torch.utils.data.get_worker_info()
        room = self._cache_bytes // (worker.num_workers if worker else 1) - self._cached_bytes
        if room <= 0:
            return None
        sample = self.videos.samples[index]
        with open_video(sample.file, fps=sample.fps, clock=self.pre.fps is not None) as reader:
            if len(reader) * reader.info.height * reader.info.width * 3 > room:
                return None
            try:
                frames = reader.read(np.arange(len(reader)))
            except VideoError:
                frames = None
            if frames is None or reader.recounted:
                self._read_anew.add(index)
                return None
            entry = (reader.times, frames)
        self._cached[index] = entry
        self._cached_bytes += frames.numel()
        return entry


class ViewClips(torch.utils.data.Dataset[dict[str, Any]]):
    """Test views by index: ``dict(views, label, index)`` with ``views`` uint8 (clips·crops, T, crop, crop, 3).

    Items of multi-label videos have a ``target``, too, as in `TrainingClips`.
    """

    def __init__(self, videos: VideoList, pre: Preprocessing, *, clips: int = 1, crops: int = 1) -> None:
        if clips < 1 or crops not in (1, 3):
            raise ValueError(f"views are 1 or more clips × 1 or 3 crops, not {clips}×{crops}")
        decoder()  # raises here where it is missing, and not in every worker
        self.videos = videos
        self.pre = pre
        self._clips, self._crops = clips, crops
        self._readers = KeptReaders()

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.videos.samples[index]
        if isinstance(sample, SegmentSample):
            views = self._readers.read(
                sample.file,
                lambda reader: views_from_reader(reader, sample.file, self.pre, clips=self._clips, crops=self._crops),
                fps=sample.fps,
            )
        else:
            views = read_views(sample.file, self.pre, clips=self._clips, crops=self._crops, fps=sample.fps)
        return {"views": views, "label": sample.label, "index": index} | _target(self.videos, sample.labels)


def _target(videos: VideoList, labels: Iterable[int]) -> dict[str, Tensor]:
    """Returns the entry ``target`` of an item of multi-label videos, else nothing."""
    if not videos.multi_label:
        return {}
    target = torch.zeros(len(videos.classes))
    target[list(labels)] = 1
    return {"target": target}


class EpochSampler(torch.utils.data.Sampler[tuple[int, int]]):
    """Keys (epoch, number) of one epoch for one rank: every world-th of a permutation drawn from seed and epoch.

    All ranks get equally many; up to world - 1 samples are left out, others in each epoch. ``start``: the samples of
    this epoch that all ranks together have had, for a run that is resumed. ``repeats``: each of the ``length`` videos
    comes that many times in a row, as clips of other numbers. ``order`` replaces the draw by a permutation for each
    epoch, such as `ShardOrder`. Call :meth:`at` before each epoch.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        repeats: int = 1,
        order: Callable[[int], NDArray[np.int64]] | None = None,
    ) -> None:
        if length * repeats < world or not 0 <= rank < world:
            raise ValueError(f"cannot deal {length * repeats} samples to rank {rank} of {world}")
        self._videos, self._repeats = length, repeats
        self._order = order or self._shuffled
        self._length = length * repeats
        self._seed = seed
        self._rank, self._world = rank, world
        self.at(epoch, start)

    def at(self, epoch: int, start: int = 0) -> "EpochSampler":
        """Moves to a place: the epoch, and how many of its samples are done over all ranks."""
        if epoch < 0 or not 0 <= start <= self._length or start % self._world:
            raise ValueError(
                f"no such place: epoch {epoch}, sample {start} of {self._length} (a multiple of {self._world} ranks)"
            )
        self._epoch, self._start = epoch, start
        return self

    def __len__(self) -> int:
        return (self._length - self._start) // self._world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        numbers = (self._order(self._epoch)[:, None] + self._videos * np.arange(self._repeats)).reshape(-1)
        mine = numbers[self._start + self._rank :: self._world][: len(self)]
        for number in mine.tolist():
            yield self._epoch, number

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        # numpy pads seeds with zeros, so the last entry keeps this draw apart from the clips' [seed, epoch, index].
        return np.random.default_rng([self._seed, epoch, 0, 1]).permutation(self._videos)


class Batches:
    """Iterates over batches of a ``DataLoader`` with these ``options`` over ``clips``, once an epoch.

    A video that cannot be read raises :class:`DatasetError` with the remedy. With ``left_out``, that is called with the
    error instead, and the batch is smaller by this clip; an empty batch raises all the same.
    Workers ignore Ctrl-C until the process that reads the batches ends them. PyTorch's global random state is not used.
    """

    def __init__(
        self,
        clips: torch.utils.data.Dataset[dict[str, Any]],
        *,
        left_out: Callable[[DualFormerError], None] | None = None,
        **options: Any,
    ) -> None:
        self._left_out = left_out
        self._loader = torch.utils.data.DataLoader(
            _ErrorsAsItems(clips),
            collate_fn=_collate,
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator(),  # a loader draws once as it starts
            **options,
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch, errors in self._loader:
            for error in errors:
                if isinstance(error, (StorageError, UnreachableError)):
                    raise error
                if self._left_out is not None:
                    self._left_out(error)
                if self._left_out is None or batch is None:
                    raise DatasetError(
                        f"{error}; find all such files with `dualformer check`, and leave them out by giving its "
                        "manifest with `manifest`"
                    ) from error
            yield batch


def ignore_interrupts(_: int) -> None:
    """Leaves Ctrl-C, which reaches all processes of the terminal, to the main one: a ``worker_init_fn``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A first SIGTERM may have gone to the whole group, for the main process to save and stop; a second one is meant.
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


class _ErrorsAsItems(torch.utils.data.Dataset[dict[str, Any] | DualFormerError]):
    """Returns errors as items: raised in a loader worker, an error would arrive as a page of traceback."""

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
            return DatasetError(f"{error.filename or 'a file'}: it cannot be read ({error.strerror})")


def _collate(items: list[dict[str, Any] | DualFormerError]) -> tuple[Any, list[DualFormerError]]:
    """Returns the batch of the items that could be read, None without any, and the errors of the others."""
    errors = [item for item in items if isinstance(item, DualFormerError)]
    read = [item for item in items if not isinstance(item, DualFormerError)]
    return torch.utils.data.default_collate(read) if read else None, errors
