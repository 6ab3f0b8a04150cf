"""Kinetics-400, -600 and -700: CSV files with the columns label, youtube_id, time_start, time_end, split.

A video is called ``ID_START_END`` with times of six digits, and lies anywhere below the folder: in train/, val/ and
test/, in class folders inside them, in a folder of replacements for corrupt files. The annotations are every CSV file
with these columns; that of the test videos may lack the labels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dualformer.datasets.benchmark_classes import TABLES, class_names, spelling
from dualformer.datasets.benchmarks.annotations import (
    Benchmark,
    BenchmarkPath,
    Entry,
    Listing,
    Mistake,
    annotation_files,
    assemble,
    raise_mistakes,
)
from dualformer.datasets.samples import DatasetError, first_few
from dualformer.files import read_csv_rows

_NEEDED = ("youtube_id", "time_start", "time_end")
_SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_FOLDERS = {split: {name for name, meant in _SPLITS.items() if meant == split} for split in ("train", "val", "test")}
_REPLACEMENTS = {  # of files that are corrupt in train/, val/ and test/
    *("replacement", "replacements"),
    *(f"replacementforcorruptedk{n}" for n in (400, 600, 700)),
}
_REMEDY = "take the original file, or remove these lines"


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A video of the annotations. ``label`` is a class name, or empty."""

    listed: str
    split: str
    name: str
    label: str


def read_kinetics(at: BenchmarkPath) -> Listing:
    """Reads the edition of Kinetics with 400, 600 or 700 classes.

    The classes of the first two are in the order of the tables in `benchmark_classes`; the 700 are ordered by letters,
    as theirs are.
    """
    rows = [row for path in _annotations(at.path) for row in _rows(path)]
    count = int(at.name.removeprefix("kinetics"))
    names = class_names(at.name) if at.name in TABLES else _own_classes(rows, at, count)
    labels = {spelling(name): i for i, name in enumerate(names)}
    lines: list[Entry | Mistake | None] = []
    for row in rows:
        if isinstance(row, Mistake):
            lines.append(row)
        elif not row.label:
            reason = f"no label for a video of {row.split}"
            lines.append(None if row.split == "test" else Mistake(listed=row.listed, reason=reason))
        elif (label := labels.get(spelling(row.label))) is None:
            reason = f"class {row.label!r} is none of the {count} of {at.name}"
            lines.append(Mistake(listed=row.listed, reason=reason))
        else:
            folders = (_REPLACEMENTS, _FOLDERS[row.split], {spelling(names[label])})
            file = f"{row.split}/{row.name}.mp4"
            lines.append(
                Entry(name=row.name, label=label, split=row.split, listed=row.listed, file=file, folders=folders)
            )
    left_out = "test videos without labels"
    return assemble(f"Kinetics-{count}", at.path, names, lines, remedy=_REMEDY, left_out=left_out)


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


def _rows(path: Path) -> Iterator[_Row | Mistake]:
    rows = read_csv_rows(path, DatasetError, remedy=": take the original file")
    columns = [column.lower() for column in next(rows)[1]]
    if twice := [column for column in columns if column and columns.count(column) > 1]:
        raise DatasetError(f"{path}:1: column {twice[0]!r} is in the header twice: take the original file")
    for line, fields in rows:
        listed = f"{path}:{line}"
        if len(fields) != len(columns):
            reason = f"{len(fields)} fields where the header has {len(columns)}"
            yield Mistake(listed=listed, reason=reason)
            continue
        row = dict(zip(columns, fields, strict=True))
        video, start, end = (row[column] for column in _NEEDED)
        if not video or not _is_time(start) or not _is_time(end) or int(start) >= int(end):
            reason = f"no video {video!r} from second {start!r} to {end!r}"
            yield Mistake(listed=listed, reason=reason)
        elif (split := _split_of(path, row)) is None:
            yield Mistake(listed=listed, reason=f"split {row['split']!r} is none of train, val, test")
        else:
            name = f"{video}_{int(start):06d}_{int(end):06d}"
            yield _Row(listed=listed, split=split, name=name, label=row.get("label", ""))


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


def _own_classes(rows: list[_Row | Mistake], at: BenchmarkPath, count: int) -> tuple[str, ...]:
    raise_mistakes(rows, _REMEDY)  # a line that is left out may hold the only video of its class
    labels = {row.label for row in rows if isinstance(row, _Row) and row.label}
    names = sorted(labels, key=lambda name: (name.casefold(), name))
    if len(names) != count:
        # One class more or less would move the labels of all that follow it.
        raise DatasetError(
            f"{at.path}: its CSV files name {len(names)} classes ({first_few(names)}), where {at.name} has {count}: "
            "take the original files"
        )
    return tuple(names)
