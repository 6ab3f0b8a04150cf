"""Where the time of a forward pass goes: stages against a roofline, and kernels against what they replace.

A stage's roofline is that of the operations that eager PyTorch runs in it, with the peak of matrix products and the
bandwidth of a copy, both measured in the same run. `gpu.py` runs these.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from dualformer.bench.interleave import time_interleaved
from dualformer.model.kernels.attention import attention_weights
from dualformer.model.kernels.depthwise import by_cells, by_frames
from dualformer.model.network import DualFormer
from gpu_checks import Target
from gpu_measurements import Plan, make_network


class Roofline(TorchDispatchMode):
    """Adds up, operation by operation, how long the device needs at the least.

    Of each the longer one of two counts: its multiply-adds at the matrix products' peak, or its inputs and outputs at
    the memory's bandwidth. Views cost nothing.
    """

    def __init__(self, *, peak: float, bandwidth: float) -> None:
        super().__init__()
        self._peak, self._bandwidth = peak, bandwidth
        self.flops = self.bytes = 0.0
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(result.alias_info and not result.alias_info.is_write for result in func._schema.returns):
            return out  # a view
        packet = func.overloadpacket
        on_cpu = "_scaled_dot_product_flash_attention_for_cpu"
        count = flop_registry.get(
            torch.ops.aten._scaled_dot_product_flash_attention if packet.__name__ == on_cpu else packet
        )
        flops = float(count(*args, **(kwargs or {}), out_val=out)) if count else 0.0
        moved = {
            (tensor.data_ptr(), tensor.numel()): tensor.numel() * tensor.element_size()
            for tensor in tree_leaves((args, kwargs, out))
            if isinstance(tensor, Tensor)
        }
        self.flops += flops
        self.bytes += sum(moved.values())
        self.seconds += max(flops / self._peak, sum(moved.values()) / self._bandwidth)
        return out


def memory_bandwidth(target: Target) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.zeros((2**22 if target.quick else 2**30), dtype=torch.uint8, device=target.device)
    kept = torch.empty_like(source)

    def copy() -> None:
        kept.copy_(source)
        target.wait()

    taken = time_interleaved({"copy": copy}, rounds=3)
    return 2 * source.numel() / min(taken["copy"])


def measure_stages(plan: Plan, name: str, *, bandwidth: float) -> list[dict[str, Any]]:
    """Returns for each stage of a network, in eager PyTorch for inference, its time and the least by the roofline."""
    model, _ = make_network(plan, name)
    assert isinstance(model, DualFormer)
    model.fold()
    x = torch.randn((plan.batch, 3, *plan.clip), generator=torch.Generator().manual_seed(0)).to(plan.target.device)
    inputs: list[Tensor] = []
    with torch.no_grad(), plan.autocast():
        for stage in model.stages:
            inputs.append(x)
            x = stage(x).permute(0, 4, 1, 2, 3)

    def runner(number: int) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad(), plan.autocast():
                model.stages[number](inputs[number])
            plan.target.wait()

        return run

    peaks: list[float] = []
    runs = {number: runner(number) for number in range(len(inputs))}
    taken = time_interleaved(runs, rounds=1 if plan.target.quick else 10, between=lambda: peaks.append(plan.peak()))
    rows = []
    for number, run in runs.items():
        with Roofline(peak=median(peaks), bandwidth=bandwidth) as least:
            run()
        seconds = median(taken[number])
        rows.append(
            {
                "network": name,
                "stage": number + 1,
                "seconds": seconds,
                "flops": least.flops,
                "bytes": least.bytes,
                "least_by_flops": least.flops / median(peaks),
                "least_by_bytes": least.bytes / bandwidth,
                "least": least.seconds,
                "share": least.seconds / seconds,
            }
        )
    return rows


# Kernels against what they replace


def measure_kernels(plan: Plan) -> list[dict[str, Any]]:
    """Forward and backward pass of each rewriting beside PyTorch's own operation, on maps as Tiny's first stage has."""
    channels, (t, h, w) = (8, (2, 8, 8)) if plan.target.quick else (64, (16, 56, 56))
    cell, device, dtype = (2, h // 4, w // 4), plan.target.device, plan.dtype

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype).requires_grad_()

    tokens = draw(plan.batch, t, h, w, channels).detach().permute(0, 4, 1, 2, 3).requires_grad_()
    pixels, filters = draw(plan.batch, 3, *plan.clip), draw(channels, 3, 2, 4, 4)
    around, cells, bias = draw(channels, 1, 3, 3, 3), draw(channels, 1, *cell), draw(channels)
    q, k, v = (draw(plan.batch, 2, length, 32) for length in (t * h * w // 4, 392, 392))
    pairs: dict[str, tuple[tuple[Tensor, ...], Callable[..., Tensor], Callable[..., Tensor]]] = {
        "by_frames (position encoding)": (
            (tokens, around, bias),
            by_frames,
            lambda x, weight, bias: F.conv3d(x, weight, bias, padding=1, groups=channels),
        ),
        "by_cells (pyramid)": (
            (tokens, cells, bias),
            by_cells,
            lambda x, weight, bias: F.conv3d(x, weight, bias, cell, groups=channels),
        ),
        "patches as a matrix product": (
            (pixels, filters, bias),
            _patches_as_product,
            lambda x, weight, bias: F.conv3d(x, weight, bias, (2, 4, 4)),
        ),
        "fused attention": (
            (q, k, v),
            F.scaled_dot_product_attention,
            lambda q, k, v: attention_weights(q, k) @ v,
        ),
    }
    rows = []
    for name, (inputs, ours, theirs) in pairs.items():
        for task in ("forward", "forward and backward"):

            def runner(function: Callable[..., Tensor], inputs: tuple = inputs, task: str = task) -> Callable[[], None]:
                def run() -> None:
                    with torch.set_grad_enabled(task != "forward"):
                        out = function(*inputs)
                    if task != "forward":
                        torch.autograd.grad(out, inputs, torch.ones_like(out))
                    plan.target.wait()

                return run

            taken = time_interleaved(
                {"ours": runner(ours), "replaced": runner(theirs)}, rounds=1 if plan.target.quick else 5
            )
            one, other = median(taken["ours"]), median(taken["replaced"])
            rows.append({"kernel": name, "task": task, "seconds": one, "replaced": other, "ratio": other / one})
    return rows


def _patches_as_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    t, h, w = weight.shape[2:]
    patches = x.unflatten(4, (-1, w)).unflatten(3, (-1, h)).unflatten(2, (-1, t)).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return F.linear(patches.flatten(4), weight.flatten(1), bias)
