"""Whether a loader's memory grows: RSS of the process that trains and of its workers over thousands of clips.

`python benchmarks/loader_memory.py [CLIPS] [WORKERS]` (default 10000 and 2): small files, all of augmentation on,
batches mixed as in training. A line for every tenth of the clips, as a Markdown table; at the end how much was added
after the first tenth. Linux only (/proc).
"""

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips
from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.datasets.splits import open_splits
from dualformer.training.mixing import mix_batch
from dualformer.training.settings.mixing_settings import MixingSettings
from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.preprocessing import kinetics

EVERYTHING = Augmentation(
    flip=0.5,
    colour_jitter=0.4,
    randaugment=RandAugment(magnitude=9, number=2, std=0.5),
    erasing=0.25,
)
MIXING = MixingSettings(mixup=0.8, cutmix=1.0, repeats=2)
BATCH = 16


def resident(pid: int) -> float:
    """MiB in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(size=64, frames=32, classes=("right", "left"))
        write_dataset(Path(folder) / "videos", scene, clips_per_class={"train": 20, "val": 1}, seed=0)
        videos = open_splits(Path(folder) / "videos").train
        data = TrainingClips(videos, kinetics(16, 2, 56), seed=0, augmentation=EVERYTHING)
        sampler = EpochSampler(len(videos), seed=0, repeats=MIXING.repeats)
        batches = Batches(data, batch_size=BATCH, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
        names = ["main", *(f"worker {i + 1}" for i in range(workers))]
        print(f"| clips | clips/s | {' | '.join(f'{name}, MiB' for name in names)} |\n|{'---|' * (len(names) + 2)}")
        done, epoch, rows, started = 0, 0, [], time.perf_counter()
        while done < clips:
            sampler.at(epoch)
            for number, batch in enumerate(batches):
                mix_batch(batch, MIXING, classes=2, seed=0, epoch=epoch, number=number)
                done += len(batch["clip"])
                if done >= clips * (len(rows) + 1) / 10:
                    children = sorted(child.pid or 0 for child in multiprocessing.active_children())
                    rows.append([resident(pid) for pid in (os.getpid(), *children)])
                    rate = done / (time.perf_counter() - started)
                    print(f"| {done} | {rate:.0f} | {' | '.join(f'{value:.1f}' for value in rows[-1])} |", flush=True)
            epoch += 1
    added = [last - first for first, last in zip(rows[0], rows[-1], strict=True)]
    print(f"\nadded after the first tenth: {', '.join(f'{value:+.1f} MiB' for value in added)}")


if __name__ == "__main__":
    main()
