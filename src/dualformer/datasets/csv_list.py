"""Reads a CSV file of videos or images: columns ``path`` and ``label``, and any others to choose rows by.

Paths are relative to the folder that the CSV file lies in, absolute, or URLs; the file itself may be at a URL. A folder
of numbered images is written as ``clip/img_%05d.jpg``, and a column ``fps`` gives its rate.

Where videos may have several labels, these are separated by ``;``, or the video has a row for each.

With columns ``start`` and ``end`` a row is the segment of a video between these times, which `parse_time` reads; where
both are empty, it is the whole video; where the label is empty as well, nothing is marked in it, and it has no row. A
video that is not where its path says is found by its name, as `VideoFinder` does.
"""

import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualformer.datasets.bad_videos import BadVideos
from dualformer.datasets.row_filter import describe_filter, join_commas, quoted_value, unknown_values
from dualformer.datasets.samples import (
    SEPARATOR,
    DatasetError,
    LeftOut,
    Sample,
    SegmentSample,
    VideoList,
    first_few,
    ordered_classes,
    spelled_as,
    unify_spellings,
)
from dualformer.datasets.segments.video_finder import VideoFinder
from dualformer.files import read_csv_rows, read_text
from dualformer.moved_files import absolute
from dualformer.plurals import counted
from dualformer.remote_paths import RemotePath, as_path, path_in
from dualformer.text_encoding import describe_encoding, has_surrogates
from dualformer.timestamps import parse_time
from dualformer.urls import split_url, url_of
from dualformer.video.file_slices import is_frame_folder
from dualformer.video.video_segment import VideoSegment

START, END = "start", "end"
"""The columns of the times between which a segment lies."""
ROOT = "root"
"""The column of a list that says where it was written: its paths are relative to that folder if it was moved alone."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the file, or several lines of one video. ``values``: its fields by column, as written."""

    video: Path
    line: int
    """The number of its first line."""
    values: Mapping[str, str]
    labels: tuple[str, ...]
    """One, or several of a multi-label video."""
    segment: VideoSegment | None = None
    """The part of the video that it is about; None: all of it."""
    listed: str = ""
    """FILE:LINE, where that is not this line of the table's own file."""

    @property
    def path(self) -> Path:
        """Tells it from all other rows: its video, or the name of its segment."""
        return self.segment.path if self.segment else self.video

    def matches(self, column: str, values: Collection[str]) -> bool:
        """Returns whether the column holds one of the values; of several labels, whether any does."""
        if column == "label":
            return any(label in values for label in self.labels)
        return self.values[column] in values

    def where(self, path: Path) -> str:
        """Returns where it is listed, in the table of this ``path``."""
        return self.listed or f"{path}:{self.line}"

    @property
    def exists(self) -> bool:
        """Whether it is there; what is at a URL is taken to be, as asking for each would take long."""
        if isinstance(self.video, RemotePath):
            return True
        return self.video.parent.is_dir() if is_frame_folder(self.video) else self.video.is_file()

    @property
    def fps(self) -> float | None:
        """The rate of a folder of frames, where the row gives it."""
        return float(self.values["fps"]) if self.values.get("fps") and is_frame_folder(self.video) else None

    def sample(self, number: Mapping[str, int]) -> Sample:
        """Returns it as a sample. ``number``: of every class."""
        first, *extra = (number[name] for name in self.labels)
        labels = {"label": first, "extra_labels": tuple(extra), "fps": self.fps}
        if self.segment:
            return SegmentSample(path=self.path, segment=self.segment, **labels)
        return Sample(path=self.path, **labels)


