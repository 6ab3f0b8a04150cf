"""Seconds a training step by number format, kind of attention, gradients of depth-wise convolutions, order of pixels.

    python benchmarks/nano_training.py [ROUNDS] [--model dualformer_nano_conv] [--clip 16x64x64] [--batch 16]
        [--only TEXT ...]

Each variant takes a step in turn, ROUNDS times (default 15) after two that are not counted. Medians and ratios to the
first row, as a Markdown table: by the clock, and by the time of all threads on the processor, which other work on the
machine lengthens less. ``--only`` takes the variants that have one of the texts in their name.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.inference.allocator import keep_freed_memory
from dualformer.model import convolution as stem
from dualformer.model.attention import Attention
from dualformer.model.config import parse_clip
from dualformer.model.kernels import depthwise as convolutions
from dualformer.model.presets import create_model


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
    training: bool = False,
) -> Tensor:
    return F.conv3d(x, weight, bias, stride, padding, groups=weight.shape[0])


FUSED = (Attention, "forward", fused)
UNFUSED = (Attention, "forward", unfused)
FOLLOWS_AUTOCAST = (convolutions, "depthwise_conv3d", follows_autocast)
GRADIENTS_BY_PYTORCH = (convolutions, "_trains_faster", lambda *_: False)
PIXELS_AS_THEY_COME = (stem, "channels_last", lambda x: x)

#: The number format, and what is put in place of what.
VARIANTS: dict[str, tuple[torch.dtype, tuple[tuple[Any, str, Callable[..., Any]], ...]]] = {
    "float32, attention not fused": (torch.float32, (UNFUSED,)),
    "float32, gradients by PyTorch, pixels as they come": (torch.float32, (GRADIENTS_BY_PYTORCH, PIXELS_AS_THEY_COME)),
    "float32, gradients by PyTorch": (torch.float32, (GRADIENTS_BY_PYTORCH,)),
    "float32, pixels as they come": (torch.float32, (PIXELS_AS_THEY_COME,)),
    "float32, as the code does it": (torch.float32, ()),
    "bfloat16, attention fused, convolutions in bfloat16": (torch.bfloat16, (FUSED, FOLLOWS_AUTOCAST)),
    "bfloat16, attention explicit, convolutions in bfloat16": (torch.bfloat16, (FOLLOWS_AUTOCAST,)),
    "bfloat16, attention fused, convolutions in float32": (torch.bfloat16, (FUSED,)),
    "bfloat16, gradients by PyTorch": (torch.bfloat16, (GRADIENTS_BY_PYTORCH,)),
    "bfloat16, as the code does it": (torch.bfloat16, ()),
}


def step(model: nn.Module, video: Tensor, dtype: torch.dtype) -> tuple[float, float, float]:
    """Seconds of the forward pass, of the backward pass, and of both on the processor."""
    start, computed = time.perf_counter(), time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = model(video).float().logsumexp(dim=1).mean()
    middle = time.perf_counter()
    loss.backward()
    return middle - start, time.perf_counter() - middle, time.process_time() - computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=15)
    parser.add_argument("--model", default="dualformer_nano")
    parser.add_argument("--clip", type=parse_clip, default=(16, 64, 64))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT")
    options = parser.parse_args()
    keep_freed_memory()  # as `dualformer train` does
    variants = {name: VARIANTS[name] for name in VARIANTS if any(text in name for text in options.only)}
    model = create_model(options.model, clip=options.clip, num_classes=8, seed=0).train()
    video = torch.randn(options.batch, 3, *options.clip)
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in variants}
    for number in range(-2, options.rounds):
        for name, (dtype, changes) in variants.items():
            with ExitStack() as stack:
                for target, attribute, replacement in changes:
                    stack.enter_context(mock.patch.object(target, attribute, replacement))
                seconds = step(model, video, dtype)
            if number >= 0:
                times[name].append(seconds)
    print(f"{options.model}, batch {options.batch} of {'x'.join(map(str, options.clip))}; {platform.machine()},")
    print(f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},")
    print(f"PyTorch {torch.__version__}; medians of {options.rounds}, in turn\n")
    print("| variant | forward, s | backward, s | times as fast | processor, s | times as fast |")
    print("|---|---|---|---|---|---|")
    medians = {name: [statistics.median(part) for part in zip(*values, strict=True)] for name, values in times.items()}
    by_clock, by_processor = 0.0, 0.0
    for name, (forward, backward, computed) in medians.items():
        by_clock, by_processor = by_clock or forward + backward, by_processor or computed
        print(
            f"| {name} | {forward:.3f} | {backward:.3f} | {by_clock / (forward + backward):.2f} | {computed:.3f} | "
            f"{by_processor / computed:.2f} |"
        )


if __name__ == "__main__":
    main()
