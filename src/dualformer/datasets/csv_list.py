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
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from dualformer.datasets.row_table import ROOT, CsvTable, Row, table_of
from dualformer.datasets.samples import DatasetError
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


def read_csv(
    path: str | Path,
    *,
    bad: Collection[Path] = (),
    check_files: bool = True,
    multi_label: bool | None = False,
    frames_per_second: float | None = None,
    wrong: list[str] | None = None,
) -> CsvTable:
    """Reads and checks a CSV file.

    ``bad``: paths of videos to leave out; their labels still count as classes. ``check_files``: whether every
    other video must exist. ``multi_label``: whether videos may have several labels; None: if any has.
    ``frames_per_second``: whole numbers as starts and ends are frames at this rate. ``wrong``: if given, it gets a line
    for every row whose times cannot be, and the table is without these rows.
    Raises ``FileNotFoundError`` where there is no such file, `DatasetError` with the line for everything
    that is wrong in it, ``ValueError`` for ``frames_per_second`` of a file without segments.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such CSV file: {path}")
    rows = _rows(path, ("path", "label"), frames_per_second, wrong=wrong)
    if not rows and wrong:
        return CsvTable(path=path, columns=(), rows=(), classes=())
    if not rows:
        raise DatasetError(f"{path}: nothing in it: expected a header path,label and one line per video or image")
    if frames_per_second is not None and not any(row.segment for row in rows):
        raise ValueError(no_segments(path))
    return table_of(path, rows, bad=bad, check_files=check_files, multi_label=multi_label)


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
        rows = _rows(path, needed=("path",), times=segments)
        return list(dict.fromkeys(row.path if segments else row.video for row in rows))
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


def _rows(
    path: Path,
    needed: tuple[str, ...],
    frames_per_second: float | None = None,
    *,
    times: bool = True,
    wrong: list[str] | None = None,
) -> list[Row]:
    """Reads the lines of a CSV file that has the ``needed`` columns; only these must not be empty.

    ``times``: whether the segments are read, else all rows are of whole videos. ``wrong``: as for `read_csv`.
    """
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
    rows = [_row(path, base, line, columns, fields, needed) for line, fields in lines[1:]]
    if times:
        rows = _with_segments(path, rows, frames_per_second, wrong)
    return _found_by_name(path, rows) if {START, END} <= set(columns) and ROOT not in columns else rows


def _with_segments(path: Path, rows: list[Row], frames_per_second: float | None, wrong: list[str] | None) -> list[Row]:
    """Returns rows with their segments. Those whose times cannot be are told in ``wrong``, or else by one error."""
    found: list[Row] = []
    problems: list[str] = []
    for row in rows:
        try:
            found.append(replace(row, segment=_segment(f"{path}:{row.line}", row, frames_per_second)))
        except DatasetError as error:
            problems.append(str(error))
    if problems and wrong is None:
        raise DatasetError(first_problem(problems))
    if wrong is not None:
        wrong += problems
    return found


def first_problem(problems: Sequence[str]) -> str:
    """Returns one line for all ``problems`` of the segments of a data set: the first, and how many more there are."""
    more = f"; {counted(len(problems) - 1, 'more is', 'more are')} wrong: `dualformer check` names all"
    return problems[0] + (more if len(problems) > 1 else "")


def _found_by_name(path: Path, rows: list[Row]) -> list[Row]:
    """Returns rows of segments, those whose video is not there with the one of its name in the folder of the list."""
    finder = VideoFinder(check_files=False)
    found: list[Row] = []
    for row in rows:
        if not row.exists:
            video = finder.find([row.values["path"]], path, f"{path}:{row.line}")
            row = replace(row, video=video, segment=row.segment and replace(row.segment, file=video))
        found.append(row)
    finder.tell_elsewhere(path)
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
    return row


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
