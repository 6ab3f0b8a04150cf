"""Everything about a GPU in one command: is it right there, and how fast is it beside others?

    pip install -c constraints.txt transformers onnx onnxscript onnxruntime  # optional
    python benchmarks/gpu.py --minutes 8
    python benchmarks/gpu.py --device cpu --quick  # tiny networks and clips: does the script itself run?

First come checks: what the tests check on a CPU (kernels, networks, compiler, training, exports) is checked on the
device. Then Tiny, Small and Base are measured beside networks of transformers, forward and training step, eager,
compiled and with CUDA graphs, from quick to slow until the minutes are over. Nothing is downloaded.

Everything goes into a JSON file, written anew after each part, and is printed as the Markdown of docs/speed.md. What
the device, or what is installed, cannot do is listed as not done with its reason, and so is what did not fit into the
minutes. A failed check, or a measurement that fails, makes the exit code 1, and the rest still runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import gpu_checks
import gpu_runs
from dualformer.bench.machine_info import describe_machine
from dualformer.bench.table import markdown_table
from dualformer.files import write_json
from dualformer.inference.view_classifier import choose_device
from dualformer.model.config import parse_clip
from dualformer.training.precision import choose_precision
from gpu_checks import NotDone, Target
from gpu_measurements import OURS, Group, Plan, groups, measure_group
from gpu_roofline import measure_kernels, measure_stages, memory_bandwidth

CHECKS: dict[str, Callable[[Target], str]] = {
    "attention": gpu_checks.attention,
    "linear layers and MLP": gpu_checks.linear_layers,
    "depth-wise convolution, by_cells": gpu_checks.cells,
    "depth-wise convolution, by_frames": gpu_checks.frames,
    "patches as matrix products": gpu_checks.patches,
    "networks, forward and gradients": gpu_checks.networks,
    "networks, statistics of the batch": gpu_checks.batch_statistics,
    "networks, other clip sizes": gpu_checks.other_sizes,
    "folded networks": gpu_checks.inference,
    "tiles and clips on threads": gpu_runs.tiled,
    "nothing waits for the GPU": gpu_runs.never_waits,
    "gradient checkpointing": gpu_runs.checkpointing,
    "CUDA graphs": gpu_runs.graphs,
    "prediction of a file": gpu_runs.predicting,
    "resumed training": gpu_runs.resuming,
    "mixed precision": gpu_runs.mixed_precision,
    "export, PyTorch": gpu_runs.exporting_torch,
    "export, ONNX": gpu_runs.exporting_onnx,
    "torch.compile": gpu_runs.compiling,
    "torch.compile with CUDA graphs": gpu_runs.compiling_with_graphs,
    "training to its accuracy": gpu_runs.training,
}
"""From quick to slow."""


class Report:
    """What was found so far, in a JSON file."""

    def __init__(self, path: Path, **about: Any) -> None:
        self._path = path
        self.content: dict[str, Any] = {
            **about,
            "checks": [],
            "kernels": [],
            "measurements": [],
            "stages": [],
            "not_done": {},
            "failed": {},
        }
        self.write()

    def write(self) -> None:
        write_json(self._path, self.content)

    def not_done(self, what: str, reason: str) -> None:
        print(f"not done: {what}: {reason}", file=sys.stderr, flush=True)
        self.content["not_done"][what] = reason

    def failed(self, what: str, error: Exception) -> str:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
        print(f"FAILED: {what}: {reason}", file=sys.stderr, flush=True)
        self.content["failed"][what] = reason
        return reason


class Clock:
    """The minutes that there are. A part begins only if as much time is left as one of its kind took before."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes
        self.minutes = minutes
        self._took: dict[str, float] = {}

    def run(self, kind: str, function: Callable[[], Any]) -> Any:
        """Errors: `NotDone` where the time that is left is too short."""
        left = self._end - time.monotonic()
        if left < self._took.get(kind, 1.0):
            raise NotDone(f"it did not fit into {self.minutes:g} minutes: give more --minutes")
        begun = time.monotonic()
        try:
            return function()
        finally:
            self._took[kind] = time.monotonic() - begun


def run_checks(target: Target, report: Report, clock: Clock) -> None:
    for name, check in CHECKS.items():
        begun = time.monotonic()
        try:
            detail, outcome = clock.run(name, lambda check=check: check(target)), "passed"
        except NotDone as error:
            detail, outcome = str(error), "not done"
            report.not_done(name, detail)
        except Exception as error:  # whatever one check meets, the others still run
            detail, outcome = report.failed(name, error), "failed"
        seconds = time.monotonic() - begun
        report.content["checks"].append({"check": name, "outcome": outcome, "detail": detail, "seconds": seconds})
        print(f"{name}: {outcome}, {seconds:.1f} s", file=sys.stderr, flush=True)
        report.write()


