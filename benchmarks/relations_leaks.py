"""What a linear model makes of clips of the local × global bench without the order of their frames, and of their files.

    python benchmarks/relations_leaks.py --clips 10000 --files 2000

Every figure is the share of clips whose class a ridge regression finds that was learnt from the other half of them; it
must stay within 5 points of chance, which is 50. Clips are drawn in memory, and told apart by means over frames and by
single frames; files are written, and told apart by their size and that of their packets.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import tyro

from dualformer.datasets.rendered import write_dataset
from dualformer.paper.relation_clips import TASKS, RelationClips, Relations, RelationTask


@dataclass(frozen=True, kw_only=True)
class Options:
    tasks: tuple[RelationTask, ...] = TASKS
    clips: int = 10_000
    """Drawn in memory for each task."""
    files: int = 2000
    """Written for each task."""
    seed: int = 11


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a ridge regression learnt from each half of the clips, on the other half."""
    halves = np.array_split(np.arange(len(features)), 2)
    right = 0
    for seen, asked in (halves, halves[::-1]):
        mean, spread = features[seen].mean(0), features[seen].std(0) + 1e-9
        known, wanted = (features[seen] - mean) / spread, 2.0 * labels[seen] - 1
        weights = np.linalg.solve(known.T @ known + 100 * np.eye(known.shape[1]), known.T @ (wanted - wanted.mean()))
        right += int(((((features[asked] - mean) / spread) @ weights > 0) == labels[asked]).sum())
    return right / len(features)


def statistics(clip: np.ndarray) -> dict[str, np.ndarray]:
    """Of a clip T H W in grey levels, what can be said of it without the order of its frames."""
    levels = clip.astype(np.float32)
    first, last = _cells(levels[0]), _cells(levels[-1])
    return {
        "mean frame": _cells(levels.mean(0)),
        "variance over time": _cells(levels.var(0)),
        "first frame": first,
        "last frame": last,
        "first and last frame": np.concatenate((first, last)),
        "change from first to last": _cells(np.abs(levels[-1] - levels[0])),
        "brightness by frame": np.concatenate((levels.mean((1, 2)), levels.std((1, 2)))),
    }


def _cells(picture: np.ndarray) -> np.ndarray:
    """H × W → means of 4 × 4 pixels, one after the other."""
    h, w = picture.shape
    return picture.reshape(h // 4, 4, w // 4, 4).mean((1, 3)).ravel()


def file_sizes(folder: Path, scene: Relations) -> tuple[np.ndarray, np.ndarray]:
    """Of all videos of a rendered set, sizes of the file and of its packets, and labels; in a drawn order."""
    rows, labels = [], []
    for path in sorted(folder.glob("train/*/*.mp4")):
        with av.open(str(path)) as container:
            sizes = [packet.size for packet in container.demux(video=0) if packet.size]
        if len(sizes) != scene.frames:
            raise ValueError(f"{path} has {len(sizes)} packets, not one for each of {scene.frames} frames")
        rows.append([path.stat().st_size, *sizes, *np.cumsum(sizes)])
        labels.append(path.parent.name == scene.classes[1])
    order = np.random.default_rng(0).permutation(len(rows))
    return np.array(rows, dtype=float)[order], np.array(labels)[order]


def main(options: Options) -> None:
    for task in options.tasks:
        scene = Relations(task=task)
        clips = RelationClips(scene, options.clips, seed=options.seed)
        found, labels = [], []
        for i in range(len(clips)):
            item = clips[i]
            found.append(statistics(item["clip"][..., 0].numpy()))
            labels.append(int(item["label"]))
        shares = {name: accuracy(np.stack([row[name] for row in found]), np.array(labels)) for name in found[0]}
        with tempfile.TemporaryDirectory() as folder:
            write_dataset(folder, scene, clips_per_class={"train": options.files // 2}, seed=options.seed)
            shares["size of file and packets"] = accuracy(*file_sizes(Path(folder), scene))
        for name, share in shares.items():
            print(f"{task}: {name}: {share:.1%}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
