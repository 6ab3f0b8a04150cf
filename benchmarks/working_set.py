"""Peak memory of a forward pass beyond the weights and the clip, of the plain network and of ours.

    python benchmarks/working_set.py --model dualformer_tiny --clip 32x224x224

Each figure is from a process of its own: its peak resident memory in the pass above what it held before, when the
network, the clip and PyTorch's own workspaces (from a pass of a nano network) were there.
"""

from __future__ import annotations

import argparse
import json
import statistics

import torch

from dualformer.model.config import parse_clip
from dualformer.model.presets import create_model
from own_process import reset_peak, resident_mib, run_side
from plain_network import PlainDualFormer

SIDES = ("plain", "ours")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def working_set(side: str, name: str, clip: str, batch: int, dtype: str) -> float:
    """MiB of one pass in this process (Linux)."""
    model = create_model(name, clip=parse_clip(clip), seed=0).eval()
    network = PlainDualFormer.of(model) if side == "plain" else model
    del model
    network = network.to(DTYPES[dtype])
    video = torch.randn((batch, 3, *parse_clip(clip)), dtype=DTYPES[dtype])
    with torch.no_grad():
        create_model("dualformer_nano", clip=(2, 32, 32)).eval()(torch.zeros((1, 3, 2, 32, 32)))
        before = resident_mib()
        reset_peak()
        network(video)
    return resident_mib("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dualformer_tiny")
    parser.add_argument("--clip", default="32x224x224")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=SIDES, help="measure in this process, as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(working_set(options.one, options.model, options.clip, options.batch, options.dtype)))
        return
    measured: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side, figures in measured.items():
            figures.append(run_side(side, options, "model clip batch dtype"))
    middle = {side: statistics.median(figures) for side, figures in measured.items()}
    print(
        f"{options.model}, clips of {options.clip}, batch {options.batch}, {options.dtype}, {torch.get_num_threads()} "
        f"threads, median of {options.rounds}\n\n| | MiB beyond weights and clip |\n|---|---|"
    )
    for side, figure in middle.items():
        print(f"| {side} | {figure:.0f} |")
    print(f"| ratio | {middle['ours'] / middle['plain']:.2f} |")


if __name__ == "__main__":
    main()
