"""Which columns of a data set hold its videos and labels: as somebody says, or else by their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dualformer.datasets.samples import DatasetError, first_few

PREFIX = "columns"
LABELS = (
    *("class", "class_name", "label_name", "label", "labels", "category", "action", "activity", "target"),
    *("tasks", "task", "cls", "txt"),
)
"""What columns of labels are called, the likeliest first."""
VIDEOS = (
    *("video", "clip", "film", "file_name", "filepath", "file_path", "video_path", "path", "file", "url"),
    *("frames", "images", "image"),
)
"""What columns of videos, or of their paths, are called."""
_NAMES = {"label": LABELS, "video": VIDEOS}


@dataclass(frozen=True, kw_only=True)
class AskedColumns:
    """The columns that ``columns@label=NAME,video=NAME:PATH`` names; empty for those that are to be guessed."""

    path: Path
    label: str = ""
    video: str = ""
    labelled: bool = True
    """Whether labels are needed: not to predict."""

    def choose(
        self, what: Literal["label", "video"], columns: Sequence[str], where: object, *, typed: Sequence[str] = ()
    ) -> str:
        """Returns the one of the ``columns`` that holds the label or video; "" for a label that is not needed.

        ``typed``: those whose type says that they do. Raises `DatasetError`, which lists the columns, where the asked
        one is not there, and where none or several could be it.
        """
        asked, there = getattr(self, what), f"it has {first_few(columns, 20) or 'none'}"
        remedy = f"say which, as {PREFIX}@{what}=NAME:{self.path}"
        if asked and asked in columns:
            return asked
        if asked:
            raise DatasetError(f"{where}: no column {asked!r} of the {what}; {there}: {remedy}")
        named = [name for name in _NAMES[what] if name in (typed or columns)]
        if named or len(typed) == 1:
            return [*named, *typed][0]
        if what == "label" and not self.labelled:
            return ""
        if typed:
            raise DatasetError(f"{where}: {first_few(typed, 20)} could each be the {what}: {remedy}")
        raise DatasetError(f"{where}: no column is called like a {what}; {there}: {remedy}")
