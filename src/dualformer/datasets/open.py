"""From what the user names, a folder or a CSV file, to the videos to train on and to judge by."""

import csv
import io
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dualformer.datasets.csvlist import CsvTable, describe_where, parse_where, read_csv, select
from dualformer.datasets.files import read_manifest, write_whole
from dualformer.datasets.folder import read_folder
from dualformer.datasets.samples import DatasetError, VideoList, name_some

__all__ = ["Splits", "open_splits", "open_videos", "parse_where", "read_bad", "split_stratified", "write_split"]

_log = logging.getLogger("dualformer")
_VAL_NAMES = ("val", "validation", "valid")

Where = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Videos to train on and to validate on, with the same classes and no video in common. ``how`` is one line."""

    train: VideoList
    val: VideoList
    how: str
    overlapping: bool = False
    """Videos in common are meant, as when a model is to memorise a few."""

    def __post_init__(self) -> None:
        if self.train.classes != self.val.classes:
            raise ValueError("train and val must share one list of classes")
        common = {s.path.resolve() for s in self.train.samples} & {s.path.resolve() for s in self.val.samples}
        if common and not self.overlapping:
            names = name_some(sorted(common))
            raise DatasetError(
                f"{len(common)} videos are in train and in val: {names}: choose rows that do not overlap"
            )
        if unseen := [name for name, count in self.train.counts().items() if count == 0]:
            raise DatasetError(f"{self.train.source}: no video to train on for class {name_some(unseen)}")
        if len(self.val) == 0:
            raise DatasetError(f"{self.val.source}: no video to validate on")


def open_splits(
    data: str | Path,
    *,
    train_on: Where | None = None,
    val_on: Where | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    bad: Collection[Path] = (),
) -> Splits:
    """Training and validation videos of a folder or CSV file.

    A folder: its train/ and val/ (or test/, if there is no val/). A CSV file: the rows of ``train_on`` and ``val_on``
    (all others to train on where only ``val_on`` is given), or those that its column ``split`` names. Where that leaves
    no val, it is ``val_fraction`` of every class, drawn by ``seed``. ``bad``: videos to leave out, from
    :func:`read_bad`. Raises as ``read_folder``, ``read_csv`` and ``select`` do.
    """
    data = Path(data)
    bad = {path.resolve() for path in bad}
    if _is_folder(data):
        if train_on or val_on:
            raise ValueError(f"{data} is a folder: rows can be chosen in a CSV file only")
        found = {key: _without(videos, bad) for key, videos in read_folder(data).items()}
        train, val, how = _folder_splits(data, found)
    else:
        table = read_csv(data, bad=bad)
        train, val, how = _csv_splits(table, train_on, val_on)
    if val is None:
        how = f"{how}; val is {val_fraction:.0%} of every class (seed {seed})"
        train, val = split_stratified(train, val_fraction, seed)
    if bad:
        how = f"{how}; videos listed as bad are left out"
    return Splits(train=train, val=val, how=how)


def open_videos(data: str | Path, *, on: Where | None = None, bad: Collection[Path] = ()) -> VideoList:
    """One list to judge by: a folder's val/ (or test/), else all of it; a CSV file's rows that ``on`` chooses."""
    data = Path(data)
    bad = {path.resolve() for path in bad}
    if not _is_folder(data):
        return select(read_csv(data, bad=bad), on)
    if on:
        raise ValueError(f"{data} is a folder: rows can be chosen in a CSV file only")
    found = read_folder(data)
    videos = _without(next(found[key] for key in ("val", "test", "all", "train") if key in found), bad)
    if len(videos) == 0:
        raise DatasetError(f"{videos.source}: every video in it is listed as bad")
    return videos


def split_stratified(videos: VideoList, fraction: float, seed: int) -> tuple[VideoList, VideoList]:
    """Split into (train, val) class by class: ``fraction`` of each class for val, rounded, but at least one video each.

    The draw depends on the names of the files and ``seed``, not on the order in which they were found.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the validation fraction must lie between 0 and 1, not {fraction}")
    by_class: dict[int, list[int]] = {}
    for i in sorted(range(len(videos)), key=lambda i: videos.samples[i].path.as_posix()):
        by_class.setdefault(videos.samples[i].label, []).append(i)
    chosen: set[int] = set()
    for label, members in by_class.items():
        if len(members) < 2:
            name = videos.classes[label]
            raise DatasetError(f"{videos.source}: class {name} has a single video, and a split takes two: add one")
        count = min(len(members) - 1, max(1, round(len(members) * fraction)))
        order = np.random.default_rng([seed, label]).permutation(len(members))
        chosen.update(members[i] for i in order[:count])
    train = videos.subset(i for i in range(len(videos)) if i not in chosen)
    val = videos.subset(i for i in range(len(videos)) if i in chosen)
    return (
        replace(train, source=f"{videos.source}, train share"),
        replace(val, source=f"{videos.source}, val share of {fraction:.0%}, seed {seed}"),
    )


