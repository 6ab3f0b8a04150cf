"""What each class counts for in the loss: balanced by how many videos there are of it, or as a file says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from dualformer.datasets.samples import DatasetError, first_few
from dualformer.files import csv_text, read_csv_table

BALANCED = "balanced"
"""What ``class_weights`` says for weights by the number of videos."""
_HEADER = ["class", "weight"]
_MOST_NAMED = 12


def class_weights(
    how: str, classes: tuple[str, ...], *, counts: Mapping[str, int], videos: int, multi_label: bool
) -> tuple[dict[str, float], str]:
    """Weights by class, in their order, as ``how`` says (`BALANCED`, or a file), and a line that tells them.

    ``counts``: videos of each class among the ``videos`` to train on. Errors: as `read_class_weights`, and
    ``DatasetError`` for a class that cannot be balanced.
    """
    if how != BALANCED:
        weights = read_class_weights(how, classes)
        return weights, f"class weights of {how}: {_in_words(weights)}"
    if multi_label:
        weights = {name: _positive_weight(name, counts[name], videos) for name in classes}
        return weights, f"class weights: videos without the class over those with it: {_in_words(weights)}"
    weights = {name: videos / (len(classes) * counts[name]) for name in classes}
    return weights, f"class weights: videos over {len(classes)} classes x those of the class: {_in_words(weights)}"


def read_class_weights(path: str | Path, classes: tuple[str, ...]) -> dict[str, float]:
    """Weights of a CSV file with the header ``class,weight`` and a line for each of ``classes``, in their order.

    Raises ``FileNotFoundError``, and ``DatasetError`` with the place of what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of class weights: {path} (or say --class-weights {BALANCED})")
    found: dict[str, float] = {}
    wrong_header = f"class weights start with the header {','.join(_HEADER)}"
    rows = read_csv_table(
        path, _HEADER, DatasetError, wrong_header=wrong_header, wrong_row="expected a class and its weight"
    )
    for place, (name, weight) in rows:
        if name not in classes:
            raise DatasetError(f"{place}: {name!r} is none of the {len(classes)} classes: write it as they are")
        if name in found:
            raise DatasetError(f"{place}: class {name!r} is there twice: keep one line")
        found[name] = _number(weight, place)
    if missing := [name for name in classes if name not in found]:
        raise DatasetError(f"{path}: no weight for class {first_few(map(repr, missing))}: add a line (1 is usual)")
    return {name: found[name] for name in classes}


def write_class_weights(weights: Mapping[str, float]) -> str:
    """The text of a file that `read_class_weights` reads back the same."""
    return csv_text(_HEADER, ((name, repr(weight)) for name, weight in weights.items()))


def _number(text: str, place: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise DatasetError(f"{place}: a weight is a number more than 0, not {text!r}")
    return weight


def _positive_weight(name: str, count: int, videos: int) -> float:
    if count >= videos:
        raise DatasetError(
            f"--class-weights {BALANCED}: every video to train on has the label {name!r}, so there is nothing to tell "
            "it from: add videos without it, or leave the label out"
        )
    return (videos - count) / count


def _in_words(weights: Mapping[str, float]) -> str:
    if len(weights) <= _MOST_NAMED:
        return ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
    low, high = min(weights, key=lambda name: weights[name]), max(weights, key=lambda name: weights[name])
    return f"from {weights[low]:.3g} ({low!r}) to {weights[high]:.3g} ({high!r})"
