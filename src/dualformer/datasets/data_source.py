"""Reads whatever a data set is given as: a folder, a CSV file, segments, a benchmark or shards; and counts it."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from dualformer.datasets.benchmarks.find_benchmark import parse_benchmark, read_benchmark, recognise_benchmark
from dualformer.datasets.benchmarks.listing import Listing
from dualformer.datasets.class_folders import read_folder
from dualformer.datasets.csv_list import no_segments, read_csv
from dualformer.datasets.foreign.layouts import ask_for_label, find_foreign
from dualformer.datasets.manifest import find_videos
from dualformer.datasets.row_table import CsvTable, Row, select
from dualformer.datasets.samples import (
    SEPARATOR,
    DatasetError,
    MissingSample,
    VideoList,
    check_class_names,
    hash_manifest,
)
from dualformer.datasets.segments.segment_list import read_segment_table, segment_file
from dualformer.datasets.shards.read_shards import find_shards, read_shards
from dualformer.datasets.shards.storage import ShardCache
from dualformer.datasets.split_names import SPLIT_OF
from dualformer.remote_paths import RemotePath, as_path
from dualformer.urls import without_credentials
from dualformer.video.file_slices import Media

_log = logging.getLogger("dualformer")


def read_source(
    data: str | Path,
    *,
    bad: Collection[Path] = (),
    cache: ShardCache | None = None,
    check_files: bool = True,
    multi_label: bool | None = False,
    log_left_out: bool = True,
    fewest: int = 2,
    frames_per_second: float | None = None,
) -> Listing | CsvTable | dict[str, VideoList]:
    """Reads shards or a benchmark as a `Listing`, a CSV file or segments of any format as a table, a folder as lists by
    split with their hash.

    ``bad``, ``check_files``, ``multi_label`` and ``frames_per_second`` are those of `read_csv`, ``log_left_out`` and
    ``fewest`` those of `read_folder`. Raises ``FileNotFoundError`` where
    there is nothing, ``ValueError`` for any other file, for other data than a CSV file with ``multi_label``, and
    for data without segments with ``frames_per_second``.
    """
    data = without_credentials(data)
    shards = find_shards(data)
    if segments := None if shards else segment_file(data):
        return read_segment_table(
            segments,
            bad=bad,
            check_files=check_files,
            multi_label=bool(multi_label),
            frames_per_second=frames_per_second,
        )
    foreign = None if shards else find_foreign(data)
    if foreign:
        if frames_per_second is not None:
            raise ValueError(no_segments(data))
        return foreign.table(bad=bad, check_files=check_files, multi_label=multi_label)
    named = None if shards else parse_benchmark(data)
    folder = as_path(data)
    if multi_label and (shards or named or folder.is_dir()):
        raise ValueError(
            f"{data} gives each video one label: several are for a CSV file, whose column label holds them separated "
            f"by {SEPARATOR}"
        )
    if frames_per_second is not None and (shards or named or folder.is_dir()):
        raise ValueError(no_segments(data))
    if shards:
        return read_shards(shards, cache=cache)
    if named:
        return read_benchmark(named)
    if folder.is_dir():
        return _read_hashed_folder(folder, log_left_out, fewest)
    if folder.suffix.lower() != ".csv" and not folder.exists():
        raise FileNotFoundError(f"no such folder or CSV file: {data}")
    if folder.suffix.lower() != ".csv":
        raise ValueError(f"{data} is neither a folder nor a .csv file; a benchmark is named as in ucf101:{data}")
    return read_csv(
        folder, bad=bad, check_files=check_files, multi_label=multi_label, frames_per_second=frames_per_second
    )


def _read_hashed_folder(data: Path, log_left_out: bool, fewest: int) -> dict[str, VideoList]:
    try:
        found = read_folder(data, log_left_out=log_left_out, fewest=fewest)
    except DatasetError as error:
        if not isinstance(data, RemotePath) and (name := recognise_benchmark(data)):
            raise DatasetError(f"{error}; if this is a benchmark as downloaded, say {name}:{data}") from error
        if asks := ask_for_label(data):
            raise DatasetError(f"{asks}; nor do folders tell labels: {error}") from error
        raise
    classes = next(iter(found.values())).classes
    of_splits = all(name.lower() in SPLIT_OF for name in classes)
    if (of_splits or len(classes) == 1) and (asks := ask_for_label(data)):
        if of_splits:
            raise DatasetError(asks)
        _log.warning("%s", asks)
    digest = hash_manifest(found)
    return {key: replace(videos, manifest_hash=digest) for key, videos in found.items()}


def rows_by_split(rows: tuple[Row, ...]) -> dict[str, list[Row]]:
    """Returns rows by their column split, as "all" where there is none."""
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(row.values.get("split", "all"), []).append(row)
    return by_split


def hash_csv(table: CsvTable) -> str:
    """Returns `hash_manifest` of the rows whose files are there, with those of bad ones."""
    there = replace(table, rows=tuple(row for row in table.with_bad_rows().rows if row.exists))
    return hash_manifest({s: select(replace(there, rows=tuple(r))) for s, r in rows_by_split(there.rows).items()})


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The counts of a data set."""

    paths: tuple[Media, ...]
    """What training and evaluation read of it, with what a CSV file lists and is not there. Of a folder that is not
    laid out for them, every video and image."""
    description: str
    """One line: classes, counts, what is missing; or why the data cannot be trained on. Empty for a single file."""
    manifest_hash: str = ""
    missing: tuple[MissingSample, ...] = ()
    multi_label: bool = False
    """Whether videos have several labels, as a CSV file may say."""
    trainable: bool = True
    """Whether the data is laid out to train on."""


