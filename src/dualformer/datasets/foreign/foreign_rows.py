"""Rows of foreign data sets: like those of a CSV list, and made into a table by the same checks."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from dualformer.datasets.csv_list import END, START
from dualformer.datasets.foreign.asked_columns import AskedColumns
from dualformer.datasets.row_table import ROOT, Row
from dualformer.datasets.samples import SEPARATOR, DatasetError
from dualformer.datasets.split_names import SPLIT_OF
from dualformer.moved_files import absolute
from dualformer.plurals import counted
from dualformer.remote_paths import RemotePath
from dualformer.urls import exact_url
from dualformer.video.remote_video import open_remote
from dualformer.video.video_segment import VideoSegment, seconds_text

_log = logging.getLogger("dualformer")

_OWN = ("path", START, END, "label", "split", ROOT)
"""Columns of rows that have a meaning; ROOT has none here."""


def make_row(
    video: Path,
    listed: str,
    values: Mapping[str, Any],
    *,
    label: Any = None,
    split: str = "",
    times: tuple[float, float] | None = None,
) -> Row:
    """Returns a row. ``listed``: where it is written, for messages. ``values``: other columns, of which those are kept
    that are text or numbers. ``label``: a name or number, a list of several, None where there is none."""
    part = None
    if times is not None:
        if not 0 <= times[0] <= times[1]:
            raise DatasetError(
                f"{listed}: a segment from {times[0]:g} to {times[1]:g} s ends before it begins: correct it"
            )
        part = VideoSegment(file=video, start=times[0], end=times[1])
    own = {"path": str(video)} | ({START: seconds_text(times[0]), END: seconds_text(times[1])} if times else {})
    own |= {"label": text_of(label)} | ({"split": split} if split else {})
    others = {
        name: text_of(value)
        for name, value in values.items()
        if name not in _OWN and (value is None or isinstance(value, (str, int, float)))
    }
    if not split and "split" in values:
        others["split"] = text_of(values["split"])
    return Row(video=video, line=0, values=own | others, labels=(own["label"],), segment=part, listed=listed)


def text_of(value: Any) -> str:
    """Returns a value as text, several with ``;`` between."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return SEPARATOR.join(map(text_of, value))
    return str(value).strip()


def complete_rows(rows: Iterable[Row], asked: AskedColumns) -> list[Row]:
    """Returns the rows with the same columns each, numbered. Those without a label are left out, and counted in the
    log, where labels are needed. Raises `DatasetError` where none is left."""
    found = list(rows)
    kept = [row for row in found if row.labels[0] or not asked.labelled]
    if len(kept) < len(found):
        left = counted(len(found) - len(kept), "video without a label", "videos without a label")
        _log.warning("%s: %s left out, such as %s", asked.path, left, next(r for r in found if r not in kept).listed)
    if not kept:
        raise DatasetError(f"{asked.path}: {'no video in it has a label' if found else 'there are no videos in it'}")
    splits = {row.values.get("split", "") for row in kept}
    columns = dict.fromkeys(name for row in kept for name in row.values)
    if "train" not in splits or "" in splits:
        columns.pop("split", None)
    if not any(row.labels[0] for row in kept):
        columns.pop("label", None)
    return [
        replace(row, line=number, values={name: row.values.get(name, "") for name in columns})
        for number, row in enumerate(kept, 1)
    ]


def split_in(name: str) -> str:
    """Returns the split that a path below a data set names, as ``data/train-00000-of-00002.parquet`` does, or ""."""
    for part in reversed(PurePosixPath(name).parts):
        for word in re.split(r"[\W_]+", part.lower()):
            if word in SPLIT_OF:
                return SPLIT_OF[word]
    return ""


def place_of(path: Path) -> str:
    """Returns where a file is, for the names of what is in it: absolute, or a URL with all that it takes to open it."""
    return exact_url(str(path)) if isinstance(path, RemotePath) else str(absolute(path))


def open_bytes(path: Path) -> IO[bytes]:
    """Opens a large file, also one at a URL, whose parts are fetched as they are read."""
    return open_remote(path).open() if isinstance(path, RemotePath) else path.open("rb")


def json_lines(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields FILE:LINE and the object on each line. Raises `DatasetError` for anything else."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: not JSON ({error}): write a JSON object on each line") from error
        if not isinstance(found, dict):
            raise DatasetError(f"{path}:{number}: no JSON object: write one on each line")
        yield f"{path}:{number}", found
