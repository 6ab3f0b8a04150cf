"""Settings of the hardware: what a run is computed on."""

from dataclasses import dataclass
from typing import Literal

from dualformer.training.settings.checks import more_than_zero


@dataclass(frozen=True, kw_only=True)
class HardwareSettings:
    """Devices of a run."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto takes bfloat16 where a short measurement finds it faster, and says so."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Literal["all"] | None = None
    """Devices of each machine: one process each, every one with batches of `batch_size`. On a CPU they are shares of
    its cores. (default: what torchrun or SLURM started, else 1.)"""
    nodes: int | None = None
    """Machines; the same command is to be run on each, by torchrun, SLURM or hand (default: as `devices`)."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several devices share the work: ddp keeps the network on each, fsdp cuts weights, gradients and optimizer
    into shares (FSDP2) and saves checkpoints so. Auto takes ddp for more than one."""
    compile: Literal["no", "default", "reduce-overhead", "max-autotune"] = "no"
    """Compile the network by torch.compile, in this mode: worth its minutes in long runs on a GPU, where
    reduce-overhead uses CUDA graphs."""

    def check_machine(self) -> None:
        more_than_zero(self, "nodes")
        if self.devices != "all":
            more_than_zero(self, "devices")
