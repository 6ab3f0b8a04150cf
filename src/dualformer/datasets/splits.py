"""Opens the videos for training, validation and evaluation, of a folder, a CSV file, a benchmark or shards."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dualformer.datasets.bad_videos import BadVideos
from dualformer.datasets.benchmarks.listing import Listing, name_missing
from dualformer.datasets.data_source import hash_csv, read_source
from dualformer.datasets.draw_split import split_folds, split_stratified, take_apart
from dualformer.datasets.groups import SEGMENT, find_groups, join_groups, split_by_groups
from dualformer.datasets.manifest import read_manifest
from dualformer.datasets.row_filter import describe_filter, unknown_values
from dualformer.datasets.row_table import CsvTable, select
from dualformer.datasets.samples import (
    BACKGROUND_SHARE,
    VAL_FRACTION,
    DatasetError,
    LeftOut,
    MissingSample,
    VideoList,
    first_few,
)
from dualformer.datasets.segments.background import add_background
from dualformer.datasets.shards.read_shards import find_shards
from dualformer.datasets.shards.storage import ShardCache
from dualformer.datasets.split_names import names_of
from dualformer.plurals import counted
from dualformer.urls import without_credentials

_VAL_NAMES = names_of("val")

RowFilter = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Videos to train on and to validate on, with the same classes and no video in common."""

    train: VideoList
    val: VideoList
    description: str
    """One line: where they are from, and how they were chosen."""
    left_out: LeftOut | None = None
    """The bad videos that are in neither, if there was a list of them."""
    overlapping: bool = False
    """Whether videos in common are intended, as when a model shall memorise a few."""

    def __post_init__(self) -> None:
        if self.train.classes != self.val.classes:
            raise ValueError("train and val must share one list of classes")
        common = {s.path.resolve() for s in self.train.samples} & {s.path.resolve() for s in self.val.samples}
        if common and not self.overlapping:
            names = first_few(sorted(common))
            raise DatasetError(
                f"{len(common)} {self.train.kind} are in train and in val: {names}: choose rows that do not overlap"
            )
        if unseen := [name for name, count in self.train.counts().items() if count == 0]:
            raise DatasetError(f"{self.train.source}: nothing to train on for class {first_few(unseen)}")
        if len(self.val) == 0:
            raise DatasetError(f"{self.val.source}: nothing to validate on")


