"""Speed and memory of networks on a device, ours beside others'.

Measured is the network alone: from normalised clips on the device to logits, and a whole training step (forward,
cross-entropy, backward, AdamW). Networks of a group run in turns with matrix products between the rounds, whose median
is the peak that shares are of. Multiply-adds are counted as `peer_models.py` does, once forward; a training step counts
as three of them. `gpu.py` runs these.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import peer_models
from dualformer.bench.interleave import percentile, time_interleaved
from dualformer.bench.machine_info import matmul_peak
from dualformer.bench.peak_memory import peak_on_gpu
from dualformer.errors import DualFormerError
from dualformer.model.config import Size3
from dualformer.model.cost import measure_cost
from dualformer.model.network import DualFormer
from dualformer.model.presets import preset_config
from gpu_checks import SMALL, NotDone, Target
from gpu_runs import captured

Task = Literal["forward", "training step"]
Way = Literal["eager", "CUDA graph", "compiled", "compiled, CUDA graphs"]
WAYS: tuple[Way, ...] = ("eager", "CUDA graph", "compiled", "compiled, CUDA graphs")
OURS = {"DualFormer-T": "dualformer_tiny", "DualFormer-S": "dualformer_small", "DualFormer-B": "dualformer_base"}
PEERS = ("VideoMAE-B", "ViViT-B", "Hiera-B by frames")
QUICK_PEERS: Mapping[str, dict[str, Any]] = {
    "VideoMAE-B": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    "ViViT-B": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    "Hiera-B by frames": {"embed_dim": 8, "depths": [1, 1, 1, 1]},
}
QUICK_COMPILED = {("forward", "DualFormer-T"), ("forward", "VideoMAE-B")}
"""What runs compiled with ``quick``, by PyTorch's tracer alone."""
FAILURES = (RuntimeError, DualFormerError, NotDone)
"""What keeps one network of a group from being measured: no memory, no kernel, no compiler."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How networks are measured."""

    target: Target
    clip: Size3
    batch: int
    """Clips of a forward pass."""
    step_batch: int
    """Clips of a training step."""
    dtype: torch.dtype
    """bfloat16 is autocast."""
    seconds: float
    """About how long a group runs in turns."""

    def batch_of(self, task: Task) -> int:
        return self.batch if task == "forward" else self.step_batch

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.target.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def peak(self) -> float:
        """Floating-point operations a second of the fastest large matrix product; measured once with ``quick``."""
        return (
            _peak_once(self.dtype, self.target.device) if self.target.quick else _peak(self.dtype, self.target.device)
        )


def _peak(dtype: torch.dtype, device: torch.device) -> float:
    return matmul_peak(dtype, None, device, seconds=0.2)


_peak_once = cache(_peak)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network, run in one way. Times in seconds, memory in bytes."""

    network: str
    task: Task
    way: Way
    batch: int
    gmacs: float
    """10⁹ multiply-adds of a clip, forward."""
    parameters: int
    runs: int
    p50: float
    p95: float
    clips_per_second: float
    flops: float
    """Floating-point operations a second by the median."""
    share: float
    """Of the matrix products' in the same rounds."""
    memory: int | None
    """Most bytes: weights, gradients, optimizer and tensors; of CUDA graphs what they keep reserved. None on a CPU."""
    ratio: float
    """Time of the first network of the group, divided by this one's."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Networks that run in turns."""

    task: Task
    entries: tuple[tuple[str, Way], ...]
    """Name of the network, and how it is run."""

    def __str__(self) -> str:
        names = ", ".join(dict.fromkeys(name for name, _ in self.entries))
        ways = ", ".join(dict.fromkeys(way for _, way in self.entries))
        return f"{self.task}, {ways}: {names}"


def groups() -> list[Group]:
    """From quick to slow: all networks without a compiler, then ours compiled, small ones first, then the others."""
    tasks: tuple[Task, ...] = ("forward", "training step")
    plain: tuple[Way, ...] = WAYS[:2]
    found = [
        Group(task=task, entries=tuple((name, way) for name in (*OURS, *PEERS) for way in plain)) for task in tasks
    ]
    for name in OURS:
        found += [Group(task=task, entries=tuple((name, way) for way in WAYS)) for task in tasks]
    for task in tasks:
        entries: list[tuple[str, Way]] = [(next(iter(OURS)), "compiled")]
        found.append(Group(task=task, entries=(*entries, *((name, "compiled") for name in PEERS))))
    return found


@dataclass(kw_only=True)
class _Ready:
    """A network that can be run."""

    run: Callable[[], None]
    macs: float
    parameters: int
    held: int
    """Bytes that it keeps between runs."""
    fixed: int | None
    """Bytes that its CUDA graphs and all else of it keep reserved; None without graphs."""


