"""From clips to the batches of an epoch: in order, mixed, on the device, without what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dualformer.datasets.clip_datasets import Batches, EpochSampler
from dualformer.errors import DualFormerError
from dualformer.training.bad_files import BadFiles
from dualformer.training.distributed import ProcessGroup
from dualformer.training.mixing import mix_batch
from dualformer.training.objective import Batch
from dualformer.training.settings.mixing_settings import MixingSettings


class Feed:
    """Batches of ``batch_size`` clips for each process: of every batch of all of them it has every world-th clip.

    A clip that any process cannot read is reported to all of them. The sizes go together (`count_batches`).
    """

    def __init__(
        self,
        clips: Dataset[dict[str, Tensor]],
        *,
        videos: int,
        batch_size: int,
        workers: int,
        seed: int,
        classes: int,
        augmentation: MixingSettings,
        order: Callable[[int], NDArray[np.int64]] | None,
        bad_files: BadFiles,
        ranks: ProcessGroup,
        device: torch.device,
    ) -> None:
        self.clips_per_batch = batch_size * ranks.world
        """Of all processes."""
        self._augmentation, self._seed, self._classes = augmentation, seed, classes
        self._bad_files, self._ranks, self._device = bad_files, ranks, device
        self._unreadable: list[DualFormerError] = []
        self._sampler = EpochSampler(
            videos, seed=seed, rank=ranks.rank, world=ranks.world, repeats=augmentation.repeats, order=order
        )
        self._loader = Batches(
            clips,
            left_out=self._unreadable.append,
            batch_size=batch_size,
            sampler=self._sampler,
            num_workers=workers,
            drop_last=True,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,  # what they have decoded stays in their memory
        )

    def epoch(self, epoch: int, *, after: int = 0) -> Iterator[Batch]:
        """The batches of an epoch that follow the first ``after``."""
        self._sampler.at(epoch, start=after * self.clips_per_batch)
        batches, number = iter(self._loader), after
        while True:
            batch = failure = None
            try:
                batch = next(batches, None)
            except DualFormerError as error:
                failure = error
            read = len(batch["clip"]) if batch else 0
            read, failed, unreadable = self._ranks.total(read, failure is not None, len(self._unreadable))
            if unreadable:
                self._report()
            if failed:
                self._ranks.agree(failure)
            if batch is None:
                return
            batch = {key: value.to(self._device, non_blocking=True) for key, value in batch.items()}
            # Of a batch that has lost a clip to a bad file, not every clip has a partner.
            if self._augmentation.mixes and read == self.clips_per_batch:
                batch = mix_batch(
                    batch,
                    self._augmentation,
                    classes=self._classes,
                    seed=self._seed,
                    epoch=epoch,
                    number=number,
                    world=self._ranks.world,
                )
            number += 1
            yield batch

    def _report(self) -> None:
        for errors in self._ranks.gather(list(self._unreadable)):
            for error in errors:
                self._bad_files(error)
        self._unreadable.clear()