def write_split(path: str | Path, splits: Splits) -> None:
    """Write which video went where as a CSV file (path,label,split) that ``open_splits`` reads back the same."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "split"])
    for name, videos in (("train", splits.train), ("val", splits.val)):
        for sample in videos.samples:
            writer.writerow([sample.path.resolve().as_posix(), videos.classes[sample.label], name])
    write_whole(Path(path), text.getvalue())


def read_bad(manifest_path: str | Path) -> set[Path]:
    """The videos that a manifest written by ``dualformer check`` calls bad, resolved."""
    return {verdict.path.resolve() for verdict in read_manifest(manifest_path) if not verdict.ok}


def _is_folder(data: Path) -> bool:
    if not data.exists():
        raise FileNotFoundError(f"no such folder or CSV file: {data}")
    if data.is_dir():
        return True
    if data.suffix.lower() != ".csv":
        raise ValueError(f"{data} is neither a folder nor a .csv file")
    return False


def _without(videos: VideoList, bad: Collection[Path]) -> VideoList:
    return videos.subset(i for i, s in enumerate(videos.samples) if s.path.resolve() not in bad) if bad else videos


def _folder_splits(data: Path, found: dict[str, VideoList]) -> tuple[VideoList, VideoList | None, str]:
    if "all" in found:
        return found["all"], None, f"{data}: one folder per class, no train/ and val/"
    if "train" not in found:
        raise DatasetError(
            f"{data}: {', '.join(found)} without train/: add train/, or name the folder above the classes"
        )
    if "val" in found:
        return found["train"], found["val"], f"{data}: its folders for train and val"
    if "test" in found:
        return found["train"], found["test"], f"{data}: its folders for train and test (there is none for val)"
    return found["train"], None, f"{data}: its train/, no val/"


def _csv_splits(
    table: CsvTable, train_on: Where | None, val_on: Where | None
) -> tuple[VideoList, VideoList | None, str]:
    name = str(table.path)
    if train_on and val_on:
        how = f"{name}: train on {describe_where(train_on)}, val on {describe_where(val_on)}"
        return select(table, train_on), select(table, val_on), how
    if train_on:
        return select(table, train_on), None, f"{name}: {describe_where(train_on)}"
    if val_on:
        val = select(table, val_on)
        taken = {sample.path for sample in val.samples}
        rest = select(replace(table, rows=tuple(row for row in table.rows if row.path not in taken)))
        return rest, val, f"{name}: val on {describe_where(val_on)}, train on all other rows"
    if "split" not in table.columns:
        return select(table), None, f"{name}: all rows, no column split"
    present = {row.values["split"] for row in table.rows}
    if unknown := sorted(present - {"train", "test", *_VAL_NAMES}):
        raise DatasetError(
            f"{name}: split {name_some(unknown)!r} is none of train, val, test: rename it, or choose rows to train on"
        )
    if "train" not in present:
        raise DatasetError(f"{name}: no row has split=train")
    train = select(table, {"split": ("train",)})
    val_names = tuple(n for n in _VAL_NAMES if n in present) or (("test",) if "test" in present else ())
    if not val_names:
        return train, None, f"{name}: split=train, no row for val"
    return train, select(table, {"split": val_names}), f"{name}: its column split, train and {', '.join(val_names)}"
