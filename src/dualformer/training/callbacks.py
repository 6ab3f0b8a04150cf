"""Callbacks of a run: observers of its steps and epochs, for TensorBoard and for pictures of confusions."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dualformer.errors import DualFormerError

EVENTS = "tensorboard"
"""The folder of the event files in that of the run."""
CONFUSION = "confusion"
"""The folder of the confusion matrices in that of the run."""


class Callback:
    """An observer of a run, which does nothing by itself. The first process calls it."""

    def on_start(self, step: int, steps: int) -> None:
        """Is called before the first step with the number of steps that are done, if the run is resumed, and of all."""

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Is called after an optimizer step with ``loss``, ``lr``, ``grad_norm``, ``clips_per_second``."""

    def on_epoch(self, epoch: Mapping[str, Any], confusion: Tensor | None) -> None:
        """Is called after an epoch with its line in metrics.jsonl and the confusion matrix of validation, C×C int64.

        Its rows are true classes. There is none where clips may have several labels.
        """

    def close(self) -> None:
        """Is called when the run is over, or was stopped."""


class TensorBoardCallback(Callback):
    """Writes event files to ``out/tensorboard``: see them with ``tensorboard --logdir`` and the folder of the runs.

    It needs the extra ``log``. Nothing is written before the first value comes. Whatever an interrupted run wrote of
    that step and of later ones is hidden. Errors: ``DualFormerError`` where TensorBoard cannot be imported.
    """

    def __init__(self, out: Path) -> None:
        try:
            self._make_writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError as error:  # torch brings the module, which imports what may be absent
            raise DualFormerError(
                f"`tensorboard=True`: TensorBoard cannot be imported ({error}); pip install 'dualformer[log]'"
            ) from error
        self.folder = out / EVENTS
        self._opened: list[Any] = []

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        writer = self._writer(step)
        for name, value in values.items():
            writer.add_scalar(f"step/{name}", value, step)

    def on_epoch(self, epoch: Mapping[str, Any], confusion: Tensor | None) -> None:
        """Writes every number of the epoch by its name in metrics.jsonl, and a histogram of the classes' accuracies."""
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
        for writer in self._opened:
            writer.close()

    def _writer(self, step: int) -> Any:
        if not self._opened:
            self._opened.append(self._make_writer(str(self.folder), purge_step=step))
        return self._opened[0]


class ConfusionCallback(Callback):
    """Draws the validation set's confusion matrix after every ``every``-th epoch.

    The pictures are ``confusion/epoch-0012.png`` in ``out``; ``labels`` are the classes in order.
    """

    def __init__(self, out: Path, labels: tuple[str, ...], every: int) -> None:
        assert every > 0
        self.folder, self.labels, self.every = out / CONFUSION, labels, every

    def on_epoch(self, epoch: Mapping[str, Any], confusion: Tensor | None) -> None:
        number = int(epoch["epoch"])
        if number % self.every or confusion is None:
            return
        from dualformer.scoring.plots import draw_confusion

        matrix = confusion.cpu().numpy()
        total, right = int(matrix.sum()), int(matrix.trace())
        title = f"epoch {number}: {right} of {total} validation videos right ({right / max(1, total):.1%})"
        self.folder.mkdir(parents=True, exist_ok=True)
        draw_confusion(self.folder / f"epoch-{number:04d}.png", matrix, self.labels, title=title)
