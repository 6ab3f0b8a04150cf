"""Diving-48: JSON lists of ``vid_name``, ``label``, ``start_frame``, ``end_frame``, and the vocabulary of the labels.

Version 2 (``Diving48_V2_train.json``) corrects the labels of version 1 (``Diving48_train.json``). The videos, called
``VID_NAME`` with any extension, have been cut to the frames in question already.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from dualformer.datasets.benchmark_classes import class_names
from dualformer.datasets.benchmarks.annotations import compare_classes, json_items, the_file
from dualformer.datasets.benchmarks.listing import Benchmark, BenchmarkPath, Entry, Listing, Mistake, assemble
from dualformer.datasets.samples import DatasetError

_NAMES = class_names("diving48")


def read_diving48(at: BenchmarkPath) -> Listing:
    """Reads version 1 or 2 of Diving-48."""
    version = int(at.options.get("version", 2))
    compare_classes(_vocabulary(the_file(at.path, "the vocabulary", "Diving48_vocab.json")), _NAMES, "diving48")
    prefix = "Diving48_" if version == 1 else f"Diving48_V{version}_"
    lines = [
        line
        for split in ("train", "test")
        for line in _entries(the_file(at.path, f"the {split} list", f"{prefix}{split}.json"), split)
    ]
    return assemble(f"Diving-48, version {version}", at.path, _NAMES, lines)


BENCHMARK = Benchmark(
    names=("diving48",), read=read_diving48, options={"version": ("1", "2")}, files=("Diving48_*.json",)
)


def _vocabulary(path: Path) -> Iterator[tuple[str, str]]:
    """Yields FILE:LINE and name of each class, a list of four words: take-off, somersaults, twists, position."""
    for listed, words in json_items(path):
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DatasetError(f"{listed}: {words!r} is no list of words: take the original file")
        yield listed, "+".join(words)


def _entries(path: Path, split: str) -> Iterator[Entry | Mistake]:
    for listed, item in json_items(path):
        name = item.get("vid_name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            yield Mistake(listed, "an entry without vid_name")
        elif not _is_int(item.get("label")) or not 0 <= item["label"] < len(_NAMES):
            yield Mistake(listed, f"label {item.get('label')!r} is not within 0 to {len(_NAMES) - 1}")
        elif not _has_frames(item):
            yield Mistake(listed, f"no frames from {item.get('start_frame')!r} to {item.get('end_frame')!r}")
        else:
            yield Entry(name=name, label=item["label"], split=split, listed=listed, file=f"rgb/{name}.mp4")


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _has_frames(item: Mapping[str, Any]) -> bool:
    """Says whether the range of frames that an entry names, if it does, is one."""
    if "start_frame" not in item and "end_frame" not in item:
        return True
    start, end = item.get("start_frame"), item.get("end_frame")
    return _is_int(start) and _is_int(end) and 0 <= start <= end
