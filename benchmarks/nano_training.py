"""Seconds a training step of nano by number format, kind of attention and depth-wise convolution.

`python benchmarks/nano_training.py [ROUNDS]`: each variant takes a step in turn, ROUNDS times (default 15) after two
that are not counted; medians and ratios to the first row, as a Markdown table.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.attention import Attention
from dualformer.model.kernels import depthwise as convolutions
from dualformer.model.presets import create_model

CLIP = (16, 64, 64)
BATCH = 16


def fused(_: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def unfused(_: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """PyTorch fuses attention on four dimensions only."""
    return F.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=None if mask is None else mask[None]
    ).squeeze(0)


def follows_autocast(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, ...] = (1, 1, 1),
    padding: tuple[int, ...] = (0, 0, 0),
) -> Tensor:
    return F.conv3d(x, weight, bias, stride, padding, groups=weight.shape[0])


@contextmanager
def changed(attention: Callable | None = None, convolution: Callable | None = None) -> Iterator[None]:
    with (
        mock.patch.object(Attention, "forward", attention or Attention.forward),
        mock.patch.object(convolutions, "depthwise_conv3d", convolution or convolutions.depthwise_conv3d),
    ):
        yield


VARIANTS = {
    "float32, attention not fused": (torch.float32, {"attention": unfused}),
    "float32, as the code does it": (torch.float32, {}),
    "bfloat16, attention fused, convolutions in bfloat16": (
        torch.bfloat16,
        {"attention": fused, "convolution": follows_autocast},
    ),
    "bfloat16, attention explicit, convolutions in bfloat16": (torch.bfloat16, {"convolution": follows_autocast}),
    "bfloat16, attention fused, convolutions in float32": (torch.bfloat16, {"attention": fused}),
    "bfloat16, as the code does it": (torch.bfloat16, {}),
}


def step(model: nn.Module, video: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = model(video).logsumexp(dim=1).mean()
    middle = time.perf_counter()
    loss.backward()
    return middle - start, time.perf_counter() - middle


def main(rounds: int = 15) -> None:
    model = create_model("dualformer_nano", clip=CLIP, num_classes=8, seed=0).train()
    video = torch.randn(BATCH, 3, *CLIP)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for number in range(-2, rounds):
        for name, (dtype, changes) in VARIANTS.items():
            with changed(**changes):
                seconds = step(model, video, dtype)
            if number >= 0:
                times[name].append(seconds)
    print(f"batch {BATCH} of {CLIP[0]}x{CLIP[1]}x{CLIP[2]}; {platform.machine()}, {torch.get_num_threads()} threads of")
    print(f"{os.cpu_count()} cores, PyTorch {torch.__version__}; medians of {rounds}, in turn\n")
    print("| variant | forward, s | backward, s | step, times as fast |\n|---|---|---|---|")
    medians = {name: [statistics.median(part) for part in zip(*values, strict=True)] for name, values in times.items()}
    first = sum(next(iter(medians.values())))
    for name, (forward, backward) in medians.items():
        print(f"| {name} | {forward:.3f} | {backward:.3f} | {first / (forward + backward):.2f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
