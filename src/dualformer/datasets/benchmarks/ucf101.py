"""UCF-101: ``classInd.txt``, ``trainlist01..03.txt`` with class numbers from 1, ``testlist01..03.txt`` without.

The videos lie in class folders or all in one.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dualformer.datasets.benchmark_classes import class_names, spelling
from dualformer.datasets.benchmarks.annotations import (
    Entry,
    Listing,
    MediaIndex,
    Problems,
    assemble,
    compare_classes,
    text_lines,
    the_file,
)
from dualformer.datasets.samples import DatasetError

_NAMES = class_names("ucf101")
_PLACE = {spelling(name): i for i, name in enumerate(_NAMES)}


def read_ucf101(root: Path, split: int) -> Listing:
    """Split 1, 2 or 3 of UCF-101 in ``root``. Raises ``FileNotFoundError`` and :class:`DatasetError`."""
    compare_classes(_class_index(the_file(root, "the class index", "classInd.txt")), _NAMES, "ucf101")
    problems = Problems("take the original lists, or remove these lines")
    entries = [
        entry
        for part in ("train", "test")
        for entry in _entries(the_file(root, f"the {part} list", f"{part}list{split:02d}.txt"), part, problems)
    ]
    index = MediaIndex(root)
    return assemble(
        f"UCF-101, split {split}",
        _NAMES,
        entries,
        lambda entry: index.find(PurePosixPath(entry.name).stem, {spelling(_NAMES[entry.label])}),
        lambda entry: root / entry.name,
        problems=problems,
        source=str(root),
    )


def _class_index(path: Path) -> Iterator[tuple[str, str]]:
    for expected, (line, text) in enumerate(text_lines(path), 1):
        number, _, name = text.partition(" ")
        if not number.isdecimal() or not name.strip():
            raise DatasetError(f"{path}:{line}: {text!r} is no number and class: take the original file")
        if int(number) != expected:
            raise DatasetError(f"{path}:{line}: number {number} where {expected} comes next: take the original file")
        yield f"{path}:{line}", name.strip()


def _entries(path: Path, split: str, problems: Problems) -> Iterator[Entry]:
    for line, text in text_lines(path):
        listed = f"{path}:{line}"
        parts = re.fullmatch(r"(?P<folder>[^/\\]+)[/\\](?P<file>[^/\\]+\.\w+)(?:\s+(?P<number>\S+))?", text)
        if parts is None:
            problems.add(listed, f"{text!r} is not CLASS/FILE and perhaps a class number")
            continue
        number = parts["number"]
        if number is not None and not (number.isdecimal() and 1 <= int(number) <= len(_NAMES)):
            problems.add(listed, f"class number {number} is not within 1 to {len(_NAMES)}")
            continue
        label = _PLACE.get(spelling(parts["folder"]))
        if label is None:
            problems.add(listed, f"class {parts['folder']!r} is none of the {len(_NAMES)} of ucf101")
        elif number is not None and int(number) != label + 1:
            problems.add(listed, f"class number {number} where {parts['folder']} is {label + 1}")
        elif number is None and split == "train":
            problems.add(listed, "no class number in a training list")
        else:
            name = f"{parts['folder']}/{parts['file']}"
            yield Entry(name=name, label=label, split=split, listed=listed)
