"""Time and peak memory of a training step: the plain network in float32, ours in float32 and in bfloat16.

    python benchmarks/training_step.py --model dualformer_tiny --clip 16x224x224 --rounds 5

A step is forward, cross-entropy, backward and AdamW, ours as one operation as `dualformer train` has it, with autocast
for bfloat16. Times are of all sides in turn in this process, whose threads wait as those of the command line, the
allocator as the system has it or, with ``--keep-freed``, as `dualformer train` sets it. Peaks are each from a process
of its own that takes one step: resident memory above what it held with the network and the clip ready; gradients and
the optimizer's state count. There glibc is told to hand freed tensors back at once, so that the peak is that of the
tensors, as on a GPU, and not of the allocator's holes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import torch

from dualformer.bench.interleave import time_interleaved
from dualformer.inference.allocator import keep_freed_memory
from dualformer.model.config import parse_clip
from dualformer.model.presets import create_model
from own_process import FREED_MEMORY_RETURNS, reset_peak, resident_mib, run_side, wait_as_the_command_line
from plain_network import PlainDualFormer

SIDES = ("plain float32", "ours float32", "ours bfloat16")


def stepper(side: str, name: str, clip: str, batch: int) -> Callable[[], float]:
    """A function that takes one step and returns the loss."""
    whose, dtype = side.split()
    model = create_model(name, clip=parse_clip(clip), num_classes=400, dropout=0.0, seed=0)
    network = PlainDualFormer.of(model) if whose == "plain" else model
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=whose == "ours")
    video = torch.randn((batch, 3, *parse_clip(clip)), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(network(video).float(), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def peak(side: str, name: str, clip: str, batch: int) -> dict[str, float]:
    """MiB of one step in this process (Linux), and its loss."""
    step = stepper(side, name, clip, batch)
    before = resident_mib()
    reset_peak()
    loss = step()
    return {"mib": resident_mib("VmHWM") - before, "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dualformer_tiny")
    parser.add_argument("--clip", default="16x224x224")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep-freed", action="store_true", help="set the allocator as dualformer train does")
    parser.add_argument("--one", choices=SIDES, help="the peak of a step in this process, as JSON")
    options = parser.parse_args()
    wait_as_the_command_line()
    if options.keep_freed:
        keep_freed_memory()
    if options.one:
        print(json.dumps(peak(options.one, options.model, options.clip, options.batch)))
        return
    peaks = {side: run_side(side, options, "model clip batch", FREED_MEMORY_RETURNS) for side in SIDES}
    steps = {side: stepper(side, options.model, options.clip, options.batch) for side in SIDES}
    times = time_interleaved(steps, rounds=options.rounds)
    print(
        f"{options.model}, clips of {options.clip}, batch {options.batch}, {torch.get_num_threads()} threads, median "
        f"of {options.rounds}, allocator {'keeps what is freed' if options.keep_freed else 'as the system has it'}\n"
    )
    print("| | seconds a step | times as fast | peak MiB | of the plain network's | loss of the first step |")
    print("|---|---|---|---|---|---|")
    base = statistics.median(times[SIDES[0]]), peaks[SIDES[0]]["mib"]
    for side in SIDES:
        seconds, mib = statistics.median(times[side]), peaks[side]["mib"]
        print(
            f"| {side} | {seconds:.2f} | {base[0] / seconds:.2f} | {mib:.0f} | {mib / base[1]:.2f} | "
            f"{peaks[side]['loss']:.4f} |"
        )


if __name__ == "__main__":
    main()
