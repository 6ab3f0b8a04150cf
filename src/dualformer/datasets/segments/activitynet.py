"""Reads and writes segments as ActivityNet has them, in JSON, which THUMOS'14 is passed on in as well.

``{"database": {ID: {"subset": …, "duration": …, "annotations": [{"segment": [start, end], "label": …}]}}}``; times are
seconds.
"""

from collections.abc import Sequence
from pathlib import Path

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.located_json import JsonObject, LocatedJson, expect, field, number, optional_number
from dualformer.datasets.segments.video_finder import VideoFinder, video_ids
from dualformer.files import write_json
from dualformer.segment import Segment


def read_activitynet(path: Path, videos: VideoFinder) -> list[AnnotatedVideo]:
    """Returns the videos of a JSON file. A video is called ``ID`` or, as in ActivityNet, ``v_ID``.

    ``subset`` is the split, ``fps`` or ``frame_rate`` the rate, ``score`` of a segment its probability. Raises
    `DatasetError` with the line, or with the place in a file of one line.
    """
    file, found = LocatedJson(path), SegmentCollector()
    content = expect(file.content, JsonObject, str(path), "the file")
    for name, about in field(content, "database", JsonObject, str(path)).items():
        entry = expect(about, JsonObject, str(path), repr(name[:60]))
        where = file.where(entry, f"{name!r}")
        video = videos.find([name, f"v_{name}"], path, where)
        rate = optional_number(entry, "fps", where) or optional_number(entry, "frame_rate", where)
        split = expect(entry.get("subset", ""), str, where, "'subset'")
        found.add_video(video, where, seconds=optional_number(entry, "duration", where), fps=rate, split=split)
        # A test set has no annotations.
        for place, item in enumerate(expect(entry.get("annotations", []), list, where, "'annotations'")):
            annotation = expect(item, JsonObject, where, f"annotation {place}")
            listed = file.where(annotation, f"{name!r}, annotation {place}")
            times = field(annotation, "segment", list, listed)
            if len(times) != 2:
                raise DatasetError(f"{listed}: 'segment' has {len(times)} times: write start and end")
            score = optional_number(annotation, "score", listed)
            segment = Segment(
                label=field(annotation, "label", str, listed).strip(),
                start=number(times[0], listed, "the start"),
                end=number(times[1], listed, "the end"),
                probability=1.0 if score is None else score,
            )
            found.add_segment(video, listed, segment)
    return found.videos()


def write_activitynet(videos: Sequence[AnnotatedVideo], path: Path) -> None:
    """Writes a JSON file; a segment has a ``score`` where its probability is not 1.

    Raises `DatasetError` for two videos that differ in folder or extension alone.
    """
    ids = video_ids(videos, path)
    database: dict[str, object] = {}
    for video in videos:
        entry: dict[str, object] = {"subset": video.split} if video.split else {}
        entry |= {} if video.seconds is None else {"duration": video.seconds}
        entry |= {} if video.fps is None else {"fps": video.fps}
        entry["annotations"] = [
            {"segment": [round(s.start, 3), round(s.end, 3)], "label": s.label}
            | ({} if s.probability == 1 else {"score": round(s.probability, 6)})
            for s in video.segments
        ]
        database[ids[video.path]] = entry
    write_json(path, {"version": "dualformer", "database": database})
