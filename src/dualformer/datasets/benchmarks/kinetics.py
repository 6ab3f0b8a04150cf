"""Kinetics-400, -600 and -700: CSV files with the columns label, youtube_id, time_start, time_end, split.

A video is called ``ID_START_END`` with times of six digits, and lies anywhere below the folder: in train/, val/ and
test/, in class folders inside them, in a folder of replacements for corrupt files. The annotations are every CSV file
with these columns; that of the test videos may lack the labels.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from dualformer.datasets.benchmark_classes import TABLES, class_names, spelling
from dualformer.datasets.benchmarks.annotations import (
    Entry,
    Listing,
    MediaIndex,
    Problems,
    annotation_files,
    assemble,
)
from dualformer.datasets.samples import DatasetError, name_some
from dualformer.files import read_csv_rows

_NEEDED = ("youtube_id", "time_start", "time_end")
_SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_REPLACEMENTS = {  # of files that are corrupt in train/, val/ and test/
    *("replacement", "replacements"),
    *(f"replacementforcorruptedk{n}" for n in (400, 600, 700)),
}


def read_kinetics(root: Path, classes: int) -> Listing:
    """The edition of Kinetics with 400, 600 or 700 classes in ``root``.

    The order of the first two is that of the tables in `classes`; that of the 700 is by letters, as theirs is.
    Raises ``FileNotFoundError`` and :class:`DatasetError`.
    """
    benchmark = f"kinetics{classes}"
    problems = Problems("take the original file, or remove these lines")
    rows = [row for path in _annotations(root) for row in _rows(path, problems)]
    if benchmark in TABLES:
        names = class_names(benchmark)
    else:
        problems.raise_any()  # a line that is left out may hold the only video of its class
        names = _own_classes(rows, root, classes)
    place = {spelling(name): i for i, name in enumerate(names)}
    entries: list[Entry] = []
    unlabelled = 0
    for listed, split, row in rows:
        if not row.get("label"):
            if split == "test":
                unlabelled += 1
            else:
                problems.add(listed, f"no label for a video of {split}")
            continue
        label = place.get(spelling(row["label"]))
        if label is None:
            problems.add(listed, f"class {row['label']!r} is none of the {classes} of {benchmark}")
            continue
        name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
        entries.append(Entry(name=name, label=label, split=split, listed=listed))
    index = MediaIndex(root)
    folders = {split: {name for name, meant in _SPLITS.items() if meant == split} for split in ("train", "val", "test")}
    return assemble(
        f"Kinetics-{classes}",
        names,
        entries,
        lambda entry: index.find(entry.name, _REPLACEMENTS, folders[entry.split], {spelling(names[entry.label])}),
        lambda entry: root / entry.split / f"{entry.name}.mp4",
        problems=problems,
        source=str(root),
        notes=[f"{unlabelled} test videos without labels left out"] if unlabelled else [],
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


def _rows(path: Path, problems: Problems) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """(FILE:LINE, split, fields by column) of every good line."""
    rows = read_csv_rows(path, DatasetError, remedy=": take the original file")
    columns = [column.lower() for column in next(rows)[1]]
    if twice := [column for column in columns if column and columns.count(column) > 1]:
        raise DatasetError(f"{path}:1: column {twice[0]!r} is in the header twice: take the original file")
    for line, fields in rows:
        listed = f"{path}:{line}"
        if len(fields) != len(columns):
            problems.add(listed, f"{len(fields)} fields where the header has {len(columns)}")
            continue
        row = dict(zip(columns, fields, strict=True))
        times = row["time_start"], row["time_end"]
        if not row["youtube_id"] or not all(_is_time(time) for time in times) or int(times[0]) >= int(times[1]):
            problems.add(listed, f"no video {row['youtube_id']!r} from second {times[0]!r} to {times[1]!r}")
            continue
        split = _split_of(path, row)
        if split is None:
            problems.add(listed, f"split {row['split']!r} is none of train, val, test")
            continue
        yield listed, split, row


def _is_time(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _split_of(path: Path, row: Mapping[str, str]) -> str | None:
    """By the column split, else by the file's name."""
    if "split" in row:
        return _SPLITS.get(row["split"].lower())
    words = [word for word in _SPLITS if word in path.stem.lower()]
    if not words:
        raise DatasetError(f"{path}:1: neither a column split nor train, val or test in the file's name: rename it")
    return _SPLITS[words[0]]


def _own_classes(rows: list[tuple[str, str, Mapping[str, str]]], root: Path, classes: int) -> tuple[str, ...]:
    names = sorted({row["label"] for _, _, row in rows if row.get("label")}, key=lambda name: (name.casefold(), name))
    if len(names) != classes:
        # One class more or less would move the labels of all that follow it.
        raise DatasetError(
            f"{root}: its CSV files name {len(names)} classes ({name_some(names)}), where kinetics{classes} has "
            f"{classes}: take the original files"
        )
    return tuple(names)