def open_splits(
    data: str | Path,
    *,
    train_on: RowFilter | None = None,
    val_on: RowFilter | None = None,
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    bad: Collection[Path] = (),
    cache: ShardCache | None = None,
    multi_label: bool = False,
    group: str | None = None,
    fold: int = 0,
    folds: int = 0,
    background: str | None = None,
    background_share: float = BACKGROUND_SHARE,
    frames_per_second: float | None = None,
) -> Splits:
    """Opens the training and validation videos of a folder, a CSV file, a benchmark (``NAME:PATH``) or shards.

    A folder, a benchmark or shards: its train and val (or test, if there is no val). A CSV file: the rows of
    ``train_on`` and ``val_on`` (all others to train on where only ``val_on`` is given), or those that its column
    ``split`` names; benchmarks and shards have this column, too. Where that leaves no val, it is ``val_fraction`` of
    every class, drawn by ``seed``. With ``folds``, train is dealt to as many parts instead, of which number ``fold``
    (from 1) is val; a val that the data brings is left out.
    ``group``: videos of one group, which `find_groups` finds and `join_groups` joins, are all in train or all in val; a
    `DatasetError` where the data's own splits have some in both.
    ``background``: a class for what is unmarked in the videos of segments, which shards have if they were made with
    it; ``background_share``: see `add_background`.
    ``frames_per_second``: of times of segments that are numbers of frames.
    ``bad``: paths of videos to leave out, or all verdicts on them from `read_bad_videos`. Videos that a benchmark lists
    and that are missing are left out; the description counts them. ``cache``: where to keep shards of a URL.
    ``multi_label``: videos may have several labels, which only a CSV file can say; ``ValueError`` for any other data.
    Raises as `read_source` and `select` do.
    """
    bad, data = BadVideos.of(bad), without_credentials(data)
    source = read_source(data, bad=bad, cache=cache, multi_label=multi_label, frames_per_second=frames_per_second)
    left_out = _left_out(source, bad)
    if isinstance(source, CsvTable):
        source = source.with_bad_rows()
        digest = hash_csv(source)
        train, val, how = _csv_splits(source, train_on, val_on)
        train, val = replace(train, manifest_hash=digest), replace(val, manifest_hash=digest) if val else None
    else:
        if isinstance(source, Listing):
            train, val, how = _listing_splits(source, train_on, val_on)
        else:
            train, val, how = _folder_splits(data, source, train_on, val_on)
    train, val = _excluding(train, left_out), _excluding(val, left_out) if val else None
    if left_out:
        count = sum(videos.left_out.count for videos in (train, val) if videos and videos.left_out)
        left_out = replace(left_out, count=count)
    table = source if isinstance(source, CsvTable) else None
    by, groups = _by(group), None
    if group and (folds or val is None):
        groups = told = find_groups(train, group, table)
        if group != SEGMENT or train.kind != "segments":
            groups = join_groups(train, told)
        if (fewer := len(set(groups))) < (before := len(set(told))):
            by += f", {before} of them joined to {fewer} as some share recordings"
    dealt = f"{counted(len(set(groups)), 'group')}, " if groups else ""
    if folds:
        if val_on:
            raise ValueError("`folds` deals all training videos to its own splits: leave `val_on` out")
        left = f"; what it has to validate on ({len(val)} {val.kind}) is left out" if val else ""
        how = f"{how}{left}; val is fold {fold} of {folds}{by} ({dealt}seed {seed})"
        train, val = split_folds(train, groups, fold, folds, seed)
    elif groups:
        how = f"{how}; val is about {val_fraction:.0%} of every class{by} ({dealt}seed {seed})"
        chosen = split_by_groups(train, groups, val_fraction, seed)
        train, val = take_apart(train, chosen, f"val share of about {val_fraction:.0%}{_by(group)}, seed {seed}")
    elif val is None:
        how = f"{how}; val is {val_fraction:.0%} of every class (seed {seed})"
        train, val = split_stratified(train, val_fraction, seed)
    elif group:
        found = find_groups(replace(train, samples=(*train.samples, *val.samples)), group, table)
        if common := sorted(set(found[: len(train)]) & set(found[len(train) :])):
            raise DatasetError(
                f"{data}: {first_few(common)} of `group={group}` are in train and in val: leave the data's own splits "
                "out, or `group`"
            )
        how += by
    if left_out:
        what = "files listed as bad are left out" if left_out.count or not left_out.manifest else "no file is left out"
        how = f"{how}; {what}{left_out.notes}"
    if background and isinstance(source, CsvTable):
        before = len(train)
        train, val = add_background((train, val), source.marked(), background, share=background_share, seed=seed)
        how = f"{how}; {counted(len(train) - before, 'unmarked piece')} of them as {background} to train on"
    elif background and not find_shards(data):
        raise ValueError(f"`background` is for segments of videos, and {data} has none: leave it out")
    elif background and background not in train.classes:
        raise ValueError(f"`background={background}` is no class of {data}: `dualformer shards` makes it")
    return Splits(train=train, val=val, description=how, left_out=left_out)


