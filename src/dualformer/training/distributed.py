"""Several processes as one run: starting them, sharding the network, and exchanging what one knows with all.

Every process runs the same program on its own part of each batch. Where one of them knows something that the others
must act on (a video that cannot be read, Ctrl-C, a full disk), all of them learn it at the same place, so that none is
left waiting for another.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dualformer.errors import DualFormerError
from dualformer.model.block import SubBlock
from dualformer.model.convolution import ConvolutionSubBlock
from dualformer.training.settings.run_settings import HardwareSettings

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T")

# On import it has itself announce what is said here in other words; warnings and errors still come.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


class Processes(NamedTuple):
    """``devices`` processes on each of ``nodes`` machines."""

    devices: int
    nodes: int

    @property
    def world(self) -> int:
        return self.devices * self.nodes

    def __str__(self) -> str:
        machines = f" on each of {self.nodes} machines" if self.nodes > 1 else ""
        return f"{self.devices} process{'es' if self.devices > 1 else ''}{machines}"


def processes(
    devices: int | Literal["all"] | None,
    nodes: int | None,
    *,
    accelerator: str = HardwareSettings.accelerator,
    otherwise: Processes = Processes(1, 1),  # noqa: B008 (immutable)
) -> Processes:
    """Returns the processes that are asked for, or that torchrun or SLURM started, or ``otherwise``.

    Errors: ``ValueError`` where the two differ, or the machine has not that many devices.
    """
    gpus = torch.cuda.device_count() if accelerator in ("auto", "cuda") else 0
    if accelerator == "cuda" and not gpus:
        raise ValueError("`accelerator=cuda`: PyTorch finds no CUDA device here; leave it out, or see nvidia-smi")
    if devices == "all":
        devices = max(1, gpus)
    started = _started_by_launcher(nodes)
    base = started or otherwise
    asked = Processes(devices if devices is not None else base.devices, nodes if nodes is not None else base.nodes)
    if started is not None and started != asked:
        raise ValueError(
            f"`devices` and `nodes` ask for {asked}, and {started} were started: leave both out, or start as many"
        )
    if gpus and asked.devices > gpus:
        raise ValueError(f"`devices={asked.devices}`: there are {gpus} GPUs here; ask for fewer, or `accelerator=cpu`")
    if asked.world > 1 and (accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available())):
        raise ValueError("`devices`: several processes cannot share mps; leave it out, or say `accelerator=cpu`")
    if asked.world > 1 and started is None and hasattr(sys, "ps1"):
        raise ValueError("`devices`: each process runs the same program, which an interactive session is not")
    return asked


def is_first() -> bool:
    """Returns whether this process is the one that prints and writes; also after a run, and before it."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    if TorchElasticEnvironment.detect():
        return os.environ["RANK"] == "0"
    if _in_slurm():
        return os.environ.get("SLURM_PROCID", "0") == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))


