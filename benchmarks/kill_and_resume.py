"""Does a run survive kill -9? `python benchmarks/kill_and_resume.py [--kills 20] [--seed 0] [--folder FOLDER]`.

Trains a small network on a few rendered videos, with everything on that draws random numbers (crops, mixing, dropout,
stochastic depth) and an average of the weights, and saves after every step. Then the same run again, killed at moments
drawn from the seed and resumed each time: most of them while it trains, some while it starts. Prints what each kill
met, and whether weights and figures of both runs are the same to the last bit; ends with 1 if they are not.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.training.checkpoint import checkpoints
from dualformer.training.reporter import METRICS
from dualformer.training.run_folder import CONFIG

WEIGHTS = ("last.safetensors", "best.safetensors", "ema.safetensors")
STARTS = 0.15
"""Part of the kills that come before the training does."""


def command(videos: Path, out: Path, epochs: int) -> list[str]:
    if (out / CONFIG).is_file():
        return [sys.executable, "-m", "dualformer", "train", "--resume", "--out", str(out), "--save-minutes", "1e-6"]
    settings = {
        "data": videos,
        "out": out,
        "from": "random",
        "frames": 4,
        "size": 32,
        "epochs": epochs,
        "batch-size": 4,
        "lr": 1e-3,
        "flip": "off",
        "mixup": 0.8,
        "ema": 0.95,
        "workers": 1,
        "precision": "float32",
        "save-minutes": 1e-6,
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "dualformer", "train", *options]


def start(call: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        call,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # its loader's workers die with it
    )


def finish(call: list[str]) -> float:
    """Runs to the end; seconds since the training began."""
    process = start(call)
    assert process.stdout is not None
    lines, began = [], time.monotonic()
    for line in process.stdout:
        lines.append(line)
        if line.startswith("results go to"):
            began = time.monotonic()
    if process.wait():
        raise SystemExit("".join(lines))
    return time.monotonic() - began


def kill(call: list[str], moments: random.Random, window: float) -> str:
    """Starts a run and kills it; when that was, in words. Empty if it ended before."""
    process = start(call)
    assert process.stdout is not None
    if moments.random() < STARTS:
        moment = moments.uniform(0, 5)
        when = f"{moment:.2f} s after its start"
    else:
        moment = moments.uniform(0, window)
        when = f"{moment:.2f} s into the training"
        for line in process.stdout:
            if line.startswith("results go to"):
                break
    try:
        code = process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return when
    if code:
        raise SystemExit(process.stdout.read())
    return ""


def same(one: Path, other: Path) -> list[str]:
    """What differs."""
    found: list[str] = []
    for name in WEIGHTS:
        a, b = load_file(one / name), load_file(other / name)
        found += [f"{name}: {key}" for key in a if not a[key].equal(b[key])]
    figures = [
        [
            {key: value for key, value in json.loads(line).items() if key not in ("seconds", "clips_per_second")}
            for line in (run / METRICS).read_text().splitlines()
        ]
        for run in (one, other)
    ]
    return found + ([METRICS] if figures[0] != figures[1] else [])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    videos, whole, killed = folder / "videos", folder / "whole", folder / "killed"
    scene = Scene(size=32, frames=16, classes=("right", "left"))
    write_dataset(videos, scene, clips_per_class={"train": 6, "val": 2}, seed=3)
    epochs, began = max(6, 2 * options.kills), time.monotonic()
    seconds = finish(command(videos, whole, epochs))
    steps = json.loads((whole / METRICS).read_text().splitlines()[-1])["step"]
    print(f"undisturbed: {steps} steps in {seconds:.1f} s, a checkpoint after each\n")
    print("| kill | when | newest checkpoint | half-written files |\n|---|---|---|---|")
    moments, kills = random.Random(options.seed), 0
    while kills < options.kills:
        # On average that leaves a bit of the run for the last call.
        when = kill(command(videos, killed, epochs), moments, 2 * seconds / (options.kills + 3))
        if not when:
            break
        kills += 1
        newest = checkpoints(killed)[0].stem if checkpoints(killed) else "none"
        half = len([*killed.glob(".*.tmp"), *killed.glob("checkpoints/.*.tmp")])
        print(f"| {kills} | {when} | {newest} | {half} |", flush=True)
    finish(command(videos, killed, epochs))
    differing = same(whole, killed)
    verdict = f"different: {', '.join(differing[:5])}" if differing else "the same to the last bit"
    print(f"\nafter {kills} kills the weights ({', '.join(WEIGHTS)}) and figures are {verdict}")
    print(f"{time.monotonic() - began:.0f} s in all")
    return 1 if differing or kills < options.kills else 0


if __name__ == "__main__":
    sys.exit(main())