def open_videos(
    data: str | Path,
    *,
    on: RowFilter | None = None,
    bad: Collection[Path] = (),
    missing: Literal["error", "wrong"] = "error",
    multi_label: bool = False,
    frames_per_second: float | None = None,
) -> VideoList:
    """Opens the list to evaluate on: val (or test) of a folder, benchmark or shards, else all of it; of a CSV file
    the rows that ``on`` chooses. ``on`` chooses splits of a benchmark or shards, too, as ``{"split": ("test",)}``.

    Missing videos are a `DatasetError`, or kept in ``missing`` of the list, to be counted as wrong.
    ``multi_label`` and ``frames_per_second`` are those of `open_splits`.
    """
    bad, data = BadVideos.of(bad), without_credentials(data)
    source = read_source(
        data,
        bad=bad,
        check_files=missing == "error",
        multi_label=multi_label,
        fewest=1,
        frames_per_second=frames_per_second,
    )
    left_out = _left_out(source, bad)
    if isinstance(source, CsvTable):
        source = source.with_bad_rows()
        videos = _excluding(replace(select(source, on), manifest_hash=hash_csv(source)), left_out)
        if missing == "wrong":
            return _with_missing_apart(source, videos)
    elif isinstance(source, Listing):
        videos = _select_splits(source.title, source.splits, on) if on else _evaluation_split(source.splits)
    else:
        videos = _select_splits(f"the folder {data}", source, on) if on else _evaluation_split(source)
    if not isinstance(source, CsvTable):
        videos = _excluding(videos, left_out)
    if videos.missing and missing == "error":
        raise DatasetError(
            f"{videos.source}: {len(videos.missing)} of {len(videos) + len(videos.missing)} videos are missing "
            f"({name_missing(videos.missing)}): get them, or count them as wrong with `missing=wrong`"
        )
    if len(videos) == 0 and not videos.missing:
        raise DatasetError(f"{videos.source}: every file in it is listed as bad")
    return videos


def open_all_splits(
    data: str | Path, *, bad: Collection[Path] = (), **settings: Any
) -> tuple[dict[str, VideoList], str]:
    """Opens train and val as `open_splits` with ``settings``, and test where the data has one, too.

    Returns the lists by split, and their description. A background is in train and val.
    """
    splits = open_splits(data, bad=bad, **settings)
    lists = {"train": splits.train, "val": splits.val}
    bad = BadVideos.of(bad)
    rate = settings.get("frames_per_second")
    source = read_source(data, bad=bad, log_left_out=False, frames_per_second=rate)
    if isinstance(source, CsvTable):
        has_test = "split" in source.columns and any(row.values["split"] == "test" for row in source.rows)
        test = select(source, {"split": ("test",)}) if has_test else None
    else:
        test = (source.splits if isinstance(source, Listing) else source).get("test")
    if test is not None:
        test = replace(
            _excluding(test, _left_out(source, bad)),
            classes=splits.train.classes,  # a background is behind the others
            manifest_hash=splits.train.manifest_hash,
        )
        used = {sample.path for videos in lists.values() for sample in videos.samples}
        if len(test) and not any(sample.path in used for sample in test.samples):
            lists["test"] = test
    return lists, splits.description


def _by(group: str | None) -> str:
    return f", no {group} on both sides" if group else ""


def read_bad_videos(manifest_path: str | Path) -> BadVideos:
    """Returns the paths of the videos that a manifest of ``dualformer check`` calls bad, with all of its verdicts."""
    return BadVideos.from_verdicts(read_manifest(manifest_path), str(manifest_path))


def _evaluation_split(found: Mapping[str, VideoList]) -> VideoList:
    return next(found[key] for key in ("val", "test", "all", "train") if key in found)


def _with_missing_apart(table: CsvTable, videos: VideoList) -> VideoList:
    """Moves files that are not there to ``missing``."""
    absent = {row.path: row.where(table.path) for row in table.rows if not row.exists}
    missing = tuple(
        MissingSample(path=s.path, label=s.label, extra_labels=s.extra_labels, listed=absent[s.path])
        for s in videos.samples
        if s.path in absent
    )
    there = tuple(s for s in videos.samples if s.path not in absent)
    return replace(videos, samples=there, missing=missing)


def _select_splits(title: str, found: Mapping[str, VideoList], rows: RowFilter) -> VideoList:
    """Returns the videos of the splits that ``rows`` names. Raises ``ValueError`` for anything else in it."""
    if "all" in found:
        raise ValueError(f"{title} has no train/, val/ and test/ to choose from: rows can be chosen in a CSV file only")
    if set(rows) != {"split"}:
        raise ValueError(f"{title} has the column split only, with {', '.join(found)}")
    splits = [split if split in found or split not in _VAL_NAMES else "val" for split in rows["split"]]
    if unknown := [split for split in splits if split not in found]:
        raise ValueError(f"{title} has no {unknown_values('split', unknown)}: choose from {', '.join(found)}")
    parts = [found[split] for split in dict.fromkeys(splits)]
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        samples=tuple(sample for part in parts for sample in part.samples),
        missing=tuple(missing for part in parts for missing in part.missing),
        source=f"{parts[0].source} and {', '.join(splits[1:])}",
    )


