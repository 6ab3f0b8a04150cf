"""Matches the classes of a data set with those of the weights by name, or by a map from a file."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualformer.datasets.samples import DatasetError, first_few, spelled_as
from dualformer.files import read_csv_table, read_json_object

_log = logging.getLogger("dualformer")


class ClassMismatchError(DatasetError):
    """The data set has other classes than the weights."""


def match_classes(
    classes: tuple[str, ...], names: tuple[str, ...], *, source: str, label_map: Mapping[str, str] | None = None
) -> NDArray[np.int64]:
    """Returns the index of the weights' label for each class of the data ``source``: by ``label_map``, else by name.

    Without a map the weights must know all names of the data; another order is logged and put right. The data may lack
    some of the weights' classes. Raises :class:`ClassMismatchError` with the names that are missing on either side, or
    missing in the map.
    """
    place = {name: i for i, name in enumerate(names)}
    if label_map is not None:
        classes = tuple(spelled_as(name, label_map) for name in classes)
        label_map = {name: spelled_as(label, names) for name, label in label_map.items()}
        if unmapped := [name for name in classes if name not in label_map]:
            raise ClassMismatchError(f"{source}: the label map lacks {_quoted(unmapped)}: add it")
        if foreign := sorted({label_map[name] for name in classes} - set(names)):
            raise ClassMismatchError(
                f"{source}: the label map leads to {_quoted(foreign)}, no label of the weights ({_quoted(names)})"
            )
        return np.asarray([place[label_map[name]] for name in classes], dtype=np.int64)
    classes = tuple(spelled_as(name, names) for name in classes)
    if not set(classes) <= set(names):
        unknown, absent = [n for n in classes if n not in place], [n for n in names if n not in set(classes)]
        sides = [f"the weights do not know {_quoted(unknown)}"] if unknown else []
        sides += [f"the data has no {_quoted(absent)}"] if absent else []
        raise ClassMismatchError(
            f"{source}: its {len(classes)} classes are not the {len(names)} of the weights ({'; '.join(sides)}): "
            "say which is which with `label_map`"
        )
    if set(classes) == set(names) and classes != names:
        _log.info("%s: the same classes as the weights' in another order; matched by name", source)
    return np.asarray([place[name] for name in classes], dtype=np.int64)


def read_label_map(path: str | Path) -> dict[str, str]:
    """Reads a map from classes of the data to labels of the weights: a JSON object, or CSV with header ``class,label``.

    Raises ``FileNotFoundError``, and :class:`DatasetError` for anything else in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such label map: {path}")
    pairs = _from_json(path) if path.suffix.lower() == ".json" else _from_csv(path)
    mapped: dict[str, str] = {}
    for name, label in pairs:
        if name in mapped:
            raise DatasetError(f"{path}: class {name!r} is in the label map twice: keep one")
        mapped[name] = label
    if not mapped:
        raise DatasetError(f"{path}: the label map is empty: write one line (or entry) for each class of the data")
    return mapped


def _from_json(path: Path) -> list[tuple[str, str]]:
    expected = 'a label map is one JSON object of names, as in {"class of the data": "label"}'
    pairs = read_json_object(path, DatasetError, expected=expected)
    if not all(isinstance(label, str) for _, label in pairs):
        raise DatasetError(f"{path}: {expected}")
    return pairs


def _from_csv(path: Path) -> list[tuple[str, str]]:
    wrong_row = "expected a class of the data and a label of the weights"
    wrong_header = "a label map starts with the header class,label"
    pairs: list[tuple[str, str]] = []
    rows = read_csv_table(path, ("class", "label"), DatasetError, wrong_header=wrong_header, wrong_row=wrong_row)
    for place, (name, label) in rows:
        if not name or not label:
            raise DatasetError(f"{place}: {wrong_row}")
        pairs.append((name, label))
    return pairs


def _quoted(names: list[str] | tuple[str, ...]) -> str:
    return first_few((repr(name) for name in names), most=5)
