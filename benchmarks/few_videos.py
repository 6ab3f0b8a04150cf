"""How good is a recogniser that a hundred real videos made? Every real set, the default command, and what it rests on.

    python benchmarks/few_videos.py FOLDER [--out FOLDER] [--sets NAME …] [--rows NAME …] [--seeds 0 1 2]

FOLDER holds ``ut_interaction`` and ``egogestar``, each with videos and their splits.csv. A row is the default command
(`dualformer train --data …` and nothing else) with the changes that its name tells; every fold of every set is trained
once for each seed, and measured as `dualformer evaluate` does, with both controls. The 3-D convolution is trained with
the settings that the default network is. ``--rows baselines`` needs no
training: chance, the commonest class, and the nearest neighbour by what files are (width, height, frames, bytes), by
the middle frame and by the first, middle and last one. What is done is kept in ``--out``: interrupted, the same call
goes on where it stopped; the table shows what there is.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualformer.datasets.row_filter import parse_row_filter
from dualformer.datasets.splits import open_videos
from dualformer.evaluation.evaluate import evaluate
from dualformer.model.config import Config, Stage
from dualformer.scoring.intervals import wilson_interval
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.open_source import open_source
from dualformer.training.prepare import prepare
from dualformer.training.reporter import Reporter, SilentReporter
from dualformer.training.run_folder import LAST, SPLIT
from dualformer.training.settings.network_settings import RANDOM
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.video.open_video import open_video
from dualformer.video.transforms import resize
from dualformer.weights.safetensors_file import load_weights

FOLDS_WITHIN = 3
PEER_CLIPS = 28_800


@dataclass(frozen=True)
class DataSet:
    """A list of videos, and the settings of its folds."""

    csv: str
    folds: tuple[dict[str, Any], ...]


SETS = {
    "UT-Interaction, five folds": DataSet(
        "ut_interaction/splits.csv",
        tuple(
            {
                "train_on": "fold=" + ",".join(str(other) for other in range(5) if other != fold),
                "val_on": f"fold={fold}",
            }
            for fold in range(5)
        ),
    ),
    "EgoGestAR, A and C to B": DataSet(
        "egogestar/splits.csv", ({"train_on": "batch=A,C", "val_on": "batch=B", "flip": "off"},)
    ),
    "EgoGestAR, folds of A and C": DataSet(
        "egogestar/splits.csv",
        tuple(
            {"train_on": "batch=A,C", "folds": FOLDS_WITHIN, "fold": fold + 1, "flip": "off"}
            for fold in range(FOLDS_WITHIN)
        ),
    ),
}

#: What was proposed before: a clip shows about a second, small crops, much dropout, 200 to 300 steps.
_EARLIER_RECIPE: dict[str, Any] = {
    "stride": 2,
    "crop_mode": "center",
    "min_area": 0.08,
    "dropout": 0.5,
    "drop_path": 0.1,
    "label_smoothing": 0.0,
    "randaugment": "off",
    "epochs": 40,
}
_NANO: dict[str, Any] = {"model": "dualformer_nano", "start": "rendered"}
_PEER = "3-D convolution, random weights"
_TAUGHT_PEER = "3-D convolution, rendered weights"

ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "Nano and its rendered weights": _NANO,
    "earlier recipe": _EARLIER_RECIPE,
    "earlier defaults": _NANO | _EARLIER_RECIPE,
    "random weights": {"model": "dualformer_nano_conv", "start": "random", "size": 64},
    "whole pictures never padded": {"crop_mode": "center"},
    "labels not smoothed": {"label_smoothing": 0.0},
    "no RandAugment": {"randaugment": "off"},
    "clips of a fixed length": {"sampling": "stride"},
    _PEER: {},
    _TAUGHT_PEER: {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/few_videos"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="*", choices=[*ROWS, "baselines"], default=[*ROWS, "baselines"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folds", nargs="+", type=int, help="only these of each set, from 0")
    parser.add_argument("--loud", action="store_true", help="show the runs as they go on")
    options = parser.parse_args()
    reporter = Reporter() if options.loud else SilentReporter()
    for name in options.sets:
        chosen = SETS[name]
        for row in options.rows:
            if row == "baselines":
                measure_baselines(options.data / chosen.csv, chosen, options.out / slug(name))
                continue
            for seed in options.seeds:
                for number, fold in enumerate(chosen.folds):
                    if options.folds is None or number in options.folds:
                        out = options.out / slug(name) / slug(row) / f"seed{seed}-fold{number}"
                        run(options.data / chosen.csv, row, out, options.out, reporter, fold | {"seed": seed})
            print(f"{name}: {row} done", flush=True)
    print_table(options.out, options.sets)


def run(
    data: Path, row: str, out: Path, cache: Path, reporter: Reporter | SilentReporter, fold: dict[str, Any]
) -> None:
    """Trains and measures one fold, unless that is done."""
    measured = out / "measured.json"
    if measured.is_file():
        return
    config = TrainConfig(data=str(data), out=str(out), workers=0, **fold | ROWS.get(row, {}))
    variant = None
    if has_checkpoint(out):
        config = config.replace(resume=True)
    elif row == _PEER:  # trained as the default network is, which is proposed to that alone
        config = prepare(config).config.replace(model="dualformer_nano_conv", start=RANDOM, backbone_lr=1.0)
        variant = convolutions
    elif row == _TAUGHT_PEER:
        config = prepare(config).config.replace(model=None, start=str(taught_peer(cache / "peer", reporter)))
    train(config, reporter=reporter, variant=variant)
    model, card = load_weights(out / LAST)
    videos = open_videos(str(out / SPLIT), on=parse_row_filter("split=val"))
    found = evaluate(model, card, videos).figures
    figures = {"videos": found["videos"], "right": round(found["top1"] * found["videos"])}
    for control in ("one_frame", "shuffled"):
        figures[control] = evaluate(model, card, videos, control=control).figures["top1"]
    measured.write_text(json.dumps(figures))


def convolutions(network: Config) -> Config:
    """An ordinary residual 3-D convolution of the same clips and about as many multiply-adds: C halves alone."""
    stages = tuple(
        Stage(
            channels=28 << number,
            depth=1,
            patch=(2, 4, 4) if number == 0 else (1 if number == 1 else 2, 2, 2),
            embedding="convolutions",
            kinds="CC" if number == 0 else "C",
        )
        for number in range(4)
    )
    return network.replace(stages=stages, head_dim=4, position="none")


def taught_peer(out: Path, reporter: Reporter | SilentReporter) -> Path:
    """Trains the 3-D convolution on the rendered clips that the package's weights come from, unless that is done."""
    if not (out / "done").is_file():
        config = TrainConfig(
            data="rendered", flip="off", model="dualformer_nano_conv", start=RANDOM, frames=16, size=64, out=str(out),
            epochs=PEER_CLIPS // 3200, workers=0, resume=has_checkpoint(out),
        )  # fmt: skip
        train(config, reporter=reporter, variant=convolutions)
        (out / "done").touch()
    return out / LAST


