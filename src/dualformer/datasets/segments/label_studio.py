"""Reads and writes segments as Label Studio exports them in JSON: a list of tasks, each with a video and annotations.

Read are regions of timelines (``timelinelabels``, in frames) and of sound (``labels``, in seconds); rectangles, choices
and others are let be. Frames are numbered from 1, and the end of a range is its last frame.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from dualformer.datasets.samples import DatasetError, first_few
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.located_json import JsonObject, LocatedJson, expect, field, number, optional_number
from dualformer.datasets.segments.video_finder import VideoFinder, names_in_url, path_in_file
from dualformer.files import write_json
from dualformer.plurals import counted
from dualformer.segment import Segment
from dualformer.video.file_formats import is_media

_log = logging.getLogger("dualformer")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts in front of the name of an uploaded file."""


def read_label_studio(
    path: Path, videos: VideoFinder, *, frames_per_second: float | None = None
) -> list[AnnotatedVideo]:
    """Returns the videos of the tasks that somebody annotated or that have predictions.

    The video is ``video`` of the task's data, or the only value there that names one. Of several annotations that were
    not cancelled, the one that is marked as ground truth counts; where there is none at all, the predictions do, whose
    ``score`` is the probability. A range of one frame is a moment. ``frames_per_second``: of the timeline; else ``fps``
    of the task's data. Raises `DatasetError` with the line, or with the place in a file of one line.
    """
    file, found = LocatedJson(path), SegmentCollector()
    unmarked: list[str] = []
    for number_of_task, item in enumerate(expect(file.content, list, str(path), "the file")):
        task = expect(item, JsonObject, str(path), f"task {number_of_task}")
        where = file.where(task, f"task {number_of_task}")
        data = field(task, "data", JsonObject, where)
        results = _results(task, where)
        if results is None:
            unmarked.append(where)
            continue
        video = videos.find(_names(data, where), path, where)
        own_rate = optional_number(data, "fps", where)
        found.add_video(video, where, fps=own_rate)
        for place, each in enumerate(results):
            result = expect(each, JsonObject, where, f"result {place}")
            listed = file.where(result, f"task {number_of_task}, result {place}")
            for segment in _segments(result, frames_per_second or own_rate, listed):
                found.add_segment(video, listed, segment)
    if unmarked:
        tasks = counted(len(unmarked), "task that nobody has annotated is", "tasks that nobody has annotated are")
        _log.warning("%s left out: %s", tasks, first_few(unmarked))
    return found.videos()


def write_label_studio(
    videos: Sequence[AnnotatedVideo], path: Path, *, frames_per_second: float | None = None, url_prefix: str = ""
) -> None:
    """Writes tasks to import: annotations, or predictions where a segment's probability is less than 1.

    The labels are of a ``TimelineLabels`` called ``label`` of a ``Video`` called ``video``. ``frames_per_second``: of
    the videos whose own rate is not known. ``url_prefix``: what Label Studio finds videos by; their paths, relative to
    the file, are added to it as in URLs. Raises `DatasetError` for a video without any rate.
    """
    tasks: list[dict[str, object]] = []
    for video in videos:
        rate = video.fps or frames_per_second
        if rate is None and video.segments:
            raise DatasetError(
                f"{path}: Label Studio counts frames, and the rate of {video.path} is not known: say it with "
                "`frames_per_second`"
            )
        predicted = any(segment.probability != 1 for segment in video.segments)
        results = [_result(number, segment, rate or 1.0) for number, segment in enumerate(video.segments)]
        name = path_in_file(video.path, path.parent)
        url = url_prefix + quote(os.fsencode(name)) if url_prefix else name
        data = {"video": url} | ({} if rate is None else {"fps": rate})
        made = {"model_version": "dualformer", "result": results} if predicted else {"result": results}
        tasks.append({"data": data, "predictions" if predicted else "annotations": [made]})
    write_json(path, tasks)


def _results(task: JsonObject, where: str) -> list[object] | None:
    """Returns the regions of a task; None where nobody has annotated it and no model has predicted any."""
    done = [
        each
        for place, item in enumerate(expect(task.get("annotations") or [], list, where, "'annotations'"))
        if not (each := expect(item, JsonObject, where, f"annotation {place}")).get("was_cancelled")
    ]
    if len(done) > 1:
        done = [each for each in done if each.get("ground_truth")]
        if len(done) != 1:
            raise DatasetError(f"{where}: several annotations of one task: mark one of them as ground truth")
    if not done and not task.get("annotations"):
        predictions = expect(task.get("predictions") or [], list, where, "'predictions'")
        done = [expect(item, JsonObject, where, f"prediction {place}") for place, item in enumerate(predictions)]
        if len(done) > 1:
            raise DatasetError(f"{where}: predictions of several models and no annotation: keep those of one model")
    return field(done[0], "result", list, where) if done else None


def _names(data: JsonObject, where: str) -> list[str]:
    """Returns what the video of a task may be called."""
    texts = [value for value in data.values() if isinstance(value, str)]
    named = [text for text in texts if any(is_media(Path(name)) for name in names_in_url(text))]
    if not isinstance(video := data.get("video"), str):
        if len(named) != 1:
            raise DatasetError(f"{where}: no 'video' in 'data' ({', '.join(data)[:200]}): call the video so")
        video = named[0]
    names = names_in_url(video)
    without = (str(place.with_name(_UPLOADED.sub("", place.name))) for place in map(PurePosixPath, names) if place.name)
    return list(dict.fromkeys([*(names or [""]), *without]))


def _segments(result: JsonObject, rate: float | None, where: str) -> Iterator[Segment]:
    """Yields the segments of a region, one for each of its labels."""
    kind = result.get("type")
    if kind not in ("timelinelabels", "labels"):
        return
    value = field(result, "value", JsonObject, where)
    score = optional_number(result, "score", where)
    spans: list[tuple[float, float]] = []
    if kind == "labels":
        spans.append((number(value.get("start"), where, "the start"), number(value.get("end"), where, "the end")))
    else:
        for place, item in enumerate(field(value, "ranges", list, where)):
            span = expect(item, JsonObject, where, f"range {place}")
            first, last = (number(span.get(name), where, f"the {name}") for name in ("start", "end"))
            if rate is None:
                raise DatasetError(
                    f"{where}: times are frames: say the `frameRate` of the project's Video tag with "
                    "`frames_per_second`, or as fps in the data of the task"
                )
            spans.append(((first - 1) / rate, (first - 1 if first == last else last) / rate))
    labels = value.get(kind)
    if not labels:
        raise DatasetError(f"{where}: a region without a label: give it one, or delete it")
    for label in expect(labels, list, where, repr(kind)):
        name = expect(label, str, where, "a label").strip()
        for start, end in spans:
            yield Segment(label=name, start=start, end=end, probability=1.0 if score is None else score)


def _result(number: int, segment: Segment, rate: float) -> dict[str, object]:
    first = round(segment.start * rate) + 1
    last = first if segment.start == segment.end else max(first, round(segment.end * rate))
    result: dict[str, object] = {
        "id": f"segment{number}",
        "from_name": "label",
        "to_name": "video",
        "type": "timelinelabels",
        "origin": "manual" if segment.probability == 1 else "prediction",
        "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [segment.label]},
    }
    return result if segment.probability == 1 else result | {"score": round(segment.probability, 6)}