def open_fabric(where: Processes, *, accelerator: str, strategy: Literal["auto", "ddp", "fsdp"]) -> Fabric:
    """Starts the processes that are not there yet and connects all of them, until the program ends.

    Connecting anew for another run could bring one process to what another is just about to close.
    """
    if where.world == 1 and strategy == "auto":
        return Fabric(accelerator=accelerator, devices=1)
    if strategy == "fsdp":
        chosen = ModelParallelStrategy(shard, data_parallel_size=where.world, tensor_parallel_size=1)
    else:
        chosen = DDPStrategy()
        # Of depth-wise convolutions: their gradients' strides say the same in another way.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    fabric = Fabric(accelerator=accelerator, devices=where.devices, num_nodes=where.nodes, strategy=chosen)
    atexit.register(_disconnect)
    try:
        fabric.launch()
    except (RuntimeError, dist.DistError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DualFormerError(f"the {where} could not be connected ({reason}); see what the others say") from error
    return fabric


def shard(objective: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shards an objective's network over the processes, by half blocks: only one of them at a time is ever whole, and
    what lies outside of them. Its ``clip_logits`` put them together as its forward pass does."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for half in [module for module in objective.modules() if isinstance(module, SubBlock | ConvolutionSubBlock)]:
        fully_shard(half, mesh=mesh["data_parallel"])
    # Without a backward pass that follows, as in validation, it would stay whole, and not see other weights.
    fully_shard(objective, mesh=mesh["data_parallel"], reshard_after_forward=True)
    register_fsdp_forward_method(objective, "clip_logits")
    return objective


def full_tensor(tensor: Tensor) -> Tensor:
    """Returns all of a tensor of which each process may hold a shard. All of them call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """Returns the shard that this process holds; what is written into it is written into ``tensor``."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class ProcessGroup:
    """The processes of a run and their collective operations: all processes call each method, in the same order.

    For one process alone they cost nothing.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.rank, self.world_size, self.device = fabric.global_rank, fabric.world_size, fabric.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def all_reduce(self, *values: float) -> list[float]:
        """Returns each value summed over the processes."""
        if self.world_size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return sums.tolist()

    def all_reduce_counts(self, counts: Tensor) -> Tensor:
        """Returns a tensor of whole numbers summed over the processes."""
        if self.world_size == 1:
            return counts
        sums = counts.to(self.device)
        dist.all_reduce(sums)
        return sums.to(counts.device)

    def all_gather(self, thing: T) -> list[T]:
        """Returns what each process passes, in their order."""
        if self.world_size == 1:
            return [thing]
        things: list[T | None] = [None] * self.world_size
        dist.all_gather_object(things, thing)
        return things  # pyright: ignore[reportReturnType]  # all are filled by now

    def broadcast(self, make: Callable[[], T]) -> T:
        """Returns, in all processes, what ``make`` returns in the first."""
        things = [make() if self.is_first else None]
        if self.world_size > 1:
            dist.broadcast_object_list(things, src=0)
        return things[0]  # pyright: ignore[reportReturnType]

    def barrier(self) -> None:
        """Waits until all processes are here."""
        self.all_reduce(0.0)

    def raise_if_any(self, failure: DualFormerError | None) -> None:
        """Raises in all processes if any has a failure: their own, or one with the first other one's message."""
        if self.all_reduce(float(failure is not None))[0]:
            messages = [message for message in self.all_gather(failure and str(failure)) if message]
            raise failure or DualFormerError(messages[0])

    def run_on_first(self, work: Callable[[], object]) -> None:
        """Calls ``work`` in the first process. If it fails, all fail."""
        failure = None
        if self.is_first:
            try:
                work()
            except DualFormerError as error:
                failure = error
        self.raise_if_any(failure)


class SyncBatchNorm3d(nn.BatchNorm3d):
    """In training, mean and variance are those of all processes' values; PyTorch's own does that on GPUs only.

    Processes may hold different numbers of clips: every value counts once.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (BatchNorm's name)
        """B C T H W → the same, normalised in float32."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input.float()
            axes, shape = (0, 2, 3, 4), (1, -1, 1, 1, 1)
            count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
            dist.all_reduce(count)
            mean = _AllSum.apply(x.sum(axes)) / count
            centred = x - mean.view(shape)
            variance = _AllSum.apply(centred.square().sum(axes)) / count
            self._update_running_statistics(mean.detach(), variance.detach() * (count / (count - 1).clamp_min(1)))
            normal = centred * (variance + self.eps).rsqrt().view(shape)
            return (normal * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _AllSum(torch.autograd.Function):
    """The sum over all processes; each of them has all the losses' gradients to pass on, hence their sum."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def convert_sync_batchnorm(module: nn.Module) -> int:
    """Makes every BatchNorm in ``module`` one over the batch of all processes, and returns how many there are."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm3d)]
    for norm in norms:
        norm.__class__ = SyncBatchNorm3d  # same parameters, buffers and names
    return len(norms)


def _started_by_launcher(nodes: int | None) -> Processes | None:
    """Returns the processes that another program has started, of which this is one."""
    if TorchElasticEnvironment.detect():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        return Processes(devices, int(os.environ["WORLD_SIZE"]) // devices)
    if _in_slurm():
        tasks, machines = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))
        if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise ValueError(f"SLURM was told --ntasks={tasks}: say --ntasks-per-node={tasks // machines} instead")
        return Processes(int(os.environ.get("SLURM_NTASKS_PER_NODE", tasks)), machines)
    if "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ:  # by hand, or by the first of them
        machines = nodes or 1
        return Processes(int(os.environ["WORLD_SIZE"]) // machines, machines)
    return None


def _disconnect() -> None:
    """Without it a process may hang or fail in its very last moment.

    Nothing may be left by then that holds on to the group of the processes (`TrainStep.close`). PyTorch itself holds on
    to it for weights that are cut. Its threads need Python's lock to forget what they sent last: where Python has ended
    by then, the whole process aborts, with all its work done.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(0.3)


def _in_slurm() -> bool:
    return "SLURM_NTASKS" in os.environ and SLURMEnvironment.detect()
