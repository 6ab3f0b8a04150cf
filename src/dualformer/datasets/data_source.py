"""Which kind of data a name stands for, a folder, a CSV file, a benchmark or shards, and each read with its hash."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from dualformer.datasets.benchmarks.find_benchmark import parse_benchmark, read_benchmark, recognise_benchmark
from dualformer.datasets.benchmarks.listing import Listing
from dualformer.datasets.class_folders import read_folder
from dualformer.datasets.csv_list import CsvTable, Row, read_csv, select
from dualformer.datasets.samples import DatasetError, VideoList, hash_manifest
from dualformer.datasets.shards.read_shards import find_shards, read_shards
from dualformer.datasets.shards.storage import ShardCache


def listing_of(data: str | Path, cache: ShardCache | None = None) -> Listing | None:
    """A data set that brings its splits along: shards or a benchmark. None for any other."""
    if place := find_shards(data):
        return read_shards(place, cache=cache)
    named = parse_benchmark(data)
    return read_benchmark(named) if named else None


def is_folder(data: Path) -> bool:
    """Or else a CSV file. ``FileNotFoundError`` where there is nothing, ``ValueError`` for any other file."""
    if not data.exists():
        raise FileNotFoundError(f"no such folder or CSV file: {data}")
    if data.is_dir():
        return True
    if data.suffix.lower() != ".csv":
        raise ValueError(f"{data} is neither a folder nor a .csv file; a benchmark is named as in ucf101:{data}")
    return False


def read_hashed_folder(data: Path) -> dict[str, VideoList]:
    """`read_folder`, with the hash of all of it; its error says so where the folder looks like a benchmark's."""
    try:
        found = read_folder(data)
    except DatasetError as error:
        if name := recognise_benchmark(data):
            raise DatasetError(f"{error}; if this is a benchmark as downloaded, say {name}:{data}") from error
        raise
    digest = hash_manifest(found)
    return {key: replace(videos, manifest_hash=digest) for key, videos in found.items()}


def rows_by_split(rows: tuple[Row, ...]) -> dict[str, list[Row]]:
    """Rows by their column split; all of them where there is none."""
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(row.values.get("split", "all"), []).append(row)
    return by_split


def hash_csv(table: CsvTable, bad: Collection[Path]) -> str:
    """`hash_manifest` of a CSV file's rows whose files are there, those among them that ``bad`` made it leave out."""
    rows = read_csv(table.path, check_files=False, multi_label=table.multi_label).rows if bad else table.rows
    there = replace(table, rows=tuple(row for row in rows if row.is_there))
    return hash_manifest({s: select(replace(there, rows=tuple(r))) for s, r in rows_by_split(there.rows).items()})
