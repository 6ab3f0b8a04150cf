"""What a data set holds, counted and not decoded: the first thing that `dualformer check` tells."""

from dataclasses import dataclass
from pathlib import Path

from dualformer.datasets.csv_list import read_csv
from dualformer.datasets.data_source import hash_csv, listing_of, read_hashed_folder, rows_by_split
from dualformer.datasets.manifest import find_videos
from dualformer.datasets.samples import DatasetError, MissingSample
from dualformer.video.file_slices import Media


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a data set holds, before any of it is decoded."""

    paths: tuple[Media, ...]
    """Every video and image that is there, and what a CSV file lists besides."""
    description: str
    """One line: classes, counts, what is missing; or why the data cannot be trained on. Empty for a single file."""
    manifest_hash: str = ""
    missing: tuple[MissingSample, ...] = ()
    multi_label: bool = False
    """Whether videos have several labels, as a CSV file may say."""


def survey(data: str | Path) -> Survey:
    """Count a folder, a CSV file, a benchmark, shards or a single file. Raises as what reads them does."""
    if listing := listing_of(data):
        found = listing.splits
        return Survey(
            paths=tuple(sorted((s.file for videos in found.values() for s in videos.samples), key=str)),
            description=listing.describe(),
            manifest_hash=listing.manifest_hash,
            missing=tuple(missing for videos in found.values() for missing in videos.missing),
        )
    data = Path(data)
    paths = tuple(find_videos(data))
    if data.is_file() and data.suffix.lower() != ".csv":
        return Survey(paths=paths, description="")
    if data.is_file():
        table = read_csv(data, check_files=False, multi_label=None)
        counts = ", ".join(f"{split} {len(rows)}" for split, rows in rows_by_split(table.rows).items())
        several = ", several labels a video" if table.multi_label else ""
        described = f"{data}: {len(table.classes)} classes{several}, files: {counts}"
        digest = hash_csv(table, ())
        return Survey(paths=paths, description=described, manifest_hash=digest, multi_label=table.multi_label)
    try:
        found = read_hashed_folder(data)
    except DatasetError as error:
        return Survey(paths=paths, description=f"not laid out to train on: {error}")
    counts = ", ".join(f"{split} {len(videos)}" for split, videos in found.items())
    classes = len(next(iter(found.values())).classes)
    return Survey(
        paths=paths,
        description=f"{data}: {classes} classes, files: {counts}",
        manifest_hash=next(iter(found.values())).manifest_hash,
    )
