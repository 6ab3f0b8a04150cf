"""HMDB-51: ``CLASS_test_split1..3.txt`` for each class, with lines ``FILE 0|1|2``: unused, train, test.

The videos lie in class folders.
"""

from collections.abc import Iterator
from pathlib import Path

from dualformer.datasets.benchmark_classes import class_names
from dualformer.datasets.benchmarks.annotations import annotation_files, text_lines
from dualformer.datasets.benchmarks.listing import Benchmark, BenchmarkPath, Entry, Listing, Mistake, assemble
from dualformer.datasets.samples import DatasetError, first_few

_NAMES = class_names("hmdb51")
_SPLITS = {"0": None, "1": "train", "2": "test"}


def read_hmdb51(at: BenchmarkPath) -> Listing:
    """Reads split 1, 2 or 3 of HMDB-51."""
    split = int(at.options.get("split", 1))
    lines = [line for label, path in enumerate(_lists(at.path, split)) for line in _entries(path, label)]
    unused = ("video that this split does not use", "videos that this split does not use")
    return assemble(f"HMDB-51, split {split}", at.path, _NAMES, lines, left_out=unused)


BENCHMARK = Benchmark(
    names=("hmdb51",), read=read_hmdb51, options={"split": ("1", "2", "3")}, files=("*_test_split[123].txt",)
)


def _lists(root: Path, split: int) -> list[Path]:
    """Returns the list of each class, in label order."""
    suffix = f"_test_split{split}.txt"
    found: dict[str, Path] = {}
    for path in annotation_files(root, f"*{suffix}"):
        name = path.name.removesuffix(suffix)
        if name not in _NAMES:
            raise DatasetError(f"{path}: class {name!r} is none of the {len(_NAMES)} of hmdb51: remove the file")
        if name in found:
            raise DatasetError(f"{path} and {found[name]} both list {name}: keep one of them")
        found[name] = path
    if missing := [f"{name}{suffix}" for name in _NAMES if name not in found]:
        raise DatasetError(f"{root}: no {first_few(missing)} in it: put the lists of all {len(_NAMES)} classes there")
    return [found[name] for name in _NAMES]


def _entries(path: Path, label: int) -> Iterator[Entry | Mistake | None]:
    for listed, text in text_lines(path):
        file, number = [*text.rsplit(maxsplit=1), ""][:2]
        if number not in _SPLITS:
            yield Mistake(listed, f"{text!r} is not a file and 0, 1 or 2")
        elif split := _SPLITS[number]:
            # Its class is part of a video's name: two classes may have cut clips from one source.
            yield Entry(name=f"{_NAMES[label]}/{file}", label=label, split=split, listed=listed)
        else:
            yield None
