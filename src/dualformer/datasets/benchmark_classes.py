"""The class names of the benchmarks in their official order: label 0 is the first name.

The order is what numbers in annotation files and rows of a classifier count in. It is the same in all weights that were
trained on a benchmark, here and elsewhere.
"""

from functools import cache
from importlib.resources import files

_FOLDER = files("dualformer.datasets") / "tables"
TABLES = tuple(sorted(path.name.removesuffix(".txt") for path in _FOLDER.iterdir()))
"""Benchmarks with a table in the folder ``tables``. Others list their classes in files of their own."""


@cache
def class_names(benchmark: str) -> tuple[str, ...]:
    """Returns the names in label order. Raises ``ValueError`` for a benchmark without a table."""
    if benchmark not in TABLES:
        raise ValueError(f"there is no table of classes called {benchmark!r}: choose from {', '.join(TABLES)}")
    return tuple((_FOLDER / f"{benchmark}.txt").read_text(encoding="utf-8").splitlines())


def spelling(name: str) -> str:
    """Returns what all spellings of a class name share: its letters and digits, in lower case.

    Folders and lists write "playing guitar", "playing_guitar" or "PlayingGuitar". No two classes of a benchmark are
    spelled alike.
    """
    return "".join(character for character in name.casefold() if character.isalnum())
