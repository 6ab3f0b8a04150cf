"""Finds a benchmark by its name, ``NAME:PATH``, ``NAME@SPLIT:PATH`` or ``NAME@key=value:PATH``, or by its files."""

import importlib
import pkgutil
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from dualformer.datasets import benchmarks
from dualformer.datasets.benchmarks.annotations import annotation_files
from dualformer.datasets.benchmarks.listing import Benchmark, BenchmarkPath, Listing
from dualformer.datasets.foreign.asked_columns import PREFIX as COLUMNS
from dualformer.datasets.shards.read_shards import find_shards
from dualformer.remote_paths import as_path
from dualformer.urls import url_of

# Braces keep the colon of a pattern such as img_{:05d}.jpg apart from the one before the path.
_NAMED = re.compile(r"(?P<name>[A-Za-z][\w-]+)(?:@(?P<options>(?:[^:{}]|\{[^{}]*\})*))?:(?P<path>.+)", re.DOTALL)


@cache
def all_benchmarks() -> dict[str, Benchmark]:
    """Returns the records of all modules in this package by the names of the benchmarks."""
    found: dict[str, Benchmark] = {}
    for module in pkgutil.iter_modules(benchmarks.__path__, f"{benchmarks.__name__}."):
        record = getattr(importlib.import_module(module.name), "BENCHMARK", None)
        found |= dict.fromkeys(record.names, record) if isinstance(record, Benchmark) else {}
    return found


def parse_benchmark(data: str | Path) -> BenchmarkPath | None:
    """Returns what ``data`` names, or None for a URL and a plain path: one that exists or has no ``NAME:`` in front.

    Raises ``ValueError`` for a name that there is not, and for options that cannot be read.
    """
    text = str(data)
    match = _NAMED.fullmatch(text)
    if match is None or match["name"] == COLUMNS or Path(text).exists() or url_of(text):
        return None
    name, known = match["name"].lower(), all_benchmarks()
    if name not in known:
        raise ValueError(f"{text}: no data set is called {match['name']!r}: choose from {', '.join(known)}")
    only = next(iter(known[name].options)) if len(known[name].options) == 1 else ""
    options: dict[str, str] = {}
    for part in match["options"].split(",") if match["options"] is not None else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key, value = (key, value) if equals else (only, key)
        if not key or not value or key in options:
            raise ValueError(f"{text}: cannot read {part!r} behind {name}@: {known[name].usage(name)}")
        options[key] = value
    return BenchmarkPath(name=name, options=options, path=Path(match["path"]).expanduser())


def read_benchmark(at: BenchmarkPath) -> Listing:
    """Raises ``FileNotFoundError`` without the folder, ``ValueError`` for wrong options, else `DatasetError`."""
    benchmark = all_benchmarks()[at.name]
    options: dict[str, str] = {}
    for key, value in at.options.items():
        values = benchmark.options.get(key)
        options[key] = value.lower().removeprefix("v") if values else value  # version v2 is 2
        if values is None or (values and options[key] not in values):
            wrong = key if values is None else value
            raise ValueError(f"{at.name}@ does not take {wrong!r}: {benchmark.usage(at.name)}")
    return benchmark.read(replace(at, options=options))


def short_name(data: str | Path) -> str:
    """Returns a name for a data set without the folders above it: ``ucf101@2``, else the file's or folder's own."""
    if shards := find_shards(data):
        return str(shards).rpartition("/")[2]
    at = parse_benchmark(data)
    if at is None:
        return as_path(data).name
    if at.name == "list":
        return f"list:{at.path.name}"
    return f"{at.name}@{','.join(at.options.values())}" if at.options else at.name


def recognise_benchmark(root: Path) -> str | None:
    """Returns the benchmark whose annotation files lie in a folder, the first of several editions, for a hint."""
    for name, benchmark in all_benchmarks().items():
        for path in annotation_files(root, *benchmark.files):
            with path.open("rb") as file:
                if benchmark.header in file.readline():
                    return name
    return None