@dataclass(frozen=True, kw_only=True)
class CsvTable:
    """The content of a CSV file. ``classes`` are those of all its lines, in label order."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    multi_label: bool = False
    """Whether a row may have several labels."""
    left_out: LeftOut | None = None
    """What the bad videos are of which the table was read without."""
    bad_rows: tuple[Row, ...] = ()
    """Their rows."""
    unmarked: tuple[Path, ...] = ()
    """Videos of files of segments in which nothing is marked, and which have no row."""

    def with_bad_rows(self) -> "CsvTable":
        """Returns the table with the rows of bad videos, in the order of the file."""
        return replace(self, rows=tuple(sorted((*self.rows, *self.bad_rows), key=lambda row: row.line)), bad_rows=())

    def marked(self) -> dict[Path, list[tuple[float, float]]]:
        """Returns the times of all segments of each video."""
        found: dict[Path, list[tuple[float, float]]] = {}
        for row in self.rows:
            if row.segment:
                found.setdefault(row.video, []).append((row.segment.start, row.segment.end))
        return found

    def values_of(self, column: str) -> tuple[str, ...]:
        """Returns the distinct values of a column, in order; labels one by one."""
        each = ((label for label in row.labels) if column == "label" else (row.values[column],) for row in self.rows)
        return ordered_classes(value for values in each for value in values)


def read_csv(
    path: str | Path,
    *,
    bad: Collection[Path] = (),
    check_files: bool = True,
    multi_label: bool | None = False,
    frames_per_second: float | None = None,
) -> CsvTable:
    """Reads and checks a CSV file.

    ``bad``: paths of videos to leave out; their labels still count as classes. ``check_files``: whether every
    other video must exist. ``multi_label``: whether videos may have several labels; None: if any has.
    ``frames_per_second``: whole numbers as starts and ends are frames at this rate.
    Raises ``FileNotFoundError`` where there is no such file, `DatasetError` with the line for everything
    that is wrong in it, ``ValueError`` for ``frames_per_second`` of a file without segments.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such CSV file: {path}")
    rows = _rows(path, ("path", "label"), frames_per_second)
    if not rows:
        raise DatasetError(f"{path}: nothing in it: expected a header path,label and one line per video or image")
    if frames_per_second is not None and not any(row.segment for row in rows):
        raise ValueError(no_segments(path))
    return table_of(path, rows, bad=bad, check_files=check_files, multi_label=multi_label)


def table_of(
    path: Path,
    rows: list[Row],
    *,
    bad: Collection[Path] = (),
    check_files: bool = True,
    multi_label: bool | None = False,
) -> CsvTable:
    """Returns the table of some ``rows``, all of the same columns, after the checks of `read_csv`; ``path``: what lists
    them."""
    columns = list(rows[0].values)
    if multi_label is None:
        repeated = len({row.path for row in rows}) < len(rows)
        multi_label = repeated or any(SEPARATOR in row.values["label"] for row in rows)
    rows = _with_all_labels(path, rows) if multi_label else _with_one_label(path, rows)
    spelled = unify_spellings(label for row in rows for label in row.labels)
    rows = [replace(row, labels=tuple(dict.fromkeys(spelled[label] for label in row.labels))) for row in rows]
    classes = ordered_classes(label for row in rows for label in row.labels)
    listed = BadVideos.of(bad)
    left_out = listed.among([row.video for row in rows]) if listed or listed.manifest else None
    bad_rows = [row for row in rows if left_out and row.video in left_out.bad]
    rows = [row for row in rows if not left_out or row.video not in left_out.bad]
    if check_files and (missing := [row for row in rows if not row.exists]):
        names = first_few(row.values["path"] for row in missing)
        what = f"{len(missing)} of {len(rows)} files do not exist: {names}"
        moved = "; if the videos of a run have moved, resume it with their new `data`" if ROOT in columns else ""
        raise DatasetError(f"{missing[0].where(path)}: {what} (paths are relative to {path.parent}{moved})")
    return CsvTable(
        path=path,
        columns=tuple(columns),
        rows=tuple(rows),
        classes=classes,
        multi_label=multi_label,
        left_out=left_out,
        bad_rows=tuple(bad_rows),
    )


def no_segments(data: str | Path) -> str:
    """Returns a message for data without segments of which the frames a second were given."""
    return f"`frames_per_second` is of the times of segments, and {data} has none: leave it out"


def read_paths(path: str | Path, *, segments: bool = False) -> list[Path]:
    """Returns the paths in a list, each once, whether they exist or not: those of the column ``path`` of a CSV file,
    which needs no other, or one on each line of any other file. They are relative to the list. With ``segments``, a row
    with times stands for its part of the video, named as `VideoSegment.path`. Raises as `read_csv`.
    """
    path = as_path(path)
    if path.suffix.lower() == ".csv":
        return list(dict.fromkeys(row.path if segments else row.video for row in _rows(path, needed=("path",))))
    found: dict[Path, None] = {}
    for number, line in enumerate(re.split(r"\r\n|\n|\r", read_text(path, DatasetError, names=True)), 1):
        if name := line.strip():
            video = Path(name) if split_url(name) and not url_of(name) else path_in(path.parent, name)
            _refuse_other_encoding(f"{path}:{number}", name, there=has_surrogates(name) and video.is_file())
            found[video] = None
    return list(found)


def read_columns(path: Path) -> dict[Path, dict[str, str]]:
    """Returns the values of each file of a CSV list by column, but for its path; of several rows those of the first.

    Raises `DatasetError` as `read_paths`.
    """
    found: dict[Path, dict[str, str]] = {}
    for row in _rows(path, needed=("path",)):
        found.setdefault(row.path, {name: value for name, value in row.values.items() if name not in ("path", ROOT)})
    return found


