"""Rows of lists of videos, the checks that all lists share, and the videos of the rows that are chosen."""

from collections.abc import Collection, Mapping
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
from dualformer.remote_paths import RemotePath
from dualformer.video.file_slices import is_frame_folder
from dualformer.video.video_segment import VideoSegment

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
