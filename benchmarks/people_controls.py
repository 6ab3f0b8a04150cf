"""What rendered people give away without their motion: simple classifiers on one frame, on frames without their order.

    python benchmarks/people_controls.py --clips 1200 --level 0.3

Nearest neighbours and ridge regression, in five folds, on: the middle frame, the first and the last frame, the mean
frame, the deviation over time, the frames in an order of their own (by similarity, from a random one), and for
comparison the clip with the order of its frames (so simple classifiers do not find it there). All in 16 × 16 cells of
grey. One line each with the better of the two and chance; all must stay below 1.5 × chance. The time that rendering
takes is measured beside.

    python benchmarks/people_controls.py --joints --clips 9000

asks a small network instead, on the true joints of the actor, which say more than pixels: as they follow each other,
shuffled, and in the middle frame alone.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.datasets.rendered_people.clips import PeopleClips
from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
from dualformer.datasets.rendered_people.performance import perform
from dualformer.datasets.rendered_people.scene import PeopleScene

SIZE = 112
CELLS = 16
FOLDS = 5


def small(clip: np.ndarray) -> np.ndarray:
    """T × 16 × 16 of T × H × W × 3, centred."""
    grey = clip.astype(np.float32).mean(-1)
    frames, size, _ = grey.shape
    cell = size // CELLS
    cells = grey.reshape(frames, CELLS, cell, CELLS, cell).mean((2, 4))
    return (cells - cells.mean()) / (cells.std() + 1)


def chained(cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The frames put in an order by who is most like the one before: what shuffled frames still allow."""
    flat = cells.reshape(len(cells), -1)
    left = list(range(len(flat)))
    order = [left.pop(int(rng.integers(len(left))))]
    while left:
        far = np.square(flat[left] - flat[order[-1]]).sum(1)
        order.append(left.pop(int(far.argmin())))
    return cells[order]


