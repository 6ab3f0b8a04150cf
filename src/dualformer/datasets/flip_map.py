"""What becomes of a class when its videos are mirrored: read from a file that says so."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from dualformer.datasets.samples import DatasetError

_REMEDY = 'one JSON object as in {"left": "right"}, or a CSV file with the header class,mirrored'


def read_flip_map(path: str | Path, classes: tuple[str, ...]) -> dict[str, str | None]:
    """Class → class of its mirrored videos, both ways round; None: mirrored, they belong to no class.

    The file is a JSON object or a CSV file with the header ``class,mirrored``. A pair may be written once or in both
    directions; null or an empty field stands for no class. Classes that are left out do not change when mirrored, and
    are not in the result.

    Raises ``FileNotFoundError``, and :class:`DatasetError` with the place of what is wrong: a class that there is not,
    or one that is said to become two different ones.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such flip map: {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8: save the flip map in that encoding") from error
    mirrored: dict[str, str | None] = {}
    for place, name, other in _from_json(path, text) if path.suffix.lower() == ".json" else _from_csv(path, text):
        for one in (name, other):
            if one is not None and one not in classes:
                raise DatasetError(f"{place}: {one!r} is none of the {len(classes)} classes: write it as they are")
        for one, partner in ((name, other), (other, name)):
            if one is None:
                continue
            if mirrored.setdefault(one, partner) != partner:
                raise DatasetError(
                    f"{place}: {one!r} becomes {_quote(partner)} here and {_quote(mirrored[one])} before: mirroring "
                    "twice must lead back, so say one of them"
                )
    if not mirrored:
        raise DatasetError(f"{path}: the flip map is empty: write {_REMEDY}")
    return mirrored


def mirrored_labels(mirrored: Mapping[str, str | None], classes: tuple[str, ...]) -> tuple[int, ...]:
    """For each class the label of its mirrored videos; -1 for none."""
    partners = (mirrored.get(name, name) for name in classes)
    return tuple(-1 if partner is None else classes.index(partner) for partner in partners)


def _from_json(path: Path, text: str) -> Iterator[tuple[str, str, str | None]]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    # An object arrives as a list of pairs, so that a class named twice is seen. A list of lists would look the same.
    if not text.lstrip().startswith("{") or not all(other is None or isinstance(other, str) for _, other in pairs):
        raise DatasetError(f"{path}: a flip map is {_REMEDY}")
    for name, other in pairs:
        yield str(path), name, other


def _from_csv(path: Path, text: str) -> Iterator[tuple[str, str, str | None]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = True
    try:
        for fields in reader:
            values = [field.strip() for field in fields]
            place = f"{path}:{reader.line_num}"
            if not any(values):
                continue
            if header:
                if values != ["class", "mirrored"]:
                    raise DatasetError(f"{place}: a flip map is {_REMEDY}")
                header = False
            elif len(values) != 2 or not values[0]:
                raise DatasetError(f"{place}: expected a class and the class of its mirrored videos (or nothing)")
            else:
                yield place, values[0], values[1] or None
    except csv.Error as error:
        raise DatasetError(f"{path}:{reader.line_num}: {error}") from error


def _quote(name: str | None) -> str:
    return "no class" if name is None else repr(name)
