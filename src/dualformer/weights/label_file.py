"""Class names from a text file, one a line, in the classifier's order."""

from __future__ import annotations

from pathlib import Path

from dualformer.files import read_text
from dualformer.weights.errors import WeightsError


def read_labels(path: Path | str) -> tuple[str, ...]:
    """The names in the file's order.

    Errors: ``FileNotFoundError``; ``WeightsError`` with the line number of an empty line or of a name that came before.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of labels")
    lines = read_text(path, WeightsError).splitlines()
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        label = line.strip()
        if not label:
            raise WeightsError(f"{path}, line {number}: an empty line; write one class name a line")
        if label in first:
            raise WeightsError(f"{path}, line {number}: {label!r} is on line {first[label]} already; name a class once")
        first[label] = number
    if not first:
        raise WeightsError(f"{path}: no labels; write one class name a line")
    return tuple(first)
