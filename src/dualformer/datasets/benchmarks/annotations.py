"""Reads annotation files as benchmarks have them: found by their names, as lines of text or items of JSON."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dualformer.datasets.samples import DatasetError, first_few
from dualformer.files import read_text
from dualformer.video.file_formats import is_data_folder


def annotation_files(root: Path, *patterns: str) -> list[Path]:
    """Returns the files that fit a pattern, in the folder or up to two folders deeper, without those in folders that
    are hidden or another program's.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    found = {path for depth in ("", "*/", "*/*/") for pattern in patterns for path in root.glob(depth + pattern)}
    files = (path for path in found if path.is_file())
    return sorted(path for path in files if all(is_data_folder(part) for part in path.relative_to(root).parts))


def the_file(root: Path, what: str, *patterns: str) -> Path:
    """Returns the one file that fits a pattern. Raises `DatasetError` where there is none or several."""
    found = annotation_files(root, *patterns)
    if len(found) == 1:
        return found[0]
    if not found:
        raise DatasetError(f"{root}: no {patterns[0]} in it ({what}): put it there, or name the folder that holds it")
    raise DatasetError(f"{root}: several files could be {what}: {first_few(found)}: keep one of them")


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields FILE:LINE and text of the lines that are not empty. Raises `DatasetError` for what is not UTF-8."""
    for number, line in enumerate(read_text(path, DatasetError).splitlines(), 1):
        if stripped := line.strip():
            yield f"{path}:{number}", stripped


def json_items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields FILE:LINE and value of the items of a JSON array. Raises `DatasetError` for anything else."""
    text, decoder = read_text(path, DatasetError), json.JSONDecoder()
    line, counted = 1, 0

    def fail(at: int, what: str) -> DatasetError:
        return DatasetError(f"{path}:{text.count(chr(10), 0, at) + 1}: {what}: download the file again")

    def after(place: int, expected: str, what: str) -> int:
        if text[place : place + 1] != expected:
            raise fail(place, what)
        return _skip_space(text, place + 1)

    place = after(_skip_space(text, 0), "[", "expected a JSON array")
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        try:
            item, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise fail(error.pos, f"not JSON ({error.msg})") from error
        yield f"{path}:{line}", item
        place = _skip_space(text, end)
        if text[place : place + 1] != "]":
            place = after(place, ",", "the JSON array ends early")


def compare_classes(found: Iterable[tuple[str, str]], official: tuple[str, ...], benchmark: str) -> None:
    """Compares a list of (FILE:LINE, name) with the official one. Raises `DatasetError` at the first that differs."""
    names = list(found)
    for place, ((listed, name), right) in enumerate(zip(names, official, strict=False)):
        if name != right:
            raise DatasetError(
                f"{listed}: class {place} is {name!r} here and {right!r} in the official order of {benchmark}: "
                "take the original file"
            )
    if len(names) != len(official):
        where = names[-1][0] if names else "an empty list"
        raise DatasetError(f"{where}: {len(names)} classes, where {benchmark} has {len(official)}")


def _skip_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\n", "\r", "\t"):
        place += 1
    return place
