"""Draws the part to validate on: of every class a share, whole recordings at a time, or one of several folds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dualformer.datasets.groups import SEGMENT, check_classes, deal_folds, same_recordings
from dualformer.datasets.samples import DatasetError, VideoList, first_few


def split_stratified(videos: VideoList, fraction: float, seed: int) -> tuple[VideoList, VideoList]:
    """Splits into (train, val) class by class: ``fraction`` of each class for val, rounded, but at least one video.

    The draw depends on file names and ``seed``, not on the order of the list. Files that are one recording, by
    `same_recordings`, are on one side. Multi-label videos are split by `stratified_sample`, as evenly as their labels
    allow.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the validation fraction must lie between 0 and 1, not {fraction}")
    recording, by_class = same_recordings(videos), _by_class(videos)
    _check_recordings(videos, recording, by_class)
    if videos.multi_label:
        own: dict[int, dict[int, None]] = {}
        for i in _by_name(videos):
            own.setdefault(recording[i], {}).update(dict.fromkeys(videos.samples[i].labels))
        labels = [tuple(each) for each in own.values()]
        sampled = stratified_sample(labels, len(videos.classes), fraction, np.random.default_rng(seed))
        numbers = list(own)
        chosen = {numbers[place] for place in sampled}
    else:
        chosen = _draw_of_each_class(by_class, recording, fraction, seed)
    return take_apart(videos, np.isin(recording, list(chosen)), f"val share of {fraction:.0%}, seed {seed}")


def _draw_of_each_class(
    by_class: Mapping[int, list[int]], recording: Sequence[int], fraction: float, seed: int
) -> set[int]:
    """Returns the recordings to validate on. ``by_class``: the videos of each class; ``recording``: that of a video."""
    chosen: set[int] = set()
    decided: set[int] = set()
    for label, members in by_class.items():
        count = min(len(members) - 1, max(1, round(len(members) * fraction)))
        files = Counter(recording[i] for i in members)
        own = list(files)
        taken = sum(files[each] for each in own if each in chosen)
        rest = len(own) - len(chosen.intersection(own))
        for place in np.random.default_rng([seed, label]).permutation(len(own)).tolist():
            if taken < count and rest > 1 and own[place] not in decided:
                chosen.add(own[place])
                taken += files[own[place]]
                rest -= 1
        decided.update(own)
    return chosen


def split_folds(
    videos: VideoList, groups: Sequence[str] | None, fold: int, folds: int, seed: int
) -> tuple[VideoList, VideoList]:
    """Splits into (train, val), val being one of the folds; without groups every video is one of its own.

    Errors: `DatasetError` where any of the folds has all videos of a class.
    """
    if not 1 <= fold <= folds or folds < 2:
        raise ValueError(f"`folds` are 2 or more, and `fold` is one of them from 1, not {fold} of {folds}")
    recording, by_class = same_recordings(videos), _by_class(videos)
    if groups:
        check_classes(videos, groups)
    else:
        _check_recordings(videos, recording, by_class)
        if (there := len(set(recording))) < folds:
            what = "videos" if videos.kind == "segments" else videos.kind
            shortage = f"{folds} folds take as many {what}, and there are {there}"
            raise DatasetError(f"{videos.source}: {shortage}: ask for fewer folds")
    own = groups or [videos.samples[first].path.as_posix() for first in recording]
    dealt = deal_folds([sample.labels for sample in videos.samples], own, folds, seed)
    for label, members in by_class.items():
        if len(numbers := set(dealt[members].tolist())) == 1:
            what = f"class {videos.classes[label]} ({first_few(sorted({own[i] for i in members}))})"
            raise DatasetError(
                f"{videos.source}: fold {min(numbers) + 1} of {folds} would have all videos of {what} to validate on, "
                "and none to train on: try another number of folds, or add videos of the class by another group"
            )
    return take_apart(videos, dealt == fold - 1, f"fold {fold} of {folds}, seed {seed}")


def _by_name(videos: VideoList) -> list[int]:
    return sorted(range(len(videos)), key=lambda i: videos.samples[i].path.as_posix())


def _by_class(videos: VideoList) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i in _by_name(videos):
        for label in videos.samples[i].labels:
            found.setdefault(label, []).append(i)
    return found


def _check_recordings(videos: VideoList, recording: Sequence[int], by_class: Mapping[int, list[int]]) -> None:
    """Raises `DatasetError` for a class that is all of one recording."""
    for label, members in by_class.items():
        if len({recording[i] for i in members}) < 2:
            name = videos.classes[label]
            one = "a single file" if len(members) == 1 else "several files of a single recording"
            if videos.kind == "segments":
                raise DatasetError(
                    f"{videos.source}: all segments of class {name} are of one video, and a split takes two: add one, "
                    f"or split inside videos with `group={SEGMENT}`"
                )
            raise DatasetError(f"{videos.source}: class {name} has {one}, and a split takes two: add one")


def take_apart(videos: VideoList, chosen: NDArray[np.bool_], what: str) -> tuple[VideoList, VideoList]:
    """Returns (train, val): the videos that are not ``chosen``, and those that are."""
    train, val = (videos.subset(np.flatnonzero(side).tolist()) for side in (~chosen, chosen))
    return (
        replace(train, source=f"{videos.source}, train share"),
        replace(val, source=f"{videos.source}, {what}", missing=()),
    )


def stratified_sample(
    labels: Sequence[tuple[int, ...]], classes: int, fraction: float, rng: np.random.Generator
) -> set[int]:
    """Returns the indices of the videos to validate on: about ``fraction`` of each class.

    Iterative stratification (Sechidis et al., 2011): the next label is the one with the fewest videos left, and each of
    its videos goes to the side that lacks more of it, then of the video's other labels, then of videos. Each side gets
    at least one video of every label that has two.
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
