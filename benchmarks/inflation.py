"""Are images a good start for videos? `python benchmarks/inflation.py [FOLDER]`.

Renders pictures and videos of the same difficulty as files, trains a nano of one frame on the pictures, and then nanos
of 16 frames on the videos: inflated from it, and from random weights, with the same settings, steps and seeds. Prints
validation top-1 as a Markdown table (mean and range over seeds). What is done is kept in FOLDER (default:
runs/inflation): interrupted, the same call goes on where it stopped.
"""

import statistics
import sys
from pathlib import Path

from dualformer.datasets.rendered import HORIZONTAL, PLACES, Difficulty, Scene, write_dataset
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.reporter import read_metrics
from dualformer.training.run_folder import LAST
from dualformer.training.settings.network_settings import RANDOM
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train

DIFFICULTY = Difficulty.at(0.4)
SIZE = 64
SEEDS = (0, 1, 2)
COMMON = TrainConfig(
    data="to be named",
    start=RANDOM,
    model="dualformer_nano",
    size=SIZE,
    backbone_lr=1.0,
    weight_decay=0.05,
    drop_path=0.0,
    dropout=0.0,
    flip="off",
    min_area=1.0,
    label_smoothing=0.0,
    randaugment="off",
    workers=0,
    precision="bfloat16",
)
PICTURES = COMMON.replace(frames=1, stride=1, epochs=5, batch_size=32, warmup_epochs=0.5)
VIDEOS = COMMON.replace(frames=16, stride=2, epochs=2, batch_size=16, lr=3e-4, warmup_epochs=0.2)


def run(config: TrainConfig) -> Path:
    """Trains, or goes on, or finds that it is done; its folder."""
    out = Path(config.out)
    train(config.replace(resume=has_checkpoint(out)))
    return out


def share(values: list[float]) -> str:
    return f"{statistics.mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def table(arms: dict[str, list[Path]]) -> str:
    """Of the runs that there are."""
    lines = ["| clips seen | " + " | ".join(arms) + " |", "|---" * (1 + len(arms)) + "|"]
    metrics = {name: [read_metrics(out) for out in outs] for name, outs in arms.items()}
    assert VIDEOS.epochs and VIDEOS.batch_size
    for epoch in range(VIDEOS.epochs):
        done = {name: [run[epoch] for run in runs if len(run) > epoch] for name, runs in metrics.items()}
        if all(done.values()):
            clips = next(iter(done.values()))[0]["step"] * VIDEOS.batch_size
            cells = (share([each["val_top1"] for each in runs]) for runs in done.values())
            lines.append(f"| {clips:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(folder: str = "runs/inflation") -> None:
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    still = Scene(size=SIZE, frames=1, classes=PLACES, difficulty=DIFFICULTY)
    moving = Scene(size=SIZE, classes=HORIZONTAL, difficulty=DIFFICULTY, wrap=True)
    write_dataset(root / "pictures", still, clips_per_class={"train": 300, "val": 30}, seed=0)
    write_dataset(root / "videos", moving, clips_per_class={"train": 150, "val": 40}, seed=0)
    images = run(PICTURES.replace(data=str(root / "pictures"), out=str(root / "images")))
    arms: dict[str, list[Path]] = {"inflated from images": [], "random weights": []}
    for seed in SEEDS:
        for (name, outs), start in zip(arms.items(), (str(images / LAST), RANDOM), strict=True):
            out = root / f"{name.split()[0]}-{seed}"
            outs.append(run(VIDEOS.replace(data=str(root / "videos"), out=str(out), start=start, seed=seed)))
        print(table(arms), flush=True)
    right = read_metrics(images)[-1]["val_top1"]
    print(f"\nthe network of images: {right:.1%} of its validation pictures right (chance: {1 / len(PLACES):.1%})")
    print(f"chance on the videos: {1 / len(HORIZONTAL):.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
