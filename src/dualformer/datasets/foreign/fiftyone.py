"""Reads what FiftyOne exports: ``samples.json`` of a whole data set, and ``labels.json`` of classifications and of
temporal detections, which are parts of films. (A class per folder is read as any other.)

Frames of a part are counted from 1, and its last one belongs to it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dualformer.datasets.foreign.asked_columns import AskedColumns
from dualformer.datasets.foreign.foreign_rows import make_row, split_in
from dualformer.datasets.row_table import Row
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.located_json import JsonObject, LocatedJson, expect, field, number
from dualformer.datasets.segments.video_finder import VideoFinder
from dualformer.moved_files import absolute
from dualformer.remote_paths import RemotePath, path_in
from dualformer.video.open_video import open_video

_KINDS = ("Classification", "Classifications", "TemporalDetection", "TemporalDetections")


def read_fiftyone_samples(asked: AskedColumns, files: Sequence[tuple[Path, str]]) -> Iterator[Row]:
    """Yields the samples of ``samples.json``, those with temporal detections once for each.

    The split is the one of a sample's tags that names one. Raises `DatasetError` with the place.
    """
    ((path, _),) = files
    file = LocatedJson(path)
    folder = path.parent if isinstance(path, RemotePath) else absolute(path).parent
    samples = field(expect(file.content, JsonObject, str(path), "the file"), "samples", list, str(path))
    label = ""
    for place, item in enumerate(samples):
        sample = expect(item, JsonObject, str(path), f"sample {place}")
        where = file.where(sample, f"sample {place}")
        if not label:
            typed = [name for name in _names(samples) if any(_is_label(each.get(name)) for each in samples)]
            label = asked.choose("label", _names(samples), path, typed=typed)
        video = path_in(folder, field(sample, "filepath", str, where))
        tags = [split_in(tag) for tag in sample.get("tags") or () if isinstance(tag, str)]
        split = next(filter(None, tags), "")
        others = {name: value for name, value in sample.items() if not name.startswith("_") and name != "filepath"}
        value, rate = sample.get(label), (sample.get("metadata") or {}).get("frame_rate")
        named, parts = _read_label(value, where)
        if not parts:
            yield make_row(video, where, others, label=named, split=split)
        for one, support in parts:
            yield make_row(video, where, others, label=one, times=_times(support, rate, video, where), split=split)


def read_fiftyone_labels(_: AskedColumns, files: Sequence[tuple[Path, str]]) -> Iterator[Row]:
    """Yields the videos of ``labels.json``, which lie in ``data`` beside it or where ``data.json`` says, those with
    temporal detections once for each. Raises `DatasetError` with the place."""
    ((path, _split),) = files
    file = LocatedJson(path)
    content = expect(file.content, JsonObject, str(path), "the file")
    names = [str(name) for name in content.get("classes") or ()]
    elsewhere = path.parent / "data.json"  # of media that were not exported
    places = (
        expect(LocatedJson(elsewhere).content, JsonObject, str(elsewhere), "the file") if elsewhere.is_file() else {}
    )
    finder = VideoFinder(path.parent if places else path.parent / "data")
    for key, value in field(content, "labels", JsonObject, str(path)).items():
        where = f"{path}: {key!r}"
        video = finder.find([str(places.get(key, key))], path, where)
        items = value if isinstance(value, list) else [value]
        parts = [each for each in items if isinstance(each, dict) and ("support" in each or "timestamps" in each)]
        for part in parts:
            times = part.get("timestamps")
            support = None if times else field(expect(part, JsonObject, where, "a label"), "support", list, where)
            seconds = _pair(times, where) if times else _times(support, None, video, where)
            yield make_row(video, where, {}, label=_class(part.get("label"), names, where), times=seconds)
        if not parts:
            labels = [each.get("label") if isinstance(each, dict) else each for each in items]
            yield make_row(video, where, {}, label=[_class(each, names, where) for each in labels if each is not None])
    finder.tell_elsewhere(path)


def _names(samples: list[Any]) -> list[str]:
    return list(
        dict.fromkeys(name for each in samples if isinstance(each, dict) for name in each if not name.startswith("_"))
    )


def _is_label(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_cls") in _KINDS


def _read_label(value: Any, where: str) -> tuple[Any, list[tuple[Any, Any]]]:
    """Returns the label of a whole video, several as a list, and the parts of one as (label, frames)."""
    if not isinstance(value, dict):
        return value, []
    if "support" in value:
        return None, [(value.get("label"), value["support"])]
    if detections := value.get("detections"):
        items = [expect(each, JsonObject, where, "a detection") for each in detections]
        return None, [(each.get("label"), each.get("support")) for each in items]
    if "classifications" in value:
        return [each.get("label") for each in value["classifications"] if isinstance(each, dict)], []
    return value.get("label"), []


def _class(value: Any, names: list[str], where: str) -> Any:
    if names and isinstance(value, int):
        if not 0 <= value < len(names):
            raise DatasetError(f"{where}: the label {value} is none of the {len(names)} classes: correct it")
        return names[value]
    return value


def _pair(value: Any, where: str) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise DatasetError(f"{where}: a part has {value!r}, and must have a first and a last time or frame: correct it")
    return number(value[0], where, "the first"), number(value[1], where, "the last")


def _times(support: Any, rate: Any, video: Path, where: str) -> tuple[float, float]:
    """Returns the seconds of the frames of a part: by their ``rate``, or as the video shows them."""
    first, last = _pair(support, where)
    if not 1 <= first <= last:
        raise DatasetError(f"{where}: a part of frames {first:g} to {last:g}, which are counted from 1: correct it")
    if isinstance(rate, (int, float)) and rate > 0:
        return (first - 1) / rate, last / rate
    with open_video(str(video), threads=1) as reader:
        times = reader.times.tolist()
    if last > len(times):
        raise DatasetError(f"{where}: a part ends at frame {last:g} of the {len(times)} of {video.name}: correct it")
    apart = times[-1] / (len(times) - 1) if len(times) > 1 else 1.0
    return times[int(first) - 1], times[int(last)] if last < len(times) else times[-1] + apart
