"""What rendered people give away without their motion: simple classifiers on one frame, on frames without their order.

    python benchmarks/people_controls.py --clips 1200 --level 0.3

Nearest neighbours and ridge regression, in five folds, on: the middle frame, the first and the last frame, the mean
frame, the deviation over time, the frames in an order of their own (by similarity, from a random one), and for
comparison the clip with the order of its frames (so simple classifiers do not find it there). All in 16 × 16 cells of
grey. One line each with the better of the two and chance; all must stay below 1.5 × chance. The time that rendering
takes is measured beside.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from dualformer.datasets.rendered_people.clips import PeopleClips
from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--level", type=float, default=0.0, help="difficulty, 0 to 1; plain clips give away most")
    parser.add_argument("--view", choices=("bodies", "hands"), default="bodies")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
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
