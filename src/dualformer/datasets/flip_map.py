"""Reads flip maps: files that say which class the mirrored videos of a class belong to."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dualformer.datasets.samples import DatasetError, spelled_as
from dualformer.files import read_csv_table, read_json_object

_REMEDY = 'one JSON object as in {"left": "right"}, or a CSV file with the header class,mirrored'


def read_flip_map(path: str | Path, classes: tuple[str, ...]) -> dict[str, str | None]:
    """Returns class → class of its mirrored videos, both ways round; None: mirrored, they belong to no class.

    The file is a JSON object or a CSV file with the header ``class,mirrored``. A pair may be written once or in both
    directions; null or an empty field stands for no class. Classes that are left out do not change when mirrored, and
    are not in the result.

    Raises ``FileNotFoundError``, and `DatasetError` with the place of what is wrong: a class that there is not,
    or one that is said to become two different ones.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such flip map: {path}")
    mirrored: dict[str, str | None] = {}
    for place, *pair in _from_json(path) if path.suffix.lower() == ".json" else _from_csv(path):
        name, other = (None if one is None else spelled_as(one, classes) for one in pair)
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
    """Returns for each class the label of its mirrored videos; -1 for none."""
    partners = (mirrored.get(name, name) for name in classes)
    return tuple(-1 if partner is None else classes.index(partner) for partner in partners)


def describe_mirrored_labels(mirrored: Sequence[int]) -> str:
    """Returns in words what mirroring does to labels, to be put behind the share of mirrored clips."""
    pairs, never = sum(other > label for label, other in enumerate(mirrored)), list(mirrored).count(-1)
    left_out = f" and leaves out {never} class{'es' if never != 1 else ''}" if never else ""
    return f", which swaps the labels of {pairs} pair{'s' if pairs != 1 else ''} of classes{left_out}"


def _from_json(path: Path) -> Iterator[tuple[str, str, str | None]]:
    for name, other in read_json_object(path, DatasetError, expected=f"a flip map is {_REMEDY}"):
        if other is not None and not isinstance(other, str):
            raise DatasetError(f"{path}: a flip map is {_REMEDY}")
        yield str(path), name, other


def _from_csv(path: Path) -> Iterator[tuple[str, str, str | None]]:
    wrong_row = "expected a class and the class of its mirrored videos (or nothing)"
    header, wrong_header = ("class", "mirrored"), f"a flip map is {_REMEDY}"
    rows = read_csv_table(path, header, DatasetError, wrong_header=wrong_header, wrong_row=wrong_row)
    for place, (name, other) in rows:
        if not name:
            raise DatasetError(f"{place}: {wrong_row}")
        yield place, name, other or None


def _quote(name: str | None) -> str:
    return "no class" if name is None else repr(name)
