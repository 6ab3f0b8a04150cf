"""Runs an exported model as a network: uint8 views in, logits out."""

from pathlib import Path

import torch
from torch import Tensor

from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.export_card import DTYPE_NAMES, ExportCard
from dualformer.weights.exported.exported_files import read_export_card
from dualformer.weights.exported.runtime import Runtime, open_runtime


class ExportedNetwork:
    """Turns uint8 views B T H W 3, for any B, into logits float32 B classes, on its device. It gives no gradients.

    The exported program normalises views itself: ``takes_views`` tells `view_probabilities` so. ``output``: which one
    of the program's it returns.
    """

    takes_views = True

    def __init__(self, runtime: Runtime, export_card: ExportCard, *, name: str, output: int = 0) -> None:
        self._runtime, self._output = runtime, output
        self.name, self.export_card = name, export_card
        self.card, self.format, self.precision = export_card.card, export_card.format, export_card.precision

    @property
    def device(self) -> torch.device:
        return self._runtime.device

    @property
    def answers_steps(self) -> bool:
        """Whether it also gives the logits of each step in time."""
        return self.card.config.head == "temporal" and self._runtime.outputs > 1

    def at_steps(self) -> "ExportedNetwork":
        """Returns the same model for these logits: uint8 views B T H W 3 → B T' classes.

        Errors: ``ValueError`` where it has none.
        """
        if not self.answers_steps:
            raise ValueError(f"{self.name} gives one answer for a clip: export weights with `head=temporal`")
        return ExportedNetwork(self._runtime, self.export_card, name=self.name, output=1)

    def check_precision(self, wanted: str | None) -> str:
        """Returns the type that it computes in, such as ``bfloat16``. Errors: ``ValueError`` if another is wanted."""
        own = DTYPE_NAMES[self.precision]
        if wanted not in (None, own):
            short = next((short for short, long in DTYPE_NAMES.items() if long == wanted), wanted)
            raise ValueError(
                f"{self.name} was exported to compute in {own}, and cannot in {wanted}: export the weights with "
                f"`precision={short}`"
            )
        return own

    def runs_on(self, device: torch.device) -> bool:
        """Whether `place` takes this device."""
        return self._runtime.runs_on(device)

    def place(self, device: torch.device | str) -> None:
        """Moves it to a device; ``auto`` is a GPU where it runs on one, else the CPU. Errors: ``ValueError``."""
        if device == "auto":
            gpu = torch.device("cuda")
            device = gpu if torch.cuda.is_available() and self.runs_on(gpu) else "cpu"
        device = torch.device(device)
        if not self.runs_on(device):
            with_gpu = ", as the ONNX Runtime that is installed knows no GPU" if self.format == "onnx" else ""
            raise ValueError(f"{self.name} is a model for {self.format}, which runs on the CPU only{with_gpu}: say cpu")
        self._runtime.place(device)

    def __call__(self, views: Tensor) -> Tensor:
        expected, shape = (*self.export_card.view, 3), tuple(views.shape)
        if views.dtype != torch.uint8 or len(shape) != 5 or shape[1:] != expected:
            wanted = " ".join(map(str, expected))
            raise ValueError(f"{self.name} takes uint8 views B {wanted}, not {views.dtype} {shape}")
        views = views.to(self.device)
        return torch.cat([self._logits(part) for part in views.split(self.export_card.batch or max(1, len(views)))])

    def _logits(self, views: Tensor) -> Tensor:
        missing = (self.export_card.batch or len(views)) - len(views)
        filled = torch.cat([views, views[-1:].expand(missing, *views.shape[1:])]) if missing else views
        return self._runtime.run(filled, self._output)[: len(views)].float()


def load_exported(
    path: Path | str, *, device: torch.device | str = "cpu", threads: int | None = None
) -> ExportedNetwork:
    """Loads an exported model, ready to run.

    ``device``: as `ExportedNetwork.place` takes it. ``threads``: of a CPU; None: as many as PyTorch uses. A program of
    PyTorch shares those of the process, and sets their number.
    Errors: ``FileNotFoundError``; ``WeightsError`` for what is no exported model, has no card, lacks a part or was
    changed after it was exported, and where the extra that runs it is not installed; ``ValueError`` for a device that
    it does not run on.
    """
    path = Path(path)
    export_card = read_export_card(path)
    runtime = open_runtime(path, options=export_card.options, threads=threads)
    if runtime.dtype != torch.uint8 or runtime.shape != (export_card.batch, *export_card.view, 3):
        raise WeightsError(f"{path}: it takes {runtime.dtype} {runtime.shape}, which is not what its card says")
    network = ExportedNetwork(runtime, export_card, name=str(path))
    network.place(device)
    return network
