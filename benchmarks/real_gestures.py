"""Real gestures from few videos: settings tried, and the best of them on a batch that no choice has seen.

    python benchmarks/real_gestures.py EGOGESTAR tries [--out FOLDER] [--only NAME …]
    python benchmarks/real_gestures.py EGOGESTAR final --best NAME [--out FOLDER]

EGOGESTAR is the folder of the 217 clips with their splits.csv (path,label,batch). ``tries`` trains every setting on two
thirds of batches A and C and measures it on the last third, three times over, so that each of the 128 videos is
measured once; the weights after the last epoch count. ``final`` trains the chosen setting on all of A and C, from
rendered weights and from random ones, with three seeds, and measures it on batch B, four views a video. What is done is
kept in FOLDER (default: runs/real_gestures): interrupted, the same call goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from dualformer.datasets.row_filter import parse_row_filter
from dualformer.datasets.splits import open_videos
from dualformer.evaluation.evaluate import evaluate
from dualformer.evaluation.metrics import wilson_interval
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.reporter import Reporter, SilentReporter
from dualformer.training.run_folder import LAST
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.weights.safetensors_file import load_weights

FOLDS = 3
SEEDS = (0, 1, 2)
MIRRORED = {"left": "right", "up": "up", "down": "down"}  # the other shapes mirrored are no class

BASE: dict[str, Any] = {
    "model": "dualformer_nano",
    "start": "rendered",
    "frames": 16,
    "fps": 5.0,
    "stride": 1,
    "size": 64,
    "epochs": 40,
    "batch_size": 16,
    "lr": 1e-3,
    "backbone_lr": 0.5,
    "weight_decay": 0.05,
    "drop_path": 0.05,
    "dropout": 0.3,
    "flip": "off",
    "min_area": 0.5,
    "label_smoothing": 0.0,
    "randaugment": "off",
    "workers": 0,
}
TRIES: dict[str, dict[str, Any]] = {
    "base": {},
    "random weights": {"start": "random", "backbone_lr": 1.0},
    "random weights, 120 epochs": {"start": "random", "backbone_lr": 1.0, "epochs": 120},
    "backbone at the head's rate": {"backbone_lr": 1.0},
    "left and right swapped": {"flip": "swap"},
    "RandAugment 7x2": {"randaugment": "7x2"},
    "80 epochs": {"epochs": 80},
    "80 epochs, backbone at the head's rate": {"epochs": 80, "backbone_lr": 1.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "mixup 0.2": {"mixup": 0.2},
    "96 pixels": {"size": 96},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("stage", choices=["tries", "final"])
    parser.add_argument("--out", type=Path, default=Path("runs/real_gestures"))
    parser.add_argument("--only", nargs="+", choices=TRIES, default=list(TRIES))
    parser.add_argument("--best", choices=TRIES, help="the setting for final")
    parser.add_argument("--loud", action="store_true", help="show the runs as they go on")
    options = parser.parse_args()
    reporter = Reporter() if options.loud else SilentReporter()
    options.out.mkdir(parents=True, exist_ok=True)
    data, flip_map = write_folds(options.data, options.out), options.out / "mirrored.json"
    others = {name: None for name in classes(data) if name not in {*MIRRORED, *MIRRORED.values()}}
    flip_map.write_text(json.dumps(MIRRORED | others))

    def run(name: str, out: Path, **changes: Any) -> Path:
        settings = BASE | TRIES[name] | changes
        if settings["flip"] == "swap":
            settings["flip_map"] = str(flip_map)
        settings |= {"data": str(data), "out": str(out), "resume": has_checkpoint(out)}
        train(TrainConfig(**settings), reporter=reporter)
        return out / LAST

    if options.stage == "tries":
        print("| setting | right of 128 | accuracy | 95 % interval | by fold |\n|---|---|---|---|---|")
        for name in options.only:
            right, of = [], []
            for fold in range(FOLDS):
                out = options.out / "tries" / name.replace(" ", "-") / str(fold)
                train_on = "fold=" + ",".join(str(other) for other in range(FOLDS) if other != fold)
                on = f"fold={fold}"
                if not (videos := done(out, on)):
                    videos = measure(run(name, out, train_on=train_on, val_on=on), data, on)
                right.append(videos["right"])
                of.append(videos["videos"])
            low, high = wilson_interval(sum(right), sum(of))
            folds = ", ".join(f"{r / n:.0%}" for r, n in zip(right, of, strict=True))
            print(
                f"| {name} | {sum(right)} | {sum(right) / sum(of):.1%} | {low:.0%}–{high:.0%} | {folds} |", flush=True
            )
        return
    if options.best is None:
        parser.error("final needs --best: the setting that the tries have shown to be the best")
    print("| start | top-1 on batch B, mean (range) | mean class accuracy |\n|---|---|---|")
    starts = {"rendered weights": {"start": "rendered"}, "random weights": {"start": "random", "backbone_lr": 1.0}}
    for start, changes in starts.items():
        figures = []
        for seed in SEEDS:
            out = options.out / "final" / f"{options.best} {start} {seed}".replace(" ", "-")
            # A part is held out for the record alone: the last weights count, whatever it says.
            if not (found := done(out, "batch=B")):
                weights = run(options.best, out, train_on="batch=A,C", val_fraction=0.05, seed=seed, **changes)
                found = measure(weights, data, "batch=B")
            figures.append(found)
        top1 = [each["top1"] for each in figures]
        by_class = statistics.mean(each["mean_class_accuracy"] for each in figures)
        print(
            f"| {start} | {statistics.mean(top1):.1%} ({min(top1):.1%} to {max(top1):.1%}) | {by_class:.1%} |",
            flush=True,
        )


def write_folds(folder: Path, out: Path) -> Path:
    """The list with a column ``fold``: videos of A and C dealt out by class and batch; those of B are in none."""
    with (folder / "splits.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    turns: dict[str, itertools.count[int]] = {}
    for row in sorted(rows, key=lambda row: (row["batch"], row["path"])):
        turn = next(turns.setdefault(row["label"], itertools.count())) if row["batch"] in "AC" else None
        row["fold"] = "" if turn is None else str(turn % FOLDS)
        row["path"] = str((folder / row["path"]).resolve())
    path = out / "folds.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "label", "batch", "fold"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def classes(data: Path) -> list[str]:
    with data.open(newline="", encoding="utf-8") as file:
        return sorted(Counter(row["label"] for row in csv.DictReader(file)))


def done(out: Path, on: str) -> dict[str, float] | None:
    """What the run in ``out`` was measured to be, if it was."""
    path = out / f"measured {on}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def measure(weights: Path, data: Path, on: str) -> dict[str, float]:
    """What ``weights`` are on those videos, kept beside them."""
    model, card = load_weights(weights)
    found = evaluate(model, card, open_videos(str(data), on=parse_row_filter(on)), views="4x1").figures
    figures = {name: found[name] for name in ("videos", "top1", "mean_class_accuracy")}
    figures["right"] = round(found["top1"] * found["videos"])
    (weights.parent / f"measured {on}.json").write_text(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main()