def select(table: CsvTable, rows: Mapping[str, tuple[str, ...]] | None = None) -> VideoList:
    """Returns the videos of the rows whose columns hold one of the given values each; all rows for None.

    Raises ``ValueError`` for a column or value that the table does not have, naming those that it has.
    """
    rows = dict(rows or {})
    for column, values in rows.items():
        if column not in table.columns:
            raise ValueError(f"{table.path} has no column {column!r}: choose from {', '.join(table.columns)}")
        there = table.values_of(column)
        values = tuple(spelled_as(value, there) for value in values)
        values = rows[column] = join_commas(values, there)
        if unknown := [value for value in values if value not in there]:
            choice = first_few(map(quoted_value, there), most=20)
            raise ValueError(f"{table.path}: no row has {unknown_values(column, unknown)}: choose from {choice}")
    label = {name: i for i, name in enumerate(table.classes)}
    samples: list[Sample] = []
    for row in table.rows:
        if all(row.matches(column, values) for column, values in rows.items()):
            samples.append(row.sample(label))
    if not samples:
        raise ValueError(f"{table.path}: no row has {describe_filter(rows)} together")
    suffix = f" where {describe_filter(rows)}" if rows else ""
    source = f"{table.path}{suffix}"
    return VideoList(classes=table.classes, samples=tuple(samples), source=source, multi_label=table.multi_label)


def _rows(path: Path, needed: tuple[str, ...], frames_per_second: float | None = None) -> list[Row]:
    """Reads the lines of a CSV file that has the ``needed`` columns; only these must not be empty."""
    lines = list(read_csv_rows(path, DatasetError, names=True, columns=("path",)))
    if not lines:
        return []
    columns = check_header(path, lines[0][1], needed)
    base = _base(path, columns, [fields for _, fields in lines[1:]])
    if {START, END} <= set(columns):
        marks = [columns.index(name) for name in (START, END, "label") if name in columns]
        lines = [
            lines[0],
            *(line for line in lines[1:] if len(line[1]) <= max(marks) or any(line[1][i] for i in marks)),
        ]
    rows = [_row(path, base, line, columns, fields, needed, frames_per_second) for line, fields in lines[1:]]
    return _found_by_name(path, rows) if {START, END} <= set(columns) and ROOT not in columns else rows


def _found_by_name(path: Path, rows: list[Row]) -> list[Row]:
    """Returns rows of segments, those whose video is not there with the one of its name in the folder of the list."""
    finder = VideoFinder(check_files=False)
    found: list[Row] = []
    for row in rows:
        if not row.exists:
            video = finder.find([row.values["path"]], path, f"{path}:{row.line}")
            row = replace(row, video=video, segment=row.segment and replace(row.segment, file=video))
        found.append(row)
    return found


def _refuse_other_encoding(where: str, text: str, *, there: bool) -> None:
    """Raises `DatasetError` for text that is not UTF-8, but for the name of a file that is there."""
    if has_surrogates(text) and not there:
        said = describe_encoding(text.encode("utf-8", "surrogateescape"))
        raise DatasetError(f"{where}: {said}")


def check_header(path: Path, columns: list[str], needed: tuple[str, ...]) -> list[str]:
    """Returns the ``columns``. Raises `DatasetError` where they lack a ``needed`` one or repeat one."""
    shown = " ".join(", ".join(columns).split())  # on one line
    for name in needed:
        if name not in columns:
            raise DatasetError(f"{path}:1: no column {name!r} in the header ({shown}): name it so")
    if len(set(columns)) != len(columns):
        raise DatasetError(f"{path}:1: column names repeat in the header: {shown}")
    return columns


