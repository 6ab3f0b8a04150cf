"""Finds in which foreign layout a data set is, and reads it as a table of rows."""

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualformer.datasets.foreign.asked_columns import PREFIX, AskedColumns
from dualformer.datasets.foreign.fiftyone import read_fiftyone_labels, read_fiftyone_samples
from dualformer.datasets.foreign.foreign_rows import complete_rows, split_in
from dualformer.datasets.foreign.lerobot import read_lerobot
from dualformer.datasets.foreign.metadata_files import NAMES, is_metadata, metadata_columns, read_metadata
from dualformer.datasets.foreign.table_files import read_tables
from dualformer.datasets.foreign.tar_files import read_tars
from dualformer.datasets.row_table import CsvTable, Row, table_of
from dualformer.datasets.samples import DatasetError, first_few
from dualformer.remote_files import list_below
from dualformer.remote_paths import RemotePath, as_path
from dualformer.urls import exact_url
from dualformer.video.file_formats import is_data_folder, is_media

_log = logging.getLogger("dualformer")

Files = Sequence[tuple[Path, str]]
"""The files that list a data set, each with the split that its name tells, or ""."""
Reader = Callable[[AskedColumns, Files], Iterator[Row]]
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_FILES: dict[str, Reader] = {".parquet": read_tables, ".arrow": read_tables, ".tar": read_tars}
_LISTS: dict[str, Reader] = {".csv": read_metadata, ".jsonl": read_metadata}
"""Files that are read as such where columns are named: else a CSV file is a list of ours."""


@dataclass(frozen=True, kw_only=True)
class ForeignData:
    """A data set in a foreign layout: the files that list it, and what reads these."""

    asked: AskedColumns
    files: Files
    reader: Reader

    def rows(self) -> list[Row]:
        """Returns its rows, those without a label as well. Raises `DatasetError` with file, row and column."""
        asked = replace(self.asked, labelled=False)
        return complete_rows(self.reader(asked, self.files), asked)

    def table(
        self, *, bad: Collection[Path] = (), check_files: bool = True, multi_label: bool | None = False
    ) -> CsvTable:
        """Returns its labelled rows as `read_csv` does, with the same arguments and errors."""
        rows = complete_rows(self.reader(self.asked, self.files), self.asked)
        return table_of(self.asked.path, rows, bad=bad, check_files=check_files, multi_label=multi_label)


def find_foreign(data: str | Path) -> ForeignData | None:
    """Returns the data set in a foreign layout that ``data`` names; None for other data.

    That is a Parquet, Arrow or tar file, several of them as in ``train-{000..012}.tar``, a folder in one of the
    layouts, or anything behind ``columns:`` or ``columns@label=NAME,video=NAME:``.
    Raises `DatasetError` where that is in no layout, ``FileNotFoundError`` where it is not there, and ``ValueError``
    for other options.
    """
    named = _parse(str(data))
    asked = named or AskedColumns(path=as_path(data).expanduser())
    path, kind = asked.path, asked.path.suffix.lower()
    reader = _FILES.get(kind) or (_LISTS.get(kind) if named else None)
    files = _expand(path)
    if reader and (isinstance(path, RemotePath) or any(each.is_file() for each in files)):
        splits = ["" if each == path else split_in(each.name) for each in files]
        return ForeignData(asked=asked, files=list(zip(files, splits, strict=True)), reader=reader)
    if named and not path.exists() and not path.is_dir():
        raise FileNotFoundError(f"no such file or folder: {path}")
    found = _in_folder(path, anything=named is not None) if path.is_dir() else None
    if found:
        return ForeignData(asked=asked, files=found[1], reader=found[0])
    if named:
        raise DatasetError(
            f"{path}: it is in no layout that is known (Parquet, Arrow, tar files, metadata.csv, LeRobot, FiftyOne): "
            "name the file or folder that holds the data"
        )
    return None


def ask_for_label(root: Path) -> str:
    """Returns what to say of a folder with metadata that names files and not their labels; "" for other folders."""
    for path in (root / folder / name for folder, _, names in _folders(root) for name in NAMES if name in names):
        if columns := metadata_columns(path):
            try:
                AskedColumns(path=root).choose("label", columns, path)
            except DatasetError as error:
                return str(error)
    return ""