def measure_baselines(data: Path, chosen: DataSet, out: Path) -> None:
    """Counts what needs no network, in the folds of the rows of the table (of seed 0)."""
    path = out / "baselines.json"
    if path.is_file():
        return
    right: Counter[str] = Counter()
    known: dict[Path, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = {}
    for fold in chosen.folds:
        splits = open_source(TrainConfig(data=str(data), **fold)).splits
        assert splits is not None  # of files there always are some
        seen, asked = splits.train.samples, splits.val.samples
        right["classes"] = len(splits.train.classes)
        right["videos"] += len(asked)
        for sample in (*seen, *asked):
            if sample.path not in known:
                known[sample.path] = describe(sample.path)
        common = Counter(sample.label for sample in seen).most_common(1)[0][0]
        right["commonest class"] += sum(sample.label == common for sample in asked)
        for number, name in enumerate(("file data", "middle frame", "three frames")):
            table = np.stack([known[sample.path][number] for sample in seen])
            scale = table.std(0) + 1e-9 if number == 0 else 1.0
            for sample in asked:
                nearest = np.square((table - known[sample.path][number]) / scale).sum(1).argmin()
                right[name] += seen[int(nearest)].label == sample.label
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(right))


def describe(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns width, height, frames and bytes; the middle frame; the first, middle and last one, as 16×16 of grey."""
    with open_video(path, threads=1) as reader:
        count = len(reader)
        numbers = np.array([0, count // 2, count - 1])
        frames = reader.read(numbers)
    height, width = frames.shape[1:3]
    grey = resize(frames, 16, 16).double().mean(-1).flatten(1).numpy()
    grey -= grey.mean(1, keepdims=True)
    return np.array([width, height, count, path.stat().st_size], dtype=np.float64), grey[1], grey.ravel()


def print_table(out: Path, names: Sequence[str]) -> None:
    print(f"\n| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    cells: dict[str, list[str]] = {}
    for column, name in enumerate(names):
        baselines = out / slug(name) / "baselines.json"
        found = json.loads(baselines.read_text()) if baselines.is_file() else {}
        figures = {"chance": f"{1 / found['classes']:.1%}"} if found else {}
        for each in ("commonest class", "file data", "middle frame", "three frames"):
            if found:
                title = each if each == "commonest class" else f"nearest neighbour by {each}"
                figures[title] = f"{found.get(each, 0) / found['videos']:.1%}"
        for row in ROWS:
            runs = [json.loads(p.read_text()) for p in sorted((out / slug(name) / slug(row)).glob("*/measured.json"))]
            if runs:
                videos, right = sum(each["videos"] for each in runs), sum(each["right"] for each in runs)
                low, high = wilson_interval(right, videos)
                still, mixed = (
                    statistics.fmean(each[control] for each in runs) for control in ("one_frame", "shuffled")
                )
                figures[row] = (
                    f"**{right / videos:.1%}** ({low:.0%}–{high:.0%}, {len(runs)} runs; {still:.0%}, {mixed:.0%})"
                )
        for row, figure in figures.items():
            cells.setdefault(row, [""] * len(names))[column] = figure
    for row, figures in cells.items():
        print(f"| {row} | {' | '.join(figures)} |")
    print("\nIn brackets: 95 % interval of all videos, runs; right of one frame repeated, and of shuffled frames.")


def slug(name: str) -> str:
    return name.lower().replace(", ", "-").replace(" ", "-")


if __name__ == "__main__":
    main()
