"""Writes which videos are trained and validated on, as a CSV file that is read like any other list of videos."""

import os
from pathlib import Path

from dualformer.datasets.csv_list import END, START
from dualformer.datasets.row_table import ROOT
from dualformer.datasets.samples import SegmentSample
from dualformer.datasets.splits import Splits
from dualformer.files import write_csv
from dualformer.moved_files import absolute
from dualformer.remote_paths import RemotePath


def write_split(path: str | Path, splits: Splits) -> None:
    """Writes splits as a CSV file (path,label,split) that `open_splits` reads back.

    The rate of frame folders is in a column fps, the times of segments in start and end; several labels are joined in
    the column label. Paths are relative to the file's folder, which is in a column root: so they are found where both
    move together, and where one stays. URLs are written without credentials.
    """
    folder = str(Path(path).absolute().parent)
    rated = any(sample.fps is not None for videos in (splits.train, splits.val) for sample in videos.samples)
    lists = (splits.train, splits.val)
    cut = any(isinstance(sample, SegmentSample) for videos in lists for sample in videos.samples)
    header = ["path", *([START, END] if cut else []), "label", "split", *(["fps"] if rated else []), ROOT]
    rows: list[list[str]] = []
    for name, videos in (("train", splits.train), ("val", splits.val)):
        for sample in videos.samples:
            rate = ["" if sample.fps is None else repr(sample.fps)] if rated else []
            times = ["", ""] if cut else []
            if isinstance(sample, SegmentSample):
                times = [repr(sample.segment.start), repr(sample.segment.end)]
            rows.append([_relative(sample.recording, folder), *times, videos.names_of(sample), name, *rate, folder])
    write_csv(Path(path), header, rows)


def _relative(path: Path, folder: str) -> str:
    if isinstance(path, RemotePath):
        return str(path)
    try:
        return Path(os.path.relpath(absolute(path), folder)).as_posix()
    except ValueError:  # on another drive
        return absolute(path).as_posix()
