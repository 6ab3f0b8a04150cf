"""UCF-101: ``classInd.txt``, ``trainlist01..03.txt`` with class numbers from 1, ``testlist01..03.txt`` without.

The videos lie in class folders or all in one.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from dualformer.datasets.benchmark_classes import class_names, spelling
from dualformer.datasets.benchmarks.annotations import compare_classes, text_lines, the_file
from dualformer.datasets.benchmarks.listing import Benchmark, BenchmarkPath, Entry, Listing, Mistake, assemble
from dualformer.datasets.samples import DatasetError

_NAMES = class_names("ucf101")
_LABELS = {spelling(name): i for i, name in enumerate(_NAMES)}


def read_ucf101(at: BenchmarkPath) -> Listing:
    """Reads split 1, 2 or 3 of UCF-101."""
    split = int(at.options.get("split", 1))
    compare_classes(_class_index(the_file(at.path, "the class index", "classInd.txt")), _NAMES, "ucf101")
    lines = [
        line
        for part in ("train", "test")
        for line in _entries(the_file(at.path, f"the {part} list", f"{part}list{split:02d}.txt"), part)
    ]
    return assemble(f"UCF-101, split {split}", at.path, _NAMES, lines)


BENCHMARK = Benchmark(
    names=("ucf101",), read=read_ucf101, options={"split": ("1", "2", "3")}, files=("trainlist0[123].txt",)
)


def _class_index(path: Path) -> Iterator[tuple[str, str]]:
    for expected, (listed, text) in enumerate(text_lines(path), 1):
        number, _, name = text.partition(" ")
        if not number.isdecimal() or not name.strip():
            raise DatasetError(f"{listed}: {text!r} is no number and class: take the original file")
        if int(number) != expected:
            raise DatasetError(f"{listed}: number {number} where {expected} comes next: take the original file")
        yield listed, name.strip()


def _entries(path: Path, split: str) -> Iterator[Entry | Mistake]:
    for listed, text in text_lines(path):
        parts = re.fullmatch(r"(?P<folder>[^/\\]+)[/\\](?P<file>[^/\\]+\.\w+)(?:\s+(?P<number>\S+))?", text)
        if parts is None:
            yield Mistake(listed, f"{text!r} is not CLASS/FILE and perhaps a class number")
            continue
        folder, file, number = parts.group("folder", "file", "number")
        label = _LABELS.get(spelling(folder))
        if number is not None and not (number.isdecimal() and 1 <= int(number) <= len(_NAMES)):
            reason = f"class number {number} is not within 1 to {len(_NAMES)}"
        elif label is None:
            reason = f"class {folder!r} is none of the {len(_NAMES)} of ucf101"
        elif number is not None and int(number) != label + 1:
            reason = f"class number {number} where {folder} is {label + 1}"
        elif number is None and split == "train":
            reason = "no class number in a training list"
        else:
            yield Entry(name=f"{folder}/{file}", label=label, split=split, listed=listed)
            continue
        yield Mistake(listed, reason)
