"""Counts with their nouns."""

import pytest

from dualformer.plurals import counted


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("file", "2 files"),
        ("class", "2 classes"),
        ("process", "2 processes"),
        ("box", "2 boxes"),
        ("batch", "2 batches"),
        ("epoch", "2 epochs"),
    ],
)
def test_nouns_are_singular_for_one_alone(one: str, several: str) -> None:
    assert (counted(1, one), counted(2, one)) == (f"1 {one}", several)
    assert counted(0, one) == several.replace("2", "0")
    assert (counted(1, "is", "are"), counted(3, "is", "are")) == ("1 is", "3 are")