def run_measurements(plan: Plan, report: Report, clock: Clock) -> None:
    content = report.content

    def part(name: str, kind: str, function: Callable[[], None]) -> None:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        try:
            clock.run(kind, function)
        except NotDone as error:
            report.not_done(name, str(error))
        except torch.OutOfMemoryError:
            report.not_done(name, "the device has no memory for it: take a smaller --batch")
        except Exception as error:  # whatever one part meets, the others still run
            report.failed(name, error)
        report.write()

    def measure_machine() -> None:
        content["peak"], content["bandwidth"] = plan.peak(), memory_bandwidth(plan.target)

    def kernels() -> None:
        content["kernels"] = measure_kernels(plan)

    def measured(group: Group) -> None:
        rows, missing, peak = measure_group(plan, group)
        content["measurements"] += [{"group": str(group), "peak": peak, **row.to_dict()} for row in rows]
        for name, reason in missing.items():
            report.not_done(f"{group.task}: {name}", reason)

    def stages(name: str) -> None:
        content["stages"] += measure_stages(plan, name, bandwidth=content["bandwidth"])

    if plan.target.device.type != "cuda":
        report.not_done("peak memory", "PyTorch's allocator counts it on CUDA only; `dualformer bench` does on a CPU")
    part("matrix products and memory", "machine", measure_machine)
    part("kernels", "kernels", kernels)
    listed = groups()
    for group in listed[:2]:
        part(str(group), "plain", lambda group=group: measured(group))
    for name in OURS:
        part(f"stages of {name}", "stages", lambda name=name: stages(name))
    for group in listed[2:]:
        part(str(group), "compiled", lambda group=group: measured(group))


def to_markdown(content: dict[str, Any], command: str) -> str:
    lines = [f"Machine: {content['about']}.", f"Command: `{command}`; {content['how']}."]

    def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        if rows:
            lines.extend(["", title, "", *markdown_table(head, rows)])

    table(
        "Checks:",
        ["check", "outcome", "detail"],
        [(row["check"], row["outcome"], row["detail"].replace("|", "/")) for row in content["checks"]],
    )
    table(
        "Kernels, in ms, beside what they replace:",
        ["kernel", "pass", "ours", "replaced", "times as fast"],
        [
            (row["kernel"], row["task"], _ms(row["seconds"]), _ms(row["replaced"]), f"{row['ratio']:.2f}")
            for row in content["kernels"]
        ],
    )
    for group in dict.fromkeys(row["group"] for row in content["measurements"]):
        rows = [row for row in content["measurements"] if row["group"] == group]
        table(
            f"{group}; matrix products reach {rows[0]['peak'] / 1e12:.3g} TFLOP/s:",
            ["network", "way", "GMACs", "p50, ms", "clips/s", "TFLOP/s", "of peak", "memory, MB", "times as fast"],
            [
                (
                    row["network"],
                    row["way"],
                    f"{row['gmacs']:.3g}",
                    _ms(row["p50"]),
                    f"{row['clips_per_second']:.3g}",
                    f"{row['flops'] / 1e12:.3g}",
                    f"{row['share']:.0%}",
                    "–" if row["memory"] is None else f"{row['memory'] / 1e6:.0f}",
                    f"{row['ratio']:.2f}",
                )
                for row in rows
            ],
        )
    table(
        "By stage, forward, eager, in ms: what it takes, and the least by the roofline of its operations:",
        ["network", "stage", "takes", "GFLOP", "MB moved", "by FLOPs", "by memory", "least", "reached"],
        [
            (
                row["network"],
                str(row["stage"]),
                _ms(row["seconds"]),
                f"{row['flops'] / 1e9:.3g}",
                f"{row['bytes'] / 1e6:.3g}",
                _ms(row["least_by_flops"]),
                _ms(row["least_by_bytes"]),
                _ms(row["least"]),
                f"{row['share']:.0%}",
            )
            for row in content["stages"]
        ],
    )
    for title, key in (("Failed:", "failed"), ("Not done:", "not_done")):
        if content[key]:
            reasons = dict.fromkeys(content[key].values())
            named = {reason: [what for what, why in content[key].items() if why == reason] for reason in reasons}
            lines += ["", title, "", *(f"* {'; '.join(whats)}: {reason}" for reason, whats in named.items())]
    return "\n".join(lines) + "\n"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="a part that would not fit is not begun")
    parser.add_argument("--device", default="auto", help="auto is the GPU where there is one")
    parser.add_argument("--clip", type=parse_clip, default="32x224x224", help="square")
    parser.add_argument("--batch", type=int, default=8, help="clips of a forward pass")
    parser.add_argument("--step-batch", type=int, default=4, help="clips of a training step")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--seconds", type=float, default=15.0, help="that each group is measured for")
    parser.add_argument("--quick", action="store_true", help="tiny networks and clips: for the script, not for figures")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the JSON file")
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    dtype = choose_precision("float32" if options.quick else options.dtype, device).name
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # CUDA graphs are captured on the current one
    clip, batch, step_batch = (
        ((4, 32, 32), 2, 2) if options.quick else (options.clip, options.batch, options.step_batch)
    )
    machine, clock = describe_machine(), Clock(options.minutes)
    shown = "×".join(map(str, clip))
    how = (
        f"{device}, clips of {shown}, {batch} at a time ({step_batch} in training), {dtype}, medians in turn, ratios "
        "to the first row of each table"
    )
    if options.quick:
        how += "; --quick: tiny networks under the names of the large ones, figures say nothing"
    report = Report(options.out, about=str(machine), machine=dataclasses.asdict(machine), how=how)
    with tempfile.TemporaryDirectory() as folder:
        target = Target(device=device, quick=options.quick, folder=Path(folder))
        run_checks(target, report, clock)
        seconds = 0.0 if options.quick else options.seconds
        plan = Plan(
            target=target, clip=clip, batch=batch, step_batch=step_batch, dtype=getattr(torch, dtype), seconds=seconds
        )
        run_measurements(plan, report, clock)
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    print(to_markdown(report.content, f"python benchmarks/gpu.py {given}".rstrip()))
    return 1 if report.content["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
