"""Diving-48: JSON lists of ``vid_name``, ``label``, ``start_frame``, ``end_frame``, and the vocabulary of the labels.

Version 2 (``Diving48_V2_train.json``) corrects the labels of version 1 (``Diving48_train.json``). The videos, called
``VID_NAME`` with any extension, have been cut to the frames in question already.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from dualformer.datasets.benchmark_classes import class_names
from dualformer.datasets.benchmarks.annotations import (
    Entry,
    Listing,
    MediaIndex,
    Problems,
    assemble,
    compare_classes,
    json_items,
    the_file,
)
from dualformer.datasets.samples import DatasetError

_NAMES = class_names("diving48")


def read_diving48(root: Path, version: int) -> Listing:
    """Version 1 or 2 of Diving-48 in ``root``. Raises ``FileNotFoundError`` and :class:`DatasetError`."""
    compare_classes(_vocabulary(the_file(root, "the vocabulary", "Diving48_vocab.json")), _NAMES, "diving48")
    problems = Problems("take the original lists, or remove these lines")
    prefix = "Diving48_" if version == 1 else f"Diving48_V{version}_"
    entries = [
        entry
        for split in ("train", "test")
        for entry in _entries(the_file(root, f"the {split} list", f"{prefix}{split}.json"), split, problems)
    ]
    index = MediaIndex(root)
    return assemble(
        f"Diving-48, version {version}",
        _NAMES,
        entries,
        lambda entry: index.find(entry.name),
        lambda entry: root / "rgb" / f"{entry.name}.mp4",
        problems=problems,
        source=str(root),
    )


def _vocabulary(path: Path) -> Iterator[tuple[str, str]]:
    """A class is a list of four words: take-off, somersaults, twists, position."""
    for line, words in json_items(path):
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DatasetError(f"{path}:{line}: {words!r} is no list of words: take the original file")
        yield f"{path}:{line}", "+".join(words)


def _entries(path: Path, split: str, problems: Problems) -> Iterator[Entry]:
    for line, item in json_items(path):
        listed = f"{path}:{line}"
        if not isinstance(item, dict) or not isinstance(item.get("vid_name"), str) or not item["vid_name"]:
            problems.add(listed, "an entry without vid_name")
        elif not _whole(item.get("label")) or not 0 <= item["label"] < len(_NAMES):
            problems.add(listed, f"label {item.get('label')!r} is not within 0 to {len(_NAMES) - 1}")
        elif not _frames(item):
            frames = item.get("start_frame"), item.get("end_frame")
            problems.add(listed, f"no frames from {frames[0]!r} to {frames[1]!r}")
        else:
            yield Entry(name=item["vid_name"], label=item["label"], split=split, listed=listed)


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _frames(item: Mapping[str, Any]) -> bool:
    """Whether the frames that an entry names, if it does, are some."""
    if "start_frame" not in item and "end_frame" not in item:
        return True
    start, end = item.get("start_frame"), item.get("end_frame")
    return _whole(start) and _whole(end) and 0 <= start <= end