def survey(data: str | Path, *, frames_per_second: float | None = None) -> Survey:
    """Counts a folder, a CSV file, a benchmark, shards or a single file. Raises as what reads them does.

    ``frames_per_second``: as for `read_csv`.
    """
    data = without_credentials(data)
    foreign = None if find_shards(data) or segment_file(data) else find_foreign(data)
    brings_splits = foreign or find_shards(data) or segment_file(data) or parse_benchmark(data)
    paths = () if brings_splits else tuple(find_videos(data))
    if not brings_splits and as_path(data).suffix.lower() != ".csv" and not as_path(data).is_dir():
        return Survey(paths=paths, description="", trainable=False)
    try:
        source = read_source(
            data,
            check_files=False,
            multi_label=None,
            log_left_out=False,  # `find_videos` has
            frames_per_second=frames_per_second,
        )
    except DatasetError as error:
        if foreign:
            paths = tuple(sorted({row.video for row in foreign.rows()}))
        elif brings_splits:
            raise
        return Survey(paths=paths, description=f"not laid out to train on: {error}", trainable=False)
    if isinstance(source, Listing):
        lists = source.splits.values()
        return Survey(
            paths=tuple(sorted({sample.media for videos in lists for sample in videos.samples}, key=str)),
            description=source.describe(),
            manifest_hash=source.manifest_hash,
            missing=tuple(missing for videos in lists for missing in videos.missing),
        )
    trainable = True
    if isinstance(source, CsvTable):
        splits, digest = rows_by_split(source.rows), hash_csv(source)
        paths = paths or tuple(sorted({row.video for row in source.rows} | set(source.unmarked)))
        several, classes = source.multi_label, source.classes
    else:
        splits, first = source, next(iter(source.values()))
        paths = tuple(sorted({sample.media for videos in source.values() for sample in videos.samples}, key=str))
        several, classes, digest = False, first.classes, first.manifest_hash
    counts = ", ".join(f"{split} {len(videos)}" for split, videos in splits.items())
    labels = ", several labels a video" if several else ""
    what = "segments" if isinstance(source, CsvTable) and source.marked() else "files"
    described = f"{data}: {len(classes)} classes{labels}, {what}: {counts}"
    try:
        check_class_names(classes, str(data))
    except DatasetError as error:
        described, trainable = f"{described}; not to be trained on: {error}", False
    return Survey(paths=paths, description=described, manifest_hash=digest, multi_label=several, trainable=trainable)
