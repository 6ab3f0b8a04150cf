"""What folders, columns and files call the splits of a data set, wherever it comes from."""

SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""The split that a word in small letters names."""


def names_of(split: str) -> tuple[str, ...]:
    """Returns the words for ``split``, which is train, val or test; its own name first."""
    return tuple(name for name, meant in SPLIT_OF.items() if meant == split)