def features(clip: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    cells = small(clip)
    shuffled = rng.permutation(cells)
    return {
        "middle frame": cells[len(cells) // 2].ravel(),
        "first and last frame": cells[[0, -1]].ravel(),
        "mean frame": cells.mean(0).ravel(),
        "mean and deviation over time": np.concatenate((cells.mean(0).ravel(), cells.std(0).ravel())),
        "frames in an order by likeness": chained(shuffled, rng).ravel(),
        "frames in their order": cells.ravel(),
    }


def ridge(seen: np.ndarray, labels: np.ndarray, asked: np.ndarray, strength: float) -> np.ndarray:
    """Labels of ``asked`` by ridge regression onto classes, through the kernel: rows are fewer than columns."""
    wanted = np.eye(labels.max() + 1)[labels] - 1 / (labels.max() + 1)
    kernel = seen @ seen.T
    weights = np.linalg.solve(kernel + strength * np.trace(kernel) / len(kernel) * np.eye(len(kernel)), wanted)
    return (asked @ seen.T @ weights).argmax(1)


def nearest(seen: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    far = np.square(seen).sum(1) - 2 * asked @ seen.T
    return labels[far.argmin(1)]


def accuracies(rows: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Of ridge regression (the best of three strengths) and of nearest neighbours, in five folds."""
    rows = (rows - rows.mean(0)) / (rows.std(0) + 1e-3)
    fold = np.arange(len(labels)) % FOLDS
    hits = dict.fromkeys((0.1, 1.0, 10.0, "nearest"), 0)
    for k in range(FOLDS):
        seen, asked = rows[fold != k], rows[fold == k]
        for name in hits:
            found = (
                nearest(seen, labels[fold != k], asked)
                if isinstance(name, str)
                else ridge(seen, labels[fold != k], asked, name)
            )
            hits[name] += int((found == labels[fold == k]).sum())
    parts = {name: count / len(labels) for name, count in hits.items()}
    return max(part for name, part in parts.items() if name != "nearest"), parts["nearest"]


def joints_of(scene: PeopleScene, clips: int, seed: int, level: float) -> tuple[Tensor, Tensor]:
    """clips × T × 3 J, and labels: the actor alone, seen from always the same side."""
    rows, labels = [], []
    for number in range(clips):
        look = np.random.default_rng((seed, number))
        label = number % len(scene.classes)
        cast = perform(
            label,
            scene.frames,
            bystanders=0,
            partner=False,
            away=0.0,
            variety=level,
            sway=0.0,
            look=look,
            order=look.spawn(1)[0],
        )
        rows.append(cast.joints[0].mean(1).reshape(scene.frames, -1))
        labels.append(label)
    order = torch.randperm(clips, generator=torch.Generator().manual_seed(seed))
    found = torch.tensor(np.array(rows), dtype=torch.float32)
    return ((found - found.mean((0, 1))) / found.std())[order], torch.tensor(labels)[order]


def joints_accuracy(rows: Tensor, labels: Tensor, *, epochs: int = 25) -> tuple[float, float]:
    """Of a network of three convolutions over time, learnt on four fifths: on these, and on the others."""
    torch.manual_seed(0)
    cut, (_, frames, width) = 4 * len(rows) // 5, rows.shape
    convolutions = [
        layer
        for channels in (width, 128, 128)
        for layer in (nn.Conv1d(channels, 128, 3, padding=1), nn.ReLU(), nn.Dropout(0.1))
    ]
    classes = int(labels.max()) + 1
    network = nn.Sequential(
        *convolutions, nn.Flatten(), nn.Linear(128 * frames, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, classes)
    )
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * math.ceil(cut / 64))
    rows = rows.transpose(1, 2)
    for _ in range(epochs):
        for batch in torch.randperm(cut).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(rows[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        right = (network.eval()(rows).argmax(1) == labels).float()
    return right[:cut].mean().item(), right[cut:].mean().item()


def joints_control(clips: int, seed: int, level: float) -> None:
    rows, labels = joints_of(PeopleScene(), clips, seed, level)
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.stack([row[torch.randperm(len(row), generator=generator)] for row in rows])
    middle = rows[:, rows.shape[1] // 2, None]
    for name, seen in (("in their order", rows), ("shuffled", shuffled), ("the middle frame", middle)):
        learnt, tested = joints_accuracy(seen, labels)
        print(f"joints, {name:20} {tested:6.1%} of {clips - 4 * clips // 5} clips ({learnt:.1%} of those learnt on)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--level", type=float, default=0.0, help="difficulty, 0 to 1; plain clips give away most")
    parser.add_argument("--view", choices=("bodies", "hands"), default="bodies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--joints", action="store_true", help="ask a network on true joints")
    options = parser.parse_args()
    if options.joints:
        joints_control(options.clips, options.seed, options.level)
        return
    scene = PeopleScene(size=SIZE, view=options.view, difficulty=PeopleDifficulty.at(options.level))
    clips = PeopleClips(scene, options.clips, seed=options.seed)
    clips[0]  # textures are made once
    rng = np.random.default_rng(options.seed)
    labels, rows = [], []
    spent = 0.0
    for i in range(options.clips):
        start = time.process_time()
        item = clips[i]
        spent += time.process_time() - start
        labels.append(int(item["label"]))
        rows.append(features(item["clip"].numpy(), rng))
    print(f"{options.clips / spent:.0f} clips of 16 x {SIZE} x {SIZE} a second and core")
    chance = 1 / len(scene.classes)
    spread = 1.96 * np.sqrt(chance * (1 - chance) / options.clips)
    print(
        f"{options.clips} clips at {options.level:g}, {len(scene.classes)} classes, chance {chance:.1%} ± {spread:.1%}"
    )
    for name in rows[0]:
        linear, near = accuracies(np.stack([row[name] for row in rows]), np.array(labels))
        print(f"{name:32} ridge {linear:6.1%}  nearest {near:6.1%}  {max(linear, near) / chance:.2f} x chance")


if __name__ == "__main__":
    main()
