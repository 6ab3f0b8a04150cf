"""Settings of devices and of the output: what a run is computed on, what it writes, and when."""

from dataclasses import dataclass
from typing import Literal

from dualformer.training.settings.checks import more_than_zero, not_negative
from dualformer.urls import url_of


@dataclass(frozen=True, kw_only=True)
class HardwareSettings:
    """Devices of a run."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto takes bfloat16 on a CUDA GPU that computes in it, and on a CPU whose matrix products a short measurement
    finds 1.5 times as fast in it; else float32. It says which, and why."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What it is computed on; auto takes a GPU where there is one."""
    devices: int | Literal["all"] | None = None
    """Devices of each machine: one process each, every one with batches of `batch_size`. On a CPU they are shares of
    its cores. (default: what torchrun or SLURM started, else 1.)"""
    nodes: int | None = None
    """Machines; the same command is to be run on each, by torchrun, SLURM or hand (default: as `devices`)."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several devices share the work: ddp keeps the network on each, fsdp cuts weights, gradients and optimizer
    into shares (FSDP2) and saves checkpoints so. Auto takes ddp for more than one."""
    compile: Literal["no", "default", "reduce-overhead", "max-autotune"] = "no"
    """Compile the network by torch.compile, in this mode, which takes minutes: for long runs on a GPU, where
    reduce-overhead uses CUDA graphs; what it gains there is not measured."""

    def check_machine(self) -> None:
        more_than_zero(self, "nodes")
        if self.devices != "all":
            more_than_zero(self, "devices")


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Record of a run."""

    out: str = "runs/train"
    """Folder of the run: config.json, clips.png, metrics.jsonl, curves.png, best and last weights, checkpoints."""
    resume: bool = False
    """Go on with the run in `out` where it stopped, to the same bits."""
    licence: str = ""
    """Terms of use to write into the weights, an SPDX identifier where there is one."""
    max_steps: int | None = None
    """Stop after this many optimizer steps of the schedule, to try things out."""
    select: Literal["best", "last"] | None = None
    """Which epoch's weights count, and are called best: those that validate best, or the last ones, averaged with
    `ema` (default: the last ones where fewer than 100 validation videos would have to choose)."""
    val_views: str | None = None
    """Views of each validation video whose mean is validated, clips x crops (default: 4x1, as `evaluate` takes them, of
    fewer than 100 videos, else 1x1)."""
    val_every: int | None = None
    """Validate after every so many epochs, and after the last (default: every epoch; where the last weights count
    anyway, ten times in all)."""
    patience: int | None = None
    """Stop after this many epochs in a row without a better validation figure than before (default: train through)."""
    save_minutes: float = 5.0
    """Save a checkpoint this often, besides at the start and at the end of every epoch."""
    keep: int = 2
    """Newest checkpoints to keep. A second one is what is left where the first turns out damaged."""
    tensorboard: bool = False
    """Write event files for TensorBoard into `out`, too."""
    confusion_every: int = 0
    """Draw the confusion matrix of the validation clips after every so many epochs; 0 draws none."""

    def check_record(self) -> None:
        more_than_zero(self, "max_steps", "save_minutes", "keep", "val_every", "patience")
        not_negative(self, "confusion_every")
        if url_of(self.out):
            raise ValueError(f"`out` is a folder on this machine, not {self.out}: copy it there when the run is done")
