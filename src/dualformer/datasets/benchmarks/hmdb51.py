"""HMDB-51: ``CLASS_test_split1..3.txt`` for each class, with lines ``FILE 0|1|2``: unused, train, test.

The videos lie in class folders.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dualformer.datasets.benchmark_classes import class_names, spelling
from dualformer.datasets.benchmarks.annotations import (
    Entry,
    Listing,
    MediaIndex,
    Problems,
    annotation_files,
    assemble,
    text_lines,
)
from dualformer.datasets.samples import DatasetError, name_some

_NAMES = class_names("hmdb51")
_SPLITS = {"0": None, "1": "train", "2": "test"}


def read_hmdb51(root: Path, split: int) -> Listing:
    """Split 1, 2 or 3 of HMDB-51 in ``root``. Raises ``FileNotFoundError`` and :class:`DatasetError`."""
    problems = Problems("take the original lists, or remove these lines")
    entries: list[Entry] = []
    unused = 0
    for label, path in enumerate(_lists(root, split)):
        for listed, name, meant in _lines(path, problems):
            if meant is None:
                unused += 1
            else:
                # Its class is part of a video's name: two classes may have cut clips from one source.
                name = f"{_NAMES[label]}/{name}"
                entries.append(Entry(name=name, label=label, split=meant, listed=listed))
    index = MediaIndex(root)
    return assemble(
        f"HMDB-51, split {split}",
        _NAMES,
        entries,
        lambda entry: index.find(PurePosixPath(entry.name).stem, {spelling(_NAMES[entry.label])}),
        lambda entry: root / entry.name,
        problems=problems,
        source=str(root),
        notes=[f"{unused} videos that this split does not use left out"] if unused else [],
    )


def _lists(root: Path, split: int) -> list[Path]:
    """The list of each class, in label order."""
    suffix = f"_test_split{split}.txt"
    found: dict[str, Path] = {}
    for path in annotation_files(root, f"*{suffix}"):
        name = path.name.removesuffix(suffix)
        if name not in _NAMES:
            raise DatasetError(f"{path}: class {name!r} is none of the {len(_NAMES)} of hmdb51: remove the file")
        if name in found:
            raise DatasetError(f"{path} and {found[name]} both list {name}: keep one of them")
        found[name] = path
    if absent := [f"{name}{suffix}" for name in _NAMES if name not in found]:
        raise DatasetError(f"{root}: no {name_some(absent)} in it: put the lists of all {len(_NAMES)} classes there")
    return [found[name] for name in _NAMES]


def _lines(path: Path, problems: Problems) -> Iterator[tuple[str, str, str | None]]:
    """(FILE:LINE, file name, split or None for unused)."""
    for line, text in text_lines(path):
        name, number = [*text.rsplit(maxsplit=1), ""][:2]
        if number not in _SPLITS:
            problems.add(f"{path}:{line}", f"{text!r} is not a file and 0, 1 or 2")
        else:
            yield f"{path}:{line}", name, _SPLITS[number]