def _expand(path: Path) -> list[Path]:
    """Returns the files that ``train-{000..012}.tar`` stands for; any other path alone."""
    text = exact_url(str(path)) if isinstance(path, RemotePath) else str(path)
    found = _RANGE.search(text)
    if found is None:
        return [path]
    numbers = range(int(found[1]), int(found[2]) + 1)
    names = (f"{text[: found.start()]}{number:0{len(found[1])}d}{text[found.end() :]}" for number in numbers)
    return [file for name in names for file in _expand(as_path(name))]


def _parse(text: str) -> AskedColumns | None:
    if not text.startswith((f"{PREFIX}:", f"{PREFIX}@")):
        return None
    said, _, rest = text.removeprefix(PREFIX).partition(":")
    form = f"write {PREFIX}@label=NAME,video=NAME:PATH"
    asked: dict[str, str] = {}
    for part in said[1:].split(",") if said else ():
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not value or name not in ("label", "video") or name in asked:
            raise ValueError(f"{text}: cannot read {part!r} behind {PREFIX}@: {form}")
        asked[name] = value
    if not rest:
        raise ValueError(f"{text}: there is no path: {form}")
    path = as_path(rest).expanduser()
    return AskedColumns(path=path, label=asked.get("label", ""), video=asked.get("video", ""))


def _in_folder(root: Path, *, anything: bool) -> tuple[Reader, Files] | None:
    """Returns what reads a folder, by the first folder in it that tells, and the files to read. Videos without a list
    tell that nothing does, unless ``anything`` is to be found."""
    for folder, folders, names in _folders(root):
        here = root / folder if folder else root
        if "meta" in folders and (here / "meta" / "info.json").is_file():
            episodes = _files_below(here / "meta" / "episodes", ".parquet") or [(here / "meta" / "episodes.jsonl", "")]
            return read_lerobot, [(here / "meta" / "info.json", ""), *episodes]
        if "dataset_dict.json" in names or {"state.json", "dataset_info.json"} <= set(names):
            return read_tables, _files_below(here, ".arrow")
        told = (name for name in NAMES if name in names and is_metadata(here / name, labelled=not anything))
        if listed := next(told, None):
            return read_tables if listed.endswith(".parquet") else read_metadata, _files_below(root, listed)
        if {"samples.json", "metadata.json"} <= set(names):
            return read_fiftyone_samples, [(here / "samples.json", "")]
        if "labels.json" in names and ("data" in folders or "data.json" in names):
            return read_fiftyone_labels, [(here / "labels.json", "")]
        if not anything and any(is_media(Path(name)) for name in names):
            return None
        for ending in (".parquet", ".tar"):
            if any(name.endswith(ending) for name in names):
                return _FILES[ending], _files_below(root, ending)
    return None


def _files_below(root: Path, ending: str) -> list[tuple[Path, str]]:
    """Returns the files below a folder that end so, and the split that the path of each names.

    Where they lie in several folders that are none of splits, a line in the log says so: they may be several data sets.
    """
    found = sorted(f"{folder}/{name}".lstrip("/") for folder, _, names in _folders(root) for name in names)
    found = [name for name in found if name.endswith(ending)]
    folders = dict.fromkeys(
        "/".join(part for part in name.split("/")[:-1] if not split_in(part)) or "." for name in found
    )
    if len(folders) > 1:
        _log.warning(
            "%s: read as one data set: %s; name one of these folders if they are several", root, first_few(folders)
        )
    return [(root / name, split_in(name)) for name in found]


def _folders(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields the folders below ``root``, itself first as "", with the names of folders and files in them, sorted; not
    those that links lead to once more."""
    if not isinstance(root, RemotePath):
        seen: set[str] = set()
        for here, folders, names in os.walk(root, followlinks=True):
            seen.add(os.path.realpath(here))
            data = sorted(filter(is_data_folder, folders))
            folders[:] = [name for name in data if os.path.realpath(Path(here) / name) not in seen]
            yield Path(here).relative_to(root).as_posix().removeprefix("."), list(folders), sorted(names)
        return
    found: dict[str, tuple[dict[str, None], list[str]]] = {"": ({}, [])}
    try:
        files = list_below(str(root))
    except FileNotFoundError:
        return
    for inside in files:
        *folders, file = inside.split("/")
        if not all(map(is_data_folder, folders)):
            continue
        for depth, name in enumerate(folders):
            found["/".join(folders[:depth])][0].setdefault(name)
            found.setdefault("/".join(folders[: depth + 1]), ({}, []))
        found["/".join(folders)][1].append(file)
    yield from ((folder, list(inside), names) for folder, (inside, names) in sorted(found.items()))
