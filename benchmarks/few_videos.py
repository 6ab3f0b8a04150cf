"""How good is a recogniser that a hundred real videos made? Every real set, the default command, and what it rests on.

    python benchmarks/few_videos.py FOLDER [--out FOLDER] [--sets NAME …] [--rows NAME …] [--seeds 0 1 2] [--docs]

FOLDER holds ``ut_interaction`` and ``egogestar``, each with videos and their splits.csv. A row is the default command
(`dualformer train --data …` and nothing else) with the changes that its name tells; every fold of every set is trained
once for each seed, and measured as `dualformer evaluate` does, with both controls. The 3-D convolution is trained with
the settings that the default network is. Variants are the network with more or less of its convolutions, for as many
multiply-adds. The rows of `TAUGHT` begin with the same lessons: 28,800 rendered clips of shapes; those of
`PEOPLE_TAUGHT` go on with 41,600 of shapes, people and hands, as the package's own weights did. ``--rows baselines``
needs no training: chance, the commonest class, and the nearest neighbour by what files are (width, height, frames,
bytes), by the middle frame and by the first, middle and last one. What is done is kept in ``--out``: interrupted, the
same call goes on where it stopped. The table shows what there is; ``--docs`` puts it into docs/few-videos.md, with the
runs that are there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dualformer.bench.machine_info import describe_machine
from dualformer.bench.table import markdown_table
from dualformer.datasets.row_filter import parse_row_filter
from dualformer.datasets.splits import open_videos
from dualformer.evaluation.evaluate import evaluate
from dualformer.files import write_json, write_text
from dualformer.model.config import Config, Stage, ceil_div
from dualformer.model.presets import fine_scale, stage_scales
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
from dualformer.weights.safetensors_file import load_weights, save_weights
from people_weights import STEPS, teach
from results import rewritten
from results_tables import machine_words

CONTROLS = ("one_frame", "shuffled")
NEIGHBOURS = ("file data", "middle frame", "three frames")
FOLDS_WITHIN = 3
DOCS, RESULTS = Path(__file__).resolve().parents[1] / "docs", "results/few_videos.json"
TAUGHT_CLIPS = 28_800


@dataclass(frozen=True)
class DataSet:
    """A list of videos, and the settings of its folds."""

    csv: str
    folds: tuple[dict[str, Any], ...]
    chosen_on: tuple[int, ...] = ()
    """Folds by which anything was chosen, where it is only some."""


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
        chosen_on=(0, 1, 2),
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
    "its lessons, the default network": {},
    "its lessons, convolutions and pyramids": {},
    "its lessons, a pyramid alone in stage 4": {},
    "its lessons, attention behind it in stage 4": {},
    "3-D convolution, shapes and people": {},
    "a pyramid alone in stage 4, shapes and people": {},
    "attention behind it in stage 4, shapes and people": {},
}

#: Halves of each stage, and the channels of the first with which a clip of 16×64×64 takes 0.43 to 0.46 G multiply-adds.
VARIANTS: dict[str, tuple[tuple[str, ...], int]] = {
    "random weights, only the stem": (("LG", "LG", "LG", "LG"), 32),
    "random weights, convolution in stage 1": (("C", "LG", "LG", "LG"), 34),
    "random weights, convolution in stages 1 to 3": (("C", "C", "C", "LG"), 30),
    "random weights, CG in stages 1 and 2": (("CG", "CG", "LG", "LG"), 28),
    "random weights, CG throughout": (("CG", "CG", "CG", "CG"), 28),
}
ROWS |= dict.fromkeys(VARIANTS, ROWS["random weights"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/few_videos"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="*", choices=[*ROWS, "baselines"], default=[*ROWS, "baselines"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folds", nargs="+", type=int, help="only these of each set, from 0")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/few-videos.md")
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
    found = collect(options.out)
    if options.docs:
        add_known(found, json.loads((DOCS / RESULTS).read_text(encoding="utf-8"))["sets"])
    print(f"\n{table(found)}\n\nIn brackets: 95 % interval, seeds. Controls:\n\n{controls_table(found)}")
    if options.docs:
        write_page(found, DOCS)


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
    elif row in TAUGHT or row in PEOPLE_TAUGHT:
        config = prepare(config).config.replace(model=None, start=str(taught(row, cache, reporter)))
    elif row in VARIANTS:
        variant = partial(with_halves, *VARIANTS[row])
    train(config, reporter=reporter, variant=variant)
    model, card = load_weights(out / LAST)
    videos = open_videos(str(out / SPLIT), on=parse_row_filter("split=val"))
    found = evaluate(model, card, videos).figures
    figures = {"videos": found["videos"], "right": round(found["top1"] * found["videos"])}
    for control in CONTROLS:
        figures[control] = evaluate(model, card, videos, control=control).figures["top1"]
    measured.write_text(json.dumps(figures))


def with_halves(kinds: Sequence[str], channels: int, network: Config) -> Config:
    """The network with other halves in its stages, full convolutions in the first two and depth-wise ones later."""
    size, stages = network.clip, list[Stage]()
    for number, (stage, halves) in enumerate(zip(network.stages, kinds, strict=True)):
        size = ceil_div(size, stage.patch)
        stages.append(
            replace(
                stage,
                channels=channels << number,
                kinds=halves,
                convolution="full" if number < 2 or "G" not in halves else "depthwise",
                scales=stage_scales(number, fine_scale(size), images=False) if "G" in halves else (),
            )
        )
    return network.replace(stages=tuple(stages), head_dim=channels)


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


def convolutions_and_pyramids(last: str, network: Config) -> Config:
    """The same, with the paper's global pyramid behind the convolution of stage 3, and ``last`` in stage 4."""
    network, size = convolutions(network), network.clip
    stages = list[Stage]()
    for number, stage in enumerate(network.stages):
        size = ceil_div(size, stage.patch)
        if number >= 2:
            kinds, scales = ("CG", last)[number - 2], stage_scales(number, fine_scale(size), images=False)
            stage = replace(stage, kinds=kinds, convolution="full", scales=scales)
        stages.append(stage)
    return network.replace(stages=tuple(stages), head_dim=28)


