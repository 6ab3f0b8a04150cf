"""The class names of the benchmarks in their official order: label 0 is the first name.

The order is what numbers in annotation files and rows of a classifier count in. It is the same in all weights that were
trained on a benchmark, here and elsewhere.
"""

from functools import cache
from importlib.resources import files

TABLES = {"kinetics400": 400, "kinetics600": 600, "ucf101": 101, "hmdb51": 51, "diving48": 48}
"""Benchmarks with a table here, and how many classes each has. Others list their classes in files of their own."""


@cache
def class_names(benchmark: str) -> tuple[str, ...]:
    """The names in label order. ``ValueError`` for a benchmark without a table, naming those that there are."""
    if benchmark not in TABLES:
        raise ValueError(f"there is no table of classes called {benchmark!r}: choose from {', '.join(TABLES)}")
    text = (files("dualformer.datasets") / "tables" / f"{benchmark}.txt").read_text(encoding="utf-8")
    names = tuple(text.splitlines())
    assert len(names) == TABLES[benchmark], benchmark
    return names


def spelling(name: str) -> str:
    """What stays of a class name however it is written: its letters and digits, in lower case.

    Folders and lists write "playing guitar", "playing_guitar" or "PlayingGuitar". No two classes of a benchmark are
    spelled alike.
    """
    return "".join(character for character in name.casefold() if character.isalnum())
