"""Groups of videos that a split must not tear apart: who is filmed, where, or in which recording.

Clips of one recording share light, clothes and background. With some of them to train on and others to validate on, a
network is told the answer, and the figure promises more than other recordings will keep.
"""

import re
import shlex
import unicodedata
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualformer.datasets.row_table import CsvTable
from dualformer.datasets.samples import DatasetError, VideoList, first_few, name_of, spelled_as
from dualformer.plurals import counted
from dualformer.video.file_slices import is_frame_folder

#: Numbered words that name who, where or when in the names of files: subject12, set1_seq03, g04.
_RECORDING = re.compile(
    r"(?:^|(?<=[\W_]))(?:(?:set|session|scene|day|batch)[-_ ]?\d+[-_ ]?)*"
    r"(?:subject|subj|person|actor|user|seq|sequence|recording|rec|take|session|scene|group|set|cam|camera|[gspv])"
    r"[-_ ]?\d+(?=[\W_]|$)",
    re.IGNORECASE,
)
SEGMENT = "segment"
"""The group that splits inside videos."""
#: The part of the names that must look like recordings for `suspected_groups` to say so.
_MOST = 0.8
#: So many times groups are dealt anew, while a fold has all of a class.
_DEALS = 3
#: So many groups that are joined are named.
_NAMED = 3


def find_groups(videos: VideoList, group: str, table: CsvTable | None = None) -> list[str]:
    """Returns the group of every video of a list; spellings of one that Unicode calls equal are one.

    ``group`` is a column of the ``table`` that lists them, or else a regular expression that is searched in the names
    of the files, and where it is in none, in their paths below the folder that holds them all: the group is what its
    first parentheses match, or all of it.
    ``segment`` makes each of several segments of a video a group of its own.
    Errors: ``ValueError`` for an expression that cannot be read; `DatasetError` for a video that it does not match, or
    that the column has no value of.
    """
    if group == SEGMENT and videos.kind == "segments":
        return [str(sample.path) for sample in videos.samples]
    known = table.columns if table else ()
    column = spelled_as(group, known)
    if not table or column not in known:
        return _matches(videos, _composed(group), known)
    rows = {row.path: row for row in table.rows}
    own = [rows[sample.path] for sample in videos.samples]
    found = [_composed(row.values[column]).strip() for row in own]
    if empty := [row.where(table.path) for row, value in zip(own, found, strict=True) if not value]:
        raise DatasetError(
            f"{empty[0]}: the {column} is empty, in {len(empty)} of {counted(len(own), 'row')}, and `group={group}` "
            "takes one in each: write it, or a value of its own where it is not known"
        )
    return found


def suspected_groups(videos: VideoList) -> list[str]:
    """Returns what recording or person the name of each file tells of, such as ``set1_seq01``; empty for a few of them.
    Where names of files tell nothing, those of their folders may.

    The list is empty where names do not look like that, where every video has its own, where all have the same, and
    where folders are of one class each.
    """
    if found := _suspected([Path(sample.name).stem for sample in videos.samples]):
        return found
    found = _suspected([path.rpartition("/")[0] for path in _paths_below(videos)])
    own = {(name, label) for name, sample in zip(found, videos.samples, strict=False) for label in sample.labels}
    return found if len(own) > len(set(found)) else []


def group_pattern(groups: Sequence[str]) -> str:
    """Returns the regular expression for `find_groups` that matches what `suspected_groups` found: any digits in place
    of those that there are, quoted for a shell. A word of one letter stands alone: ``g04``, not ``walking04``."""
    patterns = {
        ("(?<![a-zA-Z0-9])" if re.match(r"[a-zA-Z][-_ ]?\d", group) else "") + re.sub(r"\d+", "[0-9]+", group)
        for group in groups
        if group
    }
    return shlex.quote("|".join(sorted(patterns, key=lambda pattern: (-len(pattern), pattern))))


def _suspected(texts: Sequence[str]) -> list[str]:
    found = [match[0] if (match := _RECORDING.search(text)) else "" for text in texts]
    told, distinct = sum(map(bool, found)), len(set(found) - {""})
    return found if told >= _MOST * len(texts) and 2 <= distinct <= len(texts) / 2 else []


def same_recordings(videos: VideoList) -> list[int]:
    """Returns for every video the index of the first that is the same recording: itself, unless there are several.

    The same are segments of one video, files of one folder with one name and other extensions, ``v1.mp4`` and
    ``v1.avi``, and links to one file.
    """
    first: dict[tuple[str, str], int] = {}
    found: list[int] = []
    for index, sample in enumerate(videos.samples):
        path = sample.recording.resolve() if sample.recording.is_symlink() else sample.recording
        keys = [("file", str(path))]
        if not is_frame_folder(path):
            keys.append(("stem", str(sample.recording.with_suffix(""))))
        known = [first[key] for key in keys if key in first]
        number = found[min(known)] if known else index
        found.append(number)
        for key in keys:
            first.setdefault(key, number)
    return found


def name_same_recordings(videos: VideoList) -> list[str]:
    """Returns what `same_recordings` found, the names of each recording's files in one text."""
    members: dict[int, dict[Path, str]] = {}
    for sample, number in zip(videos.samples, same_recordings(videos), strict=True):
        members.setdefault(number, {}).setdefault(sample.recording, name_of(sample.recording))
    return [" = ".join(names.values()) for names in members.values() if len(names) > 1]