def convolutions_and_attention(network: Config) -> Config:
    """The 3-D convolution with attention to all tokens behind the convolution of stage 4, which has no more channels
    than stage 3: in float16 its weights are small enough to come with a package."""
    network, channels = convolutions(network), (30, 60, 120, 120)
    stages = [replace(stage, channels=own) for stage, own in zip(network.stages, channels, strict=True)]
    return network.replace(stages=(*stages[:-1], replace(stages[-1], kinds="CG")), head_dim=30)


#: Networks that are taught the rendered clips that the package's weights come from, the folder of their weights.
TAUGHT: dict[str, tuple[str, Callable[[Config], Config] | None]] = {
    _TAUGHT_PEER: ("peer", convolutions),
    "its lessons, the default network": ("default", None),
    "its lessons, convolutions and pyramids": ("convolutions-and-pyramids", partial(convolutions_and_pyramids, "CG")),
    "its lessons, a pyramid alone in stage 4": ("pyramid-in-stage-4", partial(convolutions_and_pyramids, "G")),
    "its lessons, attention behind it in stage 4": ("attention-behind-stage-4", convolutions_and_attention),
}

#: Rows that go on with the lessons on people, by the row of their lessons on shapes.
PEOPLE_TAUGHT = {
    "3-D convolution, shapes and people": _TAUGHT_PEER,
    "a pyramid alone in stage 4, shapes and people": "its lessons, a pyramid alone in stage 4",
    "attention behind it in stage 4, shapes and people": "its lessons, attention behind it in stage 4",
}


def taught(row: str, cache: Path, reporter: Reporter | SilentReporter) -> Path:
    """Trains the network of a row of `TAUGHT` or `PEOPLE_TAUGHT` from random weights, unless that is done."""
    if row in PEOPLE_TAUGHT:
        return taught_people(PEOPLE_TAUGHT[row], cache, reporter)
    folder, variant = TAUGHT[row]
    out = cache / folder
    if not (out / "done").is_file():
        config = TrainConfig(
            data="rendered", flip="off", model="dualformer_nano_conv", start=RANDOM, frames=16, size=64, out=str(out),
            epochs=TAUGHT_CLIPS // 3200, workers=0, resume=has_checkpoint(out),
        )  # fmt: skip
        train(config, reporter=reporter, variant=variant)
        (out / "done").touch()
    return out / LAST


def taught_people(row: str, cache: Path, reporter: Reporter | SilentReporter) -> Path:
    """Teaches the network of a row of `TAUGHT`, with its weights, people, unless that is done."""
    out = cache / f"{TAUGHT[row][0]}-people"
    weights = out / LAST
    if not weights.is_file():
        network, card = load_weights(taught(row, cache, reporter))
        teach(network, card.preprocessing, out, steps=STEPS, motions=None, again=False)
        save_weights(weights, network.eval(), replace(card, metrics={}), dtype=torch.float16)
    return weights


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
        for number, name in enumerate(NEIGHBOURS):
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


def collect(out: Path) -> dict[str, dict[str, Any]]:
    """Returns what is done, by set: its baselines, and by row the runs with their seed and fold."""
    found: dict[str, dict[str, Any]] = {}
    for name in SETS:
        baselines = out / slug(name) / "baselines.json"
        rows = {
            row: [
                json.loads(path.read_text())
                | dict(zip(("seed", "fold"), map(int, re.findall(r"\d+", path.parent.name)), strict=True))
                for path in sorted((out / slug(name) / slug(row)).glob("*/measured.json"))
            ]
            for row in ROWS
        }
        found[name] = {
            "baselines": json.loads(baselines.read_text()) if baselines.is_file() else {},
            "rows": {row: runs for row, runs in rows.items() if runs},
        }
    return found


