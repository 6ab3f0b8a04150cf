"""Draws validation videos of several labels, so that training and validation both get their part of every label."""

from collections.abc import Sequence

import numpy as np


def stratified_sample(
    labels: Sequence[tuple[int, ...]], classes: int, fraction: float, rng: np.random.Generator
) -> set[int]:
    """Returns the indices of the videos to validate on: about ``fraction`` of each class's.

    Iterative stratification (Sechidis et al., 2011): always the label is next that is left on the fewest videos, and
    each of its videos goes to the side that still lacks more of it, or of the video's other labels, or of videos at
    all. Each side wants at least one video of every label that has two.
    """
    counts = np.bincount([label for own in labels for label in own], minlength=classes)
    wanted = np.clip(np.round(counts * fraction), 1, np.maximum(1, counts - 1))
    lacking = np.stack([counts - wanted, wanted]).astype(float)  # of each label, to train and to validate on
    room = [len(labels) * (1 - fraction), len(labels) * fraction]
    left, left_of = set(range(len(labels))), counts.copy()
    chosen: set[int] = set()
    while left:
        rarest = min((label for label in range(classes) if left_of[label]), key=lambda label: (left_of[label], label))
        members = [i for i in sorted(left) if rarest in labels[i]]
        for place in rng.permutation(len(members)).tolist():
            own = list(labels[members[place]])
            others = [label for label in own if label != rarest]
            sides = [(lacking[side, rarest], lacking[side, others].sum(), room[side]) for side in (0, 1)]
            side = 1 if sides[1] > sides[0] else 0
            lacking[side, own] -= 1
            room[side] -= 1
            if side:
                chosen.add(members[place])
            left.remove(members[place])
            left_of[own] -= 1
    return chosen