def _listing_splits(
    listing: Listing, train_on: RowFilter | None, val_on: RowFilter | None
) -> tuple[VideoList, VideoList | None, str]:
    described = listing.describe()
    train = train_on or {"split": ("train",)}
    if not train_on and "train" not in listing.splits:
        raise DatasetError(f"{described}: no training videos: add the list of them")
    rest = [split for split in ("val", "test") if split in listing.splits and split not in train.get("split", ())]
    val = val_on or ({"split": (rest[0],)} if rest else None)
    how = f"{described}; train on {describe_filter(train)}{f', val on {describe_filter(val)}' if val else ''}"
    title, splits = listing.title, listing.splits
    return _select_splits(title, splits, train), _select_splits(title, splits, val) if val else None, how


def _left_out(source: Listing | CsvTable | Mapping[str, VideoList], bad: BadVideos) -> LeftOut | None:
    """Returns which videos of the data are bad; None where nobody asks."""
    if isinstance(source, CsvTable):
        return source.left_out
    lists = source.splits if isinstance(source, Listing) else source
    paths = dict.fromkeys(sample.recording for videos in lists.values() for sample in videos.samples)
    return bad.among(list(paths)) if bad or bad.manifest else None


def _excluding(videos: VideoList, left_out: LeftOut | None) -> VideoList:
    if left_out is None:
        return videos
    kept = videos.subset(i for i, sample in enumerate(videos.samples) if sample.recording not in left_out.bad)
    return replace(kept, left_out=replace(left_out, count=len(videos) - len(kept)))


def _folder_splits(
    data: str | Path, found: dict[str, VideoList], train_on: RowFilter | None, val_on: RowFilter | None
) -> tuple[VideoList, VideoList | None, str]:
    if train_on or val_on:
        train = _select_splits(f"the folder {data}", found, train_on or {"split": ("train",)})
        val = _select_splits(f"the folder {data}", found, val_on) if val_on else None
        how = f"{data}: train on {describe_filter(train_on or {'split': ('train',)})}"
        return train, val, f"{how}, val on {describe_filter(val_on)}" if val_on else how
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
    table: CsvTable, train_on: RowFilter | None, val_on: RowFilter | None
) -> tuple[VideoList, VideoList | None, str]:
    name = str(table.path)
    if train_on and val_on:
        how = f"{name}: train on {describe_filter(train_on)}, val on {describe_filter(val_on)}"
        return select(table, train_on), select(table, val_on), how
    if train_on:
        return select(table, train_on), None, f"{name}: {describe_filter(train_on)}"
    if val_on:
        val = select(table, val_on)
        taken = {sample.path for sample in val.samples}
        rest = select(replace(table, rows=tuple(row for row in table.rows if row.path not in taken)))
        return rest, val, f"{name}: val on {describe_filter(val_on)}, train on all other rows"
    if "split" not in table.columns:
        return select(table), None, f"{name}: all rows, no column split"
    present = {row.values["split"] for row in table.rows}
    if unknown := sorted(present - {"train", "test", *_VAL_NAMES}):
        raise DatasetError(
            f"{name}: split {first_few(unknown)!r} is none of train, val, test: rename it, or choose rows to train on"
        )
    if "train" not in present:
        raise DatasetError(f"{name}: no row has split=train")
    train = select(table, {"split": ("train",)})
    val_names = tuple(n for n in _VAL_NAMES if n in present) or (("test",) if "test" in present else ())
    if not val_names:
        return train, None, f"{name}: split=train, no row for val"
    return train, select(table, {"split": val_names}), f"{name}: its column split, train and {', '.join(val_names)}"
