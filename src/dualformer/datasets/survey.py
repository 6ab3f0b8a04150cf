"""Counts what a data set holds without decoding it: the first line of `dualformer check`."""

from dataclasses import dataclass
from pathlib import Path

from dualformer.datasets.benchmarks.find_benchmark import parse_benchmark
from dualformer.datasets.benchmarks.listing import Listing
from dualformer.datasets.csv_list import CsvTable
from dualformer.datasets.data_source import hash_csv, read_source, rows_by_split
from dualformer.datasets.manifest import find_videos
from dualformer.datasets.samples import DatasetError, MissingSample
from dualformer.datasets.shards.read_shards import find_shards
from dualformer.video.file_slices import Media


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The counts of a data set."""

    paths: tuple[Media, ...]
    """Every video and image that is there, and what a CSV file lists besides."""
    description: str
    """One line: classes, counts, what is missing; or why the data cannot be trained on. Empty for a single file."""
    manifest_hash: str = ""
    missing: tuple[MissingSample, ...] = ()
    multi_label: bool = False
    """Whether videos have several labels, as a CSV file may say."""


def survey(data: str | Path) -> Survey:
    """Counts a folder, a CSV file, a benchmark, shards or a single file. Raises as what reads them does."""
    brings_splits = find_shards(data) or parse_benchmark(data)
    paths = () if brings_splits else tuple(find_videos(data))
    if not brings_splits and Path(data).is_file() and Path(data).suffix.lower() != ".csv":
        return Survey(paths=paths, description="")
    try:
        source = read_source(data, check_files=False, multi_label=None)
    except DatasetError as error:
        if brings_splits or not Path(data).is_dir():
            raise
        return Survey(paths=paths, description=f"not laid out to train on: {error}")
    if isinstance(source, Listing):
        lists = source.splits.values()
        return Survey(
            paths=tuple(sorted((sample.file for videos in lists for sample in videos.samples), key=str)),
            description=source.describe(),
            manifest_hash=source.manifest_hash,
            missing=tuple(missing for videos in lists for missing in videos.missing),
        )
    if isinstance(source, CsvTable):
        splits, digest = rows_by_split(source.rows), hash_csv(source, ())
        several, classes = source.multi_label, source.classes
    else:
        splits, first = source, next(iter(source.values()))
        several, classes, digest = False, first.classes, first.manifest_hash
    counts = ", ".join(f"{split} {len(videos)}" for split, videos in splits.items())
    labels = ", several labels a video" if several else ""
    described = f"{data}: {len(classes)} classes{labels}, files: {counts}"
    return Survey(paths=paths, description=described, manifest_hash=digest, multi_label=several)