def _base(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    """Returns the folder that paths are relative to: the file's own, or that of its column root if more are there."""
    if ROOT not in columns or not rows:
        return path.parent
    place, root = columns.index("path"), columns.index(ROOT)
    some = [row for row in rows[:: max(1, len(rows) // 50)] if len(row) == len(columns)]
    roots = dict.fromkeys(row[root] for row in some if row[root])

    def there(base: Path) -> int:
        paths = (Path(os.path.normpath(base / row[place])) for row in some if not url_of(row[place]))
        return sum(path.exists() or (is_frame_folder(path) and path.parent.is_dir()) for path in paths)

    return max((path.absolute().parent, *map(Path, roots)), key=there)


def _row(
    path: Path,
    base: Path,
    line: int,
    columns: list[str],
    fields: list[str],
    needed: tuple[str, ...],
    frames_per_second: float | None,
) -> Row:
    where = f"{path}:{line}"
    if len(fields) != len(columns):
        what = counted(len(fields), "field where the header has", "fields where the header has")
        raise DatasetError(f"{where}: {what} {len(columns)} ({', '.join(columns)})")
    values = dict(zip(columns, fields, strict=True))
    for name in needed:
        if not values[name]:
            raise DatasetError(f"{where}: the {name} is empty")
    if "\0" in values["path"]:
        raise DatasetError(f"{where}: no file is called {values['path']!r}")
    video = path_in(base, values["path"])
    if isinstance(video, RemotePath):
        values |= {"path": str(video)} if url_of(values["path"]) else {}  # without credentials
    else:
        # What `write_split` wrote counts folders up by their names, also where these are links.
        video = Path(os.path.normpath(video)) if ROOT in columns else absolute(video)
    row = Row(video=video, line=line, values=values, labels=(values.get("label", ""),))
    for name, value in values.items():
        _refuse_other_encoding(where, value, there=name == "path" and has_surrogates(value) and row.exists)
    try:
        rate = row.fps
    except ValueError:
        rate = 0.0
    if rate is not None and not 0 < rate < math.inf:
        raise DatasetError(f"{where}: fps {values['fps']!r} is not a number more than 0")
    return replace(row, segment=_segment(where, row, frames_per_second))


def _segment(where: str, row: Row, frames_per_second: float | None) -> VideoSegment | None:
    texts = {name: row.values.get(name, "") for name in (START, END)}
    if not any(texts.values()) or not set(texts) <= set(row.values):
        return None
    times: list[float] = []
    for name, text in texts.items():
        if not text:
            raise DatasetError(f"{where}: the {name} is empty: give start and end, or neither for all of a video")
        times.append(segment_time(text, frames_per_second, where, name))
    start, end = times
    if start < 0:
        raise DatasetError(f"{where}: the segment begins at {texts[START]}, before the video does")
    if end < start:
        raise DatasetError(f"{where}: the segment ends at {texts[END]}, before it begins at {texts[START]}")
    return VideoSegment(file=row.video, start=start, end=end)


def segment_time(text: str, frames_per_second: float | None, where: str, what: str) -> float:
    """Returns the seconds of a segment's start or end, as `parse_time` reads it; with ``frames_per_second`` whole
    numbers are frames, counted from 0. Raises `DatasetError`, which names the place ``where`` it is, and ``what``."""
    try:
        time = parse_time(text)
    except ValueError as error:
        raise DatasetError(f"{where}: the {what} {error}") from error
    if frames_per_second is None or ":" in text:
        return time
    if not time.is_integer():
        raise DatasetError(f"{where}: the {what} {text!r} is no frame's number: write whole numbers, or give no rate")
    return time / frames_per_second


def _with_one_label(path: Path, rows: list[Row]) -> list[Row]:
    """Checks that each row has one label and a video of its own."""
    remedy = "several labels are for training with `multi_label=True`, and for weights that were"
    first: dict[Path, Row] = {}
    for row in rows:
        if SEPARATOR in row.values["label"]:
            raise DatasetError(f"{row.where(path)}: several labels, {row.values['label']!r}: name one ({remedy})")
        before = first.setdefault(row.path, row)
        if before is not row:
            problem = f"{row.where(path)}: {row.values['path']} is listed already in line {before.line}"
            if before.labels != row.labels:
                problem += f", as {before.labels[0]!r}: name one label ({remedy})"
            raise DatasetError(problem)
    return rows


def _with_all_labels(path: Path, rows: list[Row]) -> list[Row]:
    """Returns one row for each video, with the labels of all its rows in the order in which they are written."""
    found: dict[Path, Row] = {}
    for row in rows:
        labels = tuple(label.strip() for label in row.values["label"].split(SEPARATOR))
        if not all(labels):
            raise DatasetError(
                f"{row.where(path)}: an empty label in {row.values['label']!r}: write {SEPARATOR} between two only"
            )
        before = found.get(row.path)
        own = {name: value for name, value in row.values.items() if name not in ("path", "label")}
        for name, value in own.items():
            if before and before.values[name] != value:
                raise DatasetError(
                    f"{row.where(path)}: {row.values['path']} has {name}={value} here and {before.values[name]} in "
                    f"line {before.line}: a video has several labels, and one of all else"
                )
        labels = (*(before.labels if before else ()), *labels)
        if twice := next((label for label in labels if labels.count(label) > 1), None):
            raise DatasetError(f"{row.where(path)}: {row.values['path']} has the label {twice!r} already: name it once")
        found[row.path] = replace(before or row, labels=labels)
    return list(found.values())
