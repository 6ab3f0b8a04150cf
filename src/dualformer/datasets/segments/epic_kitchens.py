"""Reads and writes segments as EPIC-KITCHENS has them: a CSV file with a verb and a noun for each action.

Columns of both editions, EPIC-KITCHENS-55 and -100: participant_id, video_id, start_timestamp, stop_timestamp,
start_frame, stop_frame, narration, verb, verb_class, noun, noun_class, all_nouns, all_noun_classes and others.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dualformer.datasets.samples import DatasetError, ordered_classes
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.segment_csv import read_csv_columns
from dualformer.datasets.segments.video_finder import VideoFinder, video_ids
from dualformer.files import write_csv
from dualformer.segment import Segment
from dualformer.timestamps import parse_time, timestamp

TIMES = ("video_id", "start_timestamp", "stop_timestamp")
"""The columns that every such file has."""
_HEADER = (
    *("narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp"),
    *("start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class"),
    *("all_nouns", "all_noun_classes"),
)


def read_epic_kitchens(
    path: Path, videos: VideoFinder, *, label_columns: Sequence[str] = ("verb", "noun")
) -> list[AnnotatedVideo]:
    """Returns the videos of a CSV file.

    ``label_columns``: what a label is made of, joined by a blank: ``("verb",)``, ``("noun",)``, ``("verb_class",)`` or
    several. Raises `DatasetError` with the line.
    """
    found = SegmentCollector()
    for where, row in read_csv_columns(path, (*TIMES, *label_columns)):
        video = videos.find([row["video_id"]], path, where)
        try:
            start, end = parse_time(row["start_timestamp"]), parse_time(row["stop_timestamp"])
        except ValueError as error:
            raise DatasetError(f"{where}: {error}") from error
        label = " ".join(row[column] for column in label_columns if row[column])
        found.add_segment(video, where, Segment(label=label, start=start, end=end))
    return found.videos()


def write_epic_kitchens(videos: Sequence[AnnotatedVideo], path: Path) -> None:
    """Writes the CSV file of EPIC-KITCHENS-100. The first word of a label is the verb, the rest the noun.

    Classes are numbered in the order of `ordered_classes`; frames are numbered, from 1, where a video's rate is known.
    Raises `DatasetError` for a video without segments, which such a file cannot name.
    """
    ids = video_ids(videos, path)
    for video in videos:
        if not video.segments:
            raise DatasetError(
                f"{path}: nothing is marked in {video.path}, which EPIC-KITCHENS cannot say: leave it out, or write "
                "another format"
            )
    words = {segment.label: _verb_and_noun(segment.label) for video in videos for segment in video.segments}
    verbs, nouns = (ordered_classes(pair[place] for pair in words.values()) for place in (0, 1))

    def rows() -> Iterator[list[object]]:
        for video in videos:
            name = ids[video.path]
            for number, segment in enumerate(video.segments):
                verb, noun = words[segment.label]
                start, stop = timestamp(segment.start), timestamp(segment.end)
                rate = video.fps
                frames = ("", "") if rate is None else (int(segment.start * rate) + 1, int(segment.end * rate) + 1)
                noun_class = nouns.index(noun) if noun else ""
                yield [
                    *(f"{name}_{number}", name.partition("_")[0], name, start, start, stop, *frames),
                    *(segment.label, verb, verbs.index(verb), noun, noun_class, [noun] if noun else []),
                    [noun_class] if noun else [],
                ]

    write_csv(path, _HEADER, rows())


def _verb_and_noun(label: str) -> tuple[str, str]:
    verb, _, noun = label.partition(" ")
    return (verb, noun) if noun == noun.strip() else (label, "")