def measure_group(plan: Plan, group: Group) -> tuple[list[Row], dict[str, str], float]:
    """Returns the rows, reasons by ``network, way`` for those that could not be measured, and the peak."""
    ready: dict[tuple[str, Way], _Ready] = {}
    missing: dict[str, str] = {}
    for entry in group.entries:
        try:
            ready[entry] = _prepare(plan, group.task, *entry)
        except FAILURES as error:
            missing[", ".join(entry)] = _reason(error)
            _collect(plan)
    if not ready:
        return [], missing, 0.0
    peaks: list[float] = []
    taken = time_interleaved(
        {entry: one.run for entry, one in ready.items()},
        rounds=1 if plan.target.quick else None,
        seconds=plan.seconds,
        between=lambda: peaks.append(plan.peak()),
    )
    peak, first = median(peaks), median(next(iter(taken.values())))
    rows = []
    batch = plan.batch_of(group.task)
    for (name, way), one in ready.items():
        p50 = median(taken[name, way])
        passes = 1 if group.task == "forward" else 3
        flops = 2 * passes * one.macs * batch / p50
        memory = one.fixed
        if memory is None and plan.target.device.type == "cuda":
            memory = one.held + peak_on_gpu(one.run, plan.target.device)
        rows.append(
            Row(
                network=name,
                task=group.task,
                way=way,
                batch=batch,
                gmacs=one.macs / 1e9,
                parameters=one.parameters,
                runs=len(taken[name, way]),
                p50=p50,
                p95=percentile(taken[name, way], 95),
                clips_per_second=batch / p50,
                flops=flops,
                share=flops / peak,
                memory=memory,
                ratio=first / p50,
            )
        )
    ready.clear()
    _collect(plan)
    return rows, missing, peak


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "the device has no memory for it: take a smaller --batch or --step-batch"
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _collect(plan: Plan) -> None:
    gc.collect()
    if plan.target.device.type == "cuda":
        torch.cuda.empty_cache()


def _prepare(plan: Plan, task: Task, name: str, way: Way) -> _Ready:
    """Makes a network and runs it once. Errors: `FAILURES`."""
    target = plan.target
    if "graph" in way.lower():
        target.need_graphs()
    if target.quick and way.startswith("compiled") and (task, name) not in QUICK_COMPILED:
        raise NotDone("--quick leaves the compiler out")
    on_cuda = target.device.type == "cuda"
    _collect(plan)
    before = (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) if on_cuda else (0, 0)
    model, macs = make_network(plan, name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    video = torch.randn((plan.batch_of(task), 3, *plan.clip), generator=torch.Generator().manual_seed(0)).to(
        target.device
    )
    if task == "forward":
        model = model.fold() if isinstance(model, DualFormer) else model.eval()
    network = _compiled(target, model, way) if way.startswith("compiled") else model
    run = (_forward if task == "forward" else _training_step)(plan, network, video)
    if way == "CUDA graph":
        run = captured(run)

    def timed() -> None:
        run()
        target.wait()

    for _ in range(3):  # CUDA graphs of the compiler are captured in the second run
        timed()
    after = (torch.cuda.memory_allocated(), 0) if on_cuda else (0, 0)
    _collect(plan)
    fixed = torch.cuda.memory_reserved() - before[1] if on_cuda and "graph" in way.lower() else None
    return _Ready(run=timed, macs=macs, parameters=parameters, held=after[0] - before[0], fixed=fixed)


def make_network(plan: Plan, name: str) -> tuple[nn.Module, float]:
    """On the device, with multiply-adds of a clip. Errors: `NotDone` for a library that is not installed."""
    device = plan.target.device
    if name in OURS:
        config = SMALL["Nano"] if plan.target.quick else preset_config(OURS[name], clip=plan.clip)
        cost = measure_cost(config, plan.clip)
        return DualFormer(config, seed=0).to(device), cost.linear + cost.attention + cost.convolution
    library, build = peer_models.PEERS[name]
    try:
        imported = importlib.import_module(library)
    except (ImportError, RuntimeError, OSError) as error:
        raise NotDone(f"{library} does not import ({_reason(error)}): pip install {library}") from error
    changes = QUICK_PEERS[name] if plan.target.quick else {}
    with torch.device("meta"):
        counted = build(imported, plan.clip, **changes).eval()
        macs = peer_models.multiply_adds(counted, torch.empty((1, 3, *plan.clip)))
    return build(imported, plan.clip, **changes).to(device), macs


def _compiled(target: Target, model: nn.Module, way: Way) -> nn.Module:
    mode = "default" if way == "compiled" else "reduce-overhead"
    if isinstance(model, DualFormer):
        return target.compiled(model, mode)
    if target.quick:
        model.compile(backend="eager", dynamic=False)
    else:
        model.compile(mode=mode, dynamic=False)
    return model


def _forward(plan: Plan, network: nn.Module, video: Tensor) -> Callable[[], None]:
    def run() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad(), plan.autocast():
            network(video)

    return run


def _training_step(plan: Plan, network: nn.Module, video: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, capturable=plan.target.device.type == "cuda")
    labels = torch.arange(len(video), device=video.device) % 5

    def run() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        with plan.autocast():
            logits = network(video)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return run
