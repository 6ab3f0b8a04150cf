"""The batches of an epoch: clips in order, mixed, on the device, without files that cannot be read."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from dualformer.datasets.bad_videos import size_of
from dualformer.datasets.clip_datasets import Batches, EpochSampler
from dualformer.datasets.manifest import Verdict, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.shards.shard_prefetch import ShardPrefetch
from dualformer.errors import DualFormerError
from dualformer.moved_files import absolute
from dualformer.training.distributed import ProcessGroup
from dualformer.training.mixing import mix_batch
from dualformer.training.objective import Batch
from dualformer.training.reporter import Reporter
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import RunClips
from dualformer.video.backend import decoder
from dualformer.video.container import VideoError

BAD_FILES = "bad_files.csv"
"""The bad videos that a run met, as a manifest of ``dualformer check``."""


class Feed:
    """Makes the batches of each process: every world-th clip of every batch of all processes.

    A clip that any process cannot read is reported to all of them by ``on_bad``. The sizes go together (`Schedule.of`).
    """

    def __init__(
        self,
        clips: RunClips,
        settings: TrainConfig,
        *,
        classes: int,
        ranks: ProcessGroup,
        on_bad: Callable[[DualFormerError], None],
    ) -> None:
        assert settings.batch_size is not None and settings.workers is not None
        self._settings, self._classes = settings, classes
        self._on_bad, self._ranks = on_bad, ranks
        self._unreadable: list[DualFormerError] = []
        self._clips_per_batch = settings.batch_size * ranks.world_size
        self._own_clips, self._read_ahead = settings.batch_size, 2 * settings.workers
        self._shards = clips.shards
        self._sampler = EpochSampler(
            clips.size,
            seed=settings.seed,
            rank=ranks.rank,
            world=ranks.world_size,
            repeats=settings.repeats,
            order=clips.order,
        )
        self.loader = Batches(
            clips.train,
            left_out=self._unreadable.append,
            batch_size=settings.batch_size,
            sampler=self._sampler,
            num_workers=settings.workers,
            drop_last=True,
            pin_memory=ranks.device.type == "cuda",
            persistent_workers=settings.workers > 0,  # what they have decoded stays in their memory
        )
        """Batches as they are read, of the first epoch."""

    def epoch(self, epoch: int, *, after: int = 0, until: int | None = None) -> Iterator[Batch]:
        """The batches of an epoch that follow the first ``after``, and ``until`` so many have been (default: all)."""
        self._sampler.at(epoch, start=after * self._clips_per_batch)
        with self._prefetch() as shards:
            yield from islice(self._batches(epoch, after, shards), None if until is None else max(0, until - after))

    def _prefetch(self) -> ShardPrefetch:
        """Returns what fetches the shards of this process's part of the epoch."""
        if self._shards is None:
            return ShardPrefetch((), ahead=0)
        numbers = [number for _, number in self._sampler]
        return self._shards.ahead_of(numbers, processes=self._ranks.world_size)

    def _batches(self, epoch: int, after: int, shards: ShardPrefetch) -> Iterator[Batch]:
        batches, number = iter(self.loader), after
        while True:
            batch = failure = None
            try:
                batch = next(batches, None)
            except DualFormerError as error:
                failure = error
            shards.reach((number - after + self._read_ahead) * self._own_clips)  # workers are forked by now
            read = len(batch["clip"]) if batch else 0
            read, failed, unreadable = self._ranks.all_reduce(read, failure is not None, len(self._unreadable))
            if unreadable:
                self._report()
            if failed:
                self._ranks.raise_if_any(failure)
            if batch is None:
                return
            batch = {key: value.to(self._ranks.device, non_blocking=True) for key, value in batch.items()}
            # Of a batch that has lost a clip to a bad file, not every clip has a partner.
            if self._settings.mixes and read == self._clips_per_batch:
                batch = mix_batch(
                    batch,
                    self._settings,
                    classes=self._classes,
                    seed=self._settings.seed,
                    epoch=epoch,
                    number=number,
                    world=self._ranks.world_size,
                )
            number += 1
            yield batch

    def _report(self) -> None:
        for errors in self._ranks.all_gather(list(self._unreadable)):
            for error in errors:
                self._on_bad(error)
        self._unreadable.clear()


class BadFiles:
    """Reports each video that could not be read once, and lists it in ``folder``.

    It is called with every error, in each of several processes; only that with ``writes`` writes the list.

    A clip that is left out is missing from its batch; no other takes its place. More than one in twenty of ``videos``
    (and more than three) is no accident: then ``DatasetError`` says so.
    """

    def __init__(self, folder: Path, videos: int, reporter: Reporter, *, writes: bool) -> None:
        self._path, self._videos, self._reporter, self._writes = folder / BAD_FILES, videos, reporter, writes
        self._told: set[str] = set()

    def forget(self) -> None:
        """Removes the list of an earlier run."""
        self._path.unlink(missing_ok=True)

    def __call__(self, error: DualFormerError) -> None:
        if str(error) in self._told:
            return
        self._told.add(str(error))
        self._reporter.log(f"left out, as it cannot be read: {error}")
        if self._writes and isinstance(error, VideoError):
            known = read_manifest(self._path) if self._path.is_file() else []
            path = absolute(Path(error.path))
            verdict = Verdict(path=path, ok=False, reason=error.reason, bytes=size_of(path) or 0, decoder=decoder())
            write_manifest(self._path, [*(v for v in known if v.path != path), verdict])
        if len(self._told) > max(3, self._videos // 20):
            raise DatasetError(
                f"{len(self._told)} of {self._videos} videos cannot be read, the last of them {error}; find all such "
                "files with `dualformer check`, and leave them out by giving its manifest with `manifest`"
            )

    def sum_up(self) -> None:
        """Reports how many videos were left out, at the end of a run."""
        if self._told:
            self._reporter.log(
                f"{len(self._told)} of {self._videos} videos could not be read and were left out (they are listed in "
                f"{self._path}); `dualformer check` finds all such files"
            )
