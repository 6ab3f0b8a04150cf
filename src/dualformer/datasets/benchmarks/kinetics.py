"""Kinetics-400, -600 and -700: CSV files with the columns label, youtube_id, time_start, time_end, split.

A video is called ``ID_START_END`` with times of six digits, and lies anywhere below the folder: in train/, val/ and
test/, in class folders inside them, in a folder of replacements for corrupt files. The annotations are every CSV file
with these columns; that of the test videos may lack the labels.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from dualformer.datasets.benchmark_classes import TABLES, class_names, spelling
from dualformer.datasets.benchmarks.annotations import annotation_files
from dualformer.datasets.benchmarks.listing import (
    Benchmark,
    BenchmarkPath,
    Entry,
    Listing,
    Mistake,
    assemble,
    raise_mistakes,
)
from dualformer.datasets.samples import DatasetError, first_few
from dualformer.files import read_csv_rows
from dualformer.plurals import counted

_NEEDED = ("youtube_id", "time_start", "time_end")
_SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_FOLDERS = {split: {name for name, meant in _SPLITS.items() if meant == split} for split in ("train", "val", "test")}
_REPLACEMENTS = {  # of files that are corrupt in train/, val/ and test/
    *("replacement", "replacements"),
    *(f"replacementforcorruptedk{n}" for n in (400, 600, 700)),
}
_REMEDY = "take the original file, or remove these lines"


def read_kinetics(at: BenchmarkPath) -> Listing:
    """Reads the edition of Kinetics with 400, 600 or 700 classes.

    The classes of the first two are in the order of the tables in `benchmark_classes`; the 700 are ordered by letters,
    as theirs are.
    """
    paths = _annotations(at.path)
    names = class_names(at.name) if at.name in TABLES else _own_classes(paths, at)
    labels = {spelling(name): i for i, name in enumerate(names)}
    lines = [line for path in paths for line in _entries(path, labels, at.name)]
    title = at.name.replace("kinetics", "Kinetics-")
    left_out = ("test video without labels", "test videos without labels")
    return assemble(title, at.path, names, lines, remedy=_REMEDY, left_out=left_out)


BENCHMARK = Benchmark(
    names=("kinetics400", "kinetics600", "kinetics700"), read=read_kinetics, files=("*.csv",), header=b"youtube_id"
)


def _annotations(root: Path) -> list[Path]:
    found = []
    for path in annotation_files(root, "*.csv"):
        with path.open("rb") as file:
            header = file.readline().decode("utf-8-sig", "replace").lower()
        if all(column in header for column in _NEEDED):
            found.append(path)
    if not found:
        raise DatasetError(
            f"{root}: no CSV file with the columns {', '.join(_NEEDED)} in it (the annotations): put train.csv and "
            "val.csv there"
        )
    return found


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]] | Mistake]:
    """Yields FILE:LINE and the fields by column."""
    rows = read_csv_rows(path, DatasetError, remedy=": take the original file")
    columns = [column.lower() for column in next(rows)[1]]
    if twice := [column for column in columns if column and columns.count(column) > 1]:
        raise DatasetError(f"{path}:1: column {twice[0]!r} is in the header twice: take the original file")
    for line, fields in rows:
        if len(fields) != len(columns):
            yield Mistake(f"{path}:{line}", f"{counted(len(fields), 'field')} where the header has {len(columns)}")
        else:
            yield f"{path}:{line}", dict(zip(columns, fields, strict=True))


def _entries(path: Path, labels: Mapping[str, int], benchmark: str) -> Iterator[Entry | Mistake | None]:
    for found in _rows(path):
        if isinstance(found, Mistake):
            yield found
            continue
        listed, row = found
        video, start, end = (row[column] for column in _NEEDED)
        split, label = _split_of(path, row), row.get("label")
        if not video or not _is_time(start) or not _is_time(end) or int(start) >= int(end):
            yield Mistake(listed, f"no video {video!r} from second {start!r} to {end!r}")
        elif split is None:
            yield Mistake(listed, f"split {row['split']!r} is none of train, val, test")
        elif not label:
            yield None if split == "test" else Mistake(listed, f"no label for a video of {split}")
        elif spelling(label) not in labels:
            yield Mistake(listed, f"class {label!r} is none of the {len(labels)} of {benchmark}")
        else:
            name, number = f"{video}_{int(start):06d}_{int(end):06d}", labels[spelling(label)]
            usual, folders = f"{split}/{name}.mp4", (_REPLACEMENTS, _FOLDERS[split])
            yield Entry(name=name, label=number, split=split, listed=listed, file=usual, folders=folders)


def _is_time(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _split_of(path: Path, row: Mapping[str, str]) -> str | None:
    """Returns the split by the column split, else by the file's name."""
    if "split" in row:
        return _SPLITS.get(row["split"].lower())
    words = [word for word in _SPLITS if word in path.stem.lower()]
    if not words:
        raise DatasetError(f"{path}:1: neither a column split nor train, val or test in the file's name: rename it")
    return _SPLITS[words[0]]


def _own_classes(paths: list[Path], at: BenchmarkPath) -> tuple[str, ...]:
    found = [row for path in paths for row in _rows(path)]
    raise_mistakes(found, _REMEDY)  # a line that is left out may hold the only video of its class
    labels = {row[1]["label"] for row in found if not isinstance(row, Mistake) and row[1].get("label")}
    names = sorted(labels, key=lambda name: (name.casefold(), name))
    if len(names) != (count := int(at.name.removeprefix("kinetics"))):
        # One class more or less would move the labels of all that follow it.
        raise DatasetError(
            f"{at.path}: its CSV files name {len(names)} classes ({first_few(names)}), where {at.name} has {count}: "
            "take the original files"
        )
    return tuple(names)