def join_groups(videos: VideoList, groups: Sequence[str]) -> list[str]:
    """Returns the ``groups``, those of which one has a video of the same recording as another joined to one.

    A joined group is called by the names of the first of them, ``ann = bob``.
    """
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    first: dict[int, str] = {}
    for group, recording in zip(groups, same_recordings(videos), strict=True):
        one, other = sorted((root(group), root(first.setdefault(recording, group))))
        parent[other] = one
    members: dict[str, list[str]] = {}
    for group in sorted(parent):
        members.setdefault(root(group), []).append(group)
    joined = {
        own: " = ".join(names if len(names) <= _NAMED else [*names[:_NAMED], "…"]) for own, names in members.items()
    }
    return [joined[root(group)] for group in groups]


def deal_folds(labels: Sequence[tuple[int, ...]], groups: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Deals videos into ``folds`` of about as many videos of each class, whole groups at a time; returns their numbers.

    The largest group is next, and goes where fewest of its classes are; equal ones come in an order drawn by ``seed``.
    Where a fold would get all groups of a class, they are dealt anew, those of this class first. It goes by names, not
    by the order of the videos. Errors: `DatasetError` for fewer groups than folds.
    """
    names = sorted(set(groups))
    if len(names) < folds:
        raise DatasetError(
            f"{folds} folds take as many groups, and there are {len(names)} ({first_few(names)}): ask for fewer folds"
        )
    number = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), 1 + max(label for own in labels for label in own)))
    for own, group in zip(labels, groups, strict=True):
        counts[number[group], list(own)] += 1
    parts = counts / counts.sum(axis=0).clip(1)  # of each class: classes weigh the same, however large they are
    shuffled = np.random.default_rng(seed).permutation(len(names)).tolist()
    order = sorted(shuffled, key=lambda place: -round(float(parts[place].sum()), 9))
    fold_of = _deal(parts, order, folds)
    for _ in range(_DEALS):
        whole = [
            label for label, own in enumerate((parts > 0).T) if own.sum() > 1 and len(set(fold_of[own].tolist())) == 1
        ]
        if not whole:
            break
        order.sort(key=lambda place: not parts[place, whole].any())
        fold_of = _deal(parts, order, folds)
    return fold_of[[number[group] for group in groups]]


def _deal(parts: NDArray[np.float64], order: Sequence[int], folds: int) -> NDArray[np.int64]:
    """Returns the fold of every group. ``parts``: of each class, by group; ``order``: that of the groups."""
    dealt, fold_of = np.zeros((folds, parts.shape[1])), np.zeros(len(parts), dtype=np.int64)
    for place in order:
        crowding = np.round(((dealt + parts[place]) ** 2 - dealt**2).sum(axis=1), 9)
        fold = int(np.lexsort((dealt.sum(axis=1).round(9), crowding))[0])
        dealt[fold] += parts[place]
        fold_of[place] = fold
    return fold_of


def split_by_groups(videos: VideoList, groups: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Returns which videos to validate on: about ``fraction`` of each class, and whole groups.

    Errors: `DatasetError` for a class whose videos are all of one group.
    """
    check_classes(videos, groups)
    folds = min(len(set(groups)), max(2, round(1 / fraction)))
    dealt = deal_folds([sample.labels for sample in videos.samples], groups, folds, seed)

    def fitness(fold: int) -> tuple[int, float]:
        inside = videos.subset(np.flatnonzero(dealt == fold).tolist())
        rest = videos.subset(np.flatnonzero(dealt != fold).tolist())
        lacking = sum(not count for part in (rest, inside) for count in part.counts().values())
        return lacking, abs(len(inside) - fraction * len(videos))

    return dealt == min(range(folds), key=fitness)


def check_classes(videos: VideoList, groups: Sequence[str]) -> None:
    """Errors: `DatasetError` where all videos are one group, or all of a class: no split has it on both sides."""
    if len(set(groups)) < 2:
        raise DatasetError(f"{videos.source}: `group` puts all videos into one group ({groups[0]!r}): name another")
    groups_of: dict[int, set[str]] = {}
    for sample, group in zip(videos.samples, groups, strict=True):
        for label in sample.labels:
            groups_of.setdefault(label, set()).add(group)
    if single := [f"{videos.classes[label]} ({min(own)})" for label, own in groups_of.items() if len(own) == 1]:
        raise DatasetError(
            f"{videos.source}: all videos of {first_few(single)} are of one group, and a split keeps groups whole: "
            "leave `group` out, or add videos of another"
        )


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _matches(videos: VideoList, group: str, known: Collection[str]) -> list[str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ValueError(f"`group={group}` is no regular expression ({error})") from None
    matches = [pattern.search(_composed(sample.name)) for sample in videos.samples]
    where = "the name of the file"
    if not any(matches):
        matches = [pattern.search(_composed(path)) for path in _paths_below(videos)]
        where = "the name of the file or of a folder"
    found: list[str] = []
    for sample, match in zip(videos.samples, matches, strict=True):
        if not match or not (text := match[1] if pattern.groups else match[0]):
            columns = f" nor a column ({', '.join(known)})" if known else ""
            raise DatasetError(f"{sample.path}: `group={group}` is not found in {where}{columns}")
        found.append(text)
    return found


def _paths_below(videos: VideoList) -> list[str]:
    """Returns the paths of the files below the folder that holds them all."""
    paths = [sample.origin.as_posix().split("/") for sample in videos.samples]
    folders = [path[:-1] for path in paths]
    ends = zip(min(folders, default=[]), max(folders, default=[]), strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    return ["/".join(path[common:]) for path in paths]