def add_known(found: dict[str, dict[str, Any]], known: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds to what `collect` found the baselines and runs that were found before, elsewhere."""
    for name, before in known.items():
        found[name]["baselines"] = found[name]["baselines"] or before["baselines"]
        for row, runs in before["rows"].items():
            own = found[name]["rows"].setdefault(row, [])
            done = {(run["seed"], run["fold"]) for run in own}
            own += [run for run in runs if (run["seed"], run["fold"]) not in done]


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns what is right of what `collect` found, in Markdown."""
    columns: dict[str, dict[str, str]] = {}
    for name in begun(found):
        chosen, rows = SETS[name], found[name]["rows"]
        columns[name] = _baselines(found[name]["baselines"]) | _rows(rows, tuple(range(len(chosen.folds))))
        if chosen.chosen_on:
            unseen = tuple(fold for fold in range(len(chosen.folds)) if fold not in chosen.chosen_on)
            columns[f"of these, folds {_listed(unseen)}"] = _rows(rows, unseen)
    titles = [title for title in (*_BASELINES, *ROWS) if any(title in column for column in columns.values())]
    lines = [(title, *(column.get(title, "–") for column in columns.values())) for title in titles]
    return "\n".join(markdown_table(("", *columns), lines))


def controls_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns what is right where each clip is one frame, and where its frames are shuffled, in Markdown."""
    names = [name for name in begun(found) if found[name]["rows"]]
    lines: list[tuple[str, ...]] = []
    for row in ROWS:
        runs = [found[name]["rows"].get(row, []) for name in names]
        if any(runs):
            shares = [[_percent([run[control] for run in each]) for control in CONTROLS] for each in runs]
            lines.append((row, *(share for pair in shares for share in pair)))
    heads = [head for name in names for head in (f"{name}: one frame", "shuffled")]
    return "\n".join(markdown_table(("", *heads), lines))


def begun(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the sets of which anything is done."""
    return [name for name in SETS if found.get(name, {}).get("rows") or found.get(name, {}).get("baselines")]


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(shares):.0f} %" if shares else "–"


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}"


_BASELINES = ("chance", "commonest class", *(f"nearest neighbour by {name}" for name in NEIGHBOURS))


def _baselines(found: Mapping[str, int]) -> dict[str, str]:
    if not found:
        return {}
    shares = {
        title: found.get(title.removeprefix("nearest neighbour by "), 0) / found["videos"] for title in _BASELINES[1:]
    }
    return {title: f"{100 * share:.1f} %" for title, share in ({"chance": 1 / found["classes"]} | shares).items()}


def _rows(rows: Mapping[str, Sequence[Mapping[str, Any]]], folds: Sequence[int]) -> dict[str, str]:
    """Returns the share that is right of all videos of some folds, with the interval that so many videos have, however
    many seeds."""
    cells: dict[str, str] = {}
    for row, all_runs in rows.items():
        runs = [run for run in all_runs if run["fold"] in folds]
        if not runs:
            continue
        share = sum(run["right"] for run in runs) / sum(run["videos"] for run in runs)
        count, seeds = sum({run["fold"]: run["videos"] for run in runs}.values()), len({run["seed"] for run in runs})
        low, high = wilson_interval(round(share * count), count)
        of = [f"{seeds} seed{'s' if seeds > 1 else ''}"]
        if len(runs) < seeds * len(folds):
            of.append(f"{len(runs)} of {seeds * len(folds)} runs")
        cells[row] = f"**{100 * share:.1f} %** ({100 * low:.0f} to {100 * high:.0f}; {', '.join(of)})"
    return cells


def write_page(found: dict[str, dict[str, Any]], docs: Path) -> None:
    """Keeps the figures in docs/results, and puts their table on the page."""
    figures = {
        "date": datetime.date.today().isoformat(),
        "machine": machine_words(asdict(describe_machine())),
        "sets": found,
    }
    write_json(docs / RESULTS, figures, indent=1)
    page = docs / "few-videos.md"
    write_text(page, rewritten(page.read_text(encoding="utf-8"), {"few-videos": block(figures)}))


def block(figures: Mapping[str, Any]) -> str:
    controls = "The controls, where a clip is one frame, repeated, and where its frames are shuffled:"
    tables = table(figures["sets"]), controls, controls_table(figures["sets"])
    return "\n\n".join((*tables, f"{figures['date']}: {figures['machine']}."))


def slug(name: str) -> str:
    return name.lower().replace(", ", "-").replace(" ", "-")


if __name__ == "__main__":
    main()
