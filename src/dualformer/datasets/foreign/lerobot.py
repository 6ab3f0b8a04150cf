"""Reads data sets of LeRobot: each episode of one camera is a part of a film, or a film, labelled with its task.

In version 3 a film holds many episodes, whose times stand in ``meta/episodes``; in version 2 each has its own.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dualformer.datasets.foreign.asked_columns import AskedColumns
from dualformer.datasets.foreign.foreign_rows import json_lines, make_row
from dualformer.datasets.foreign.table_files import open_table
from dualformer.datasets.row_table import Row
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.located_json import JsonObject, LocatedJson, expect, field
from dualformer.files import read_text
from dualformer.moved_files import absolute
from dualformer.remote_paths import RemotePath

_PLACE = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
"""What is said of an episode's place in the films of a camera."""


def read_lerobot(asked: AskedColumns, files: Sequence[tuple[Path, str]]) -> Iterator[Row]:
    """Yields the episodes that all ``files`` but the first list, which is ``meta/info.json``, in their order; of each
    the camera that is asked for.

    Raises `DatasetError` for what cannot be read, and where there are several cameras and none is named.
    """
    (path, _), *episodes = files
    root, where = (path if isinstance(path, RemotePath) else absolute(path)).parent.parent, str(path)
    info = expect(LocatedJson(path).content, JsonObject, where, "the file")
    features = field(info, "features", JsonObject, where)
    cameras = [name for name, about in features.items() if isinstance(about, dict) and about.get("dtype") == "video"]
    if not cameras:
        raise DatasetError(f"{where}: no feature is a video: what is recorded as images is not read")
    camera = asked.choose("video", cameras, where, typed=cameras)
    template, splits = field(info, "video_path", str, where), _splits(info, where)
    label = ""
    for listed, values in _episodes([path for path, _ in episodes], camera):
        columns = [name for name, value in values.items() if "/" not in name and isinstance(value, (str, int, list))]
        label = label or asked.choose("label", columns, listed)
        try:
            number = values["episode_index"]
            chunk_index, file_index, start, end = (values.get(f"videos/{camera}/{name}") for name in _PLACE)
            chunk = number // info.get("chunks_size", 1000)
            names = {"video_key": camera, "episode_chunk": chunk, "episode_index": number}
            film = root / template.format(**names, chunk_index=chunk_index, file_index=file_index)
            times = None if start is None or end is None else (float(start), float(end))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{listed}: it does not say where the episode lies in the films of {camera} ({error}): write the data "
                "anew by LeRobot's own tools"
            ) from error
        split = next((name for name, first, end in splits if first <= number < end), "")
        others = {name: value for name, value in values.items() if "/" not in name and name != label}
        yield make_row(film, listed, others, label=values.get(label), split=split, times=times)


def _episodes(files: list[Path], camera: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in files:
        if path.suffix == ".jsonl":
            yield from json_lines(path, read_text(path, DatasetError))
            continue
        with open_table(path) as table:
            wanted = [name for name in table.schema.names if "/" not in name or name.startswith(f"videos/{camera}/")]
            for row, values in enumerate(table.values(wanted)):
                yield f"{path}, row {row}", values


def _splits(info: JsonObject, where: str) -> list[tuple[str, int, int]]:
    """Returns the splits, and the first episode of each and the one behind its last, which are written as 0:50."""
    found: list[tuple[str, int, int]] = []
    for name, text in expect(info.get("splits", {}), JsonObject, where, "'splits'").items():
        first, _, end = str(text).partition(":")
        if not (first.isdecimal() and end.isdecimal()):
            raise DatasetError(f"{where}: the split {name} is {text!r}, and must be written as 0:50: correct it")
        found.append((name, int(first), int(end)))
    return found
