"""Times as fast as the plain network: both sides in turns in one process, on the same clips, with the same weights.

    python benchmarks/speed.py                                  # Tiny, batch 1 and 8: minutes on two idle cores
    python benchmarks/speed.py --models dualformer_small dualformer_base --batches 1
    python benchmarks/speed.py --batches 1 --allocator tuned    # both sides with freed memory kept

`plain_network.py` is what the released code computes, as most code would write it. The other sides are what
`dualformer predict` runs, and threads wait as its do. Everything is timed from 8-bit views to probabilities. "Of peak"
is 2 x multiply-adds / time, against the fastest matrix product of the same number format in the same rounds.
"Difference" is the largest one between the logarithms of probabilities and those of the plain network in float32; the
classifier's random weights are scaled up so that probabilities differ as a trained network's do. "Batch 1 / this"
compares the time for a clip.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dualformer.bench.bench_settings import Backend, Dtype, Setting
from dualformer.bench.exports import make_exports
from dualformer.bench.interleave import time_interleaved
from dualformer.bench.machine_info import describe_machine, matmul_peak
from dualformer.bench.prepared_network import prepare_network, preset_card, random_views
from dualformer.bench.table import markdown_table
from dualformer.inference.allocator import keep_freed_memory
from dualformer.model.config import Size3, parse_clip
from dualformer.model.cost import measure_cost
from dualformer.model.presets import create_model
from dualformer.scoring.view_scores import view_probabilities
from dualformer.weights.safetensors_file import load_weights, save_weights
from own_process import wait_as_the_command_line
from plain_network import PlainDualFormer

SIDES: dict[str, tuple[Backend, Dtype] | None] = {
    "plain float32": None,
    "plain bfloat16": None,
    "eager float32": ("eager", "float32"),
    "eager bfloat16": ("eager", "bfloat16"),
    "openvino float32": ("openvino", "float32"),
    "openvino bfloat16": ("openvino", "bfloat16"),
    "openvino int8": ("openvino", "int8"),
    "onnx float32": ("onnx", "float32"),
    "torch float32": ("torch", "float32"),
    "torch bfloat16": ("torch", "bfloat16"),
}

Answer = Callable[[], NDArray[np.float32]]


def plain_side(weights: Path, clip: Size3, batch: int, dtype: str) -> Answer:
    model, card = load_weights(weights)
    plain, views = PlainDualFormer.of(model).eval(), random_views(clip, batch)
    precision = "bfloat16" if dtype == "bfloat16" else "float32"
    pre, device = card.preprocessing, torch.device("cpu")
    return lambda: view_probabilities(plain, views, pre, device=device, batch_size=batch, precision=precision).numpy()


def product_side(setting: Setting, exported: Path | None) -> Answer:
    prepared = prepare_network(setting, device="cpu", exported=exported)
    return lambda: prepared.recognizer.predict_views(prepared.views)


def sides(weights: Path, clip: Size3, options: argparse.Namespace, folder: Path) -> dict[tuple[int, str], Answer]:
    """Every side ready to run, by batch and name: probabilities (batch, classes) of the same views for all."""
    settings = {
        (batch, name): Setting(
            model=str(weights),
            clip=clip,
            batch=batch,
            backend=way[0],
            dtype=way[1],
            threads=torch.get_num_threads(),
        )
        for batch in options.batches
        for name in options.sides
        if (way := SIDES[name]) is not None
    }
    exports = make_exports(list(settings.values()), folder, say=lambda line: print(line, file=sys.stderr, flush=True))
    return {
        (batch, name): product_side(setting, exports.get(setting))
        if (setting := settings.get((batch, name)))
        else plain_side(weights, clip, batch, name.split()[-1])
        for batch in options.batches
        for name in options.sides
    }


def measure(name: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One row for each side and batch of one network."""
    clip, threads = parse_clip(options.clip), torch.get_num_threads()
    model = create_model(name, clip=clip, seed=0)
    model.state_dict()["head.weight"].mul_(30)
    weights = folder / f"{name}.safetensors"
    save_weights(weights, model, preset_card(model))
    macs = measure_cost(model.config, clip).macs
    del model
    exports = folder / name
    exports.mkdir()
    answers: dict[tuple[int, str], NDArray[np.float32]] = {}

    def answering(key: tuple[int, str], answer: Answer) -> Callable[[], None]:
        def work() -> None:
            answers[key] = answer()

        return work

    works = {key: answering(key, answer) for key, answer in sides(weights, clip, options, exports).items()}
    peaks: dict[str, list[float]] = {"float32": [], "bfloat16": []}

    def products() -> None:
        for dtype, found in peaks.items():
            found.append(matmul_peak(getattr(torch, dtype), threads, seconds=0.3))

    def progress(done: float, total: float) -> None:
        print(f"{name}: {done:.0f} of {total:.0f} s", file=sys.stderr, flush=True)

    taken = time_interleaved(works, rounds=options.rounds, between=products, progress=progress)
    middle = {key: median(times) for key, times in taken.items()}
    table = []
    for (batch, each), seconds in middle.items():
        dtype = each.split()[-1]
        peak = median(peaks[dtype]) if dtype in peaks else None
        table.append(
            {
                "model": name,
                "batch": batch,
                "side": each,
                "seconds": seconds,
                "runs": len(taken[batch, each]),
                "times_plain": middle[batch, "plain float32"] / seconds,
                "of_peak": None if peak is None else 2 * macs * batch / seconds / peak,
                "peak": peak,
                "batch1_over_this": middle[1, each] * batch / seconds if (1, each) in middle else None,
                "difference": float(np.abs(np.log(answers[batch, each] / answers[batch, "plain float32"])).max()),
            }
        )
    return table


def cells(row: dict[str, Any]) -> list[str]:
    return [
        row["model"].removeprefix("dualformer_"),
        str(row["batch"]),
        row["side"],
        f"{1000 * row['seconds'] / row['batch']:.0f}",
        f"{row['times_plain']:.2f}",
        "–" if row["of_peak"] is None else f"{row['of_peak']:.0%}",
        "–" if row["batch1_over_this"] is None else f"{row['batch1_over_this']:.2f}",
        f"{row['difference']:.1e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["dualformer_tiny"])
    parser.add_argument("--clip", default="32x224x224")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES)[:7], help="as 'eager float32'")
    parser.add_argument("--allocator", choices=["default", "tuned"], default="default")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    wait_as_the_command_line()
    if options.allocator == "tuned" and not keep_freed_memory():
        parser.error("--allocator tuned: this system's allocator is not glibc's, and is not tuned")
    options.sides = list(dict.fromkeys(["plain float32", *options.sides]))
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        table = [row for name in options.models for row in measure(name, options, Path(folder))]
    if options.json:
        print(json.dumps({"machine": dataclasses.asdict(machine), "arguments": sys.argv[1:], "rows": table}))
        return
    print(f"Machine: {machine}.")
    print(f"{options.clip}, {torch.get_num_threads()} threads, {options.rounds} rounds, allocator {options.allocator}")
    for name in options.models:
        found = {row["side"].split()[-1]: row["peak"] for row in table if row["model"] == name and row["peak"]}
        print(
            f"matrix-multiply peak beside {name}: "
            + ", ".join(f"{v / 1e9:.0f} GFLOP/s in {k}" for k, v in found.items())
        )
    print()
    head = ["model", "batch", "side", "ms a clip", "times plain", "of peak", "batch 1 / this", "difference"]
    print("\n".join(markdown_table(head, [cells(row) for row in table])))


if __name__ == "__main__":
    main()
