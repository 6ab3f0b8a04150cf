"""What TensorBoard shows of a run: every number of its steps and epochs. Needs the extra ``log``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dualformer.errors import DualFormerError

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

EVENTS = "tensorboard"
"""The folder of the event files in that of the run."""


class TensorBoardCallback:
    """Writes event files to ``out/tensorboard``: see them with ``tensorboard --logdir`` and the folder of the runs.

    Nothing is written before the first value comes. Whatever an interrupted run wrote of that step and of later ones is
    hidden. Errors: ``DualFormerError`` where TensorBoard cannot be imported.
    """

    def __init__(self, out: Path) -> None:
        try:
            importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:  # torch brings the module, which imports what may be absent
            raise DualFormerError(
                f"--tensorboard: TensorBoard cannot be imported ({error}); pip install 'dualformer[log]'"
            ) from error
        self.folder = out / EVENTS
        self._opened: SummaryWriter | None = None

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        writer = self._writer(step)
        for name, value in values.items():
            writer.add_scalar(f"step/{name}", value, step)

    def on_epoch(self, epoch: Mapping[str, Any], confusion: Tensor | None) -> None:
        """Every number of the epoch by its name in metrics.jsonl, and the accuracies of the classes as a histogram."""
        step = int(epoch["step"])
        writer = self._writer(step)
        for name, value in epoch.items():
            if name not in ("epoch", "step") and isinstance(value, (int, float)):
                writer.add_scalar(f"epoch/{name}", value, step)
        if confusion is not None and len(seen := (counts := confusion.sum(dim=1)).nonzero().flatten()):
            recall = confusion.diagonal()[seen] / counts[seen]
            writer.add_histogram("epoch/class accuracies", recall.float().cpu(), step)
        writer.flush()

    def close(self) -> None:
        if self._opened:
            self._opened.close()

    def _writer(self, step: int) -> SummaryWriter:
        if self._opened is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._opened = SummaryWriter(str(self.folder), purge_step=step)
        return self._opened
