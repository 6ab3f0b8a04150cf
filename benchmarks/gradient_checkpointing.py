"""Peak memory and time of a training step with and without gradient checkpointing, each step in a process of its own.

    python benchmarks/gradient_checkpointing.py --model dualformer_tiny --clip 32x224x224 --rounds 3

Both sides run in turn. Memory is the process's peak above what it held when the model and the clip were ready, so that
PyTorch itself does not count; gradients and the optimizer's state do. By default glibc is told to hand freed tensors
back, so that the peak is that of the tensors, as on a GPU; with ``--keep-freed`` it keeps and splits freed memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch

from dualformer.model.config import parse_clip
from dualformer.model.presets import create_model
from own_process import FREED_MEMORY_RETURNS, resident_mib, run_side


def step(name: str, clip: str, batch: int, checkpointing: bool) -> dict[str, float]:
    """One optimizer step in this process: seconds, MiB above the start, and the gradient's norm."""
    model = create_model(name, clip=parse_clip(clip), num_classes=400, drop_path=0.1, seed=0)
    model.set_grad_checkpointing(checkpointing)
    optimizer = torch.optim.AdamW(model.parameters())
    video = torch.randn((batch, 3, *parse_clip(clip)), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch)
    before = resident_mib()
    torch.manual_seed(0)
    begin = time.perf_counter()
    torch.nn.functional.cross_entropy(model(video), labels).backward()
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
    optimizer.step()
    return {"seconds": time.perf_counter() - begin, "mib": resident_mib("VmHWM") - before, "norm": norm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dualformer_tiny")
    parser.add_argument("--clip", default="32x224x224")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep-freed", action="store_true", help="leave glibc's allocator as it is")
    parser.add_argument("--one", choices=["plain", "checkpointed"], help="a single step in this process, as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(step(options.model, options.clip, options.batch, options.one == "checkpointed")))
        return
    allocator = {} if options.keep_freed else FREED_MEMORY_RETURNS
    measured: dict[str, list[dict[str, float]]] = {"plain": [], "checkpointed": []}
    for _ in range(options.rounds):
        for side, steps in measured.items():
            steps.append(run_side(side, options, "model clip batch", allocator))
            print(f"{side}: {steps[-1]['seconds']:.1f} s, {steps[-1]['mib']:.0f} MiB", file=sys.stderr, flush=True)
    middle = {
        side: {key: statistics.median(s[key] for s in steps) for key in steps[0]} for side, steps in measured.items()
    }
    plain, frugal = middle["plain"], middle["checkpointed"]
    print(
        f"{options.model}, clips of {options.clip}, batch {options.batch}, {torch.get_num_threads()} threads, float32, "
        f"freed memory {'kept' if options.keep_freed else 'handed back'}\n"
    )
    print("| | peak MiB | seconds a step | norm of the gradient |\n|---|---|---|---|")
    for side, row in middle.items():
        print(f"| {side} | {row['mib']:.0f} | {row['seconds']:.1f} | {row['norm']:.6f} |")
    ratios = (frugal["mib"] / plain["mib"], frugal["seconds"] / plain["seconds"], frugal["norm"] / plain["norm"])
    print(f"| ratio | {ratios[0]:.2f} | {ratios[1]:.2f} | {ratios[2]:.6f} |")


if __name__ == "__main__":
    main()
