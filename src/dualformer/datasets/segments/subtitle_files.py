"""Reads and writes segments as subtitles, WebVTT and SubRip: one file for each video, one cue for each segment."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.video_finder import VideoFinder, write_each
from dualformer.files import read_text
from dualformer.segment import Segment
from dualformer.subtitles import SubtitleError, read_sub_rip, read_web_vtt, sub_rip, web_vtt


def read_web_vtt_file(path: Path, videos: VideoFinder) -> list[AnnotatedVideo]:
    """Returns the video that is called like the file, with its cues; see `read_web_vtt`. Raises `DatasetError`."""
    return _read(path, videos, read_web_vtt)


def read_sub_rip_file(path: Path, videos: VideoFinder) -> list[AnnotatedVideo]:
    """Returns the video that is called like the file, with its cues; see `read_sub_rip`. Raises `DatasetError`."""
    return _read(path, videos, read_sub_rip)


def write_web_vtt_files(videos: Sequence[AnnotatedVideo], folder: Path) -> list[Path]:
    """Writes ``VIDEO.vtt`` for each video to ``folder``; returns the files."""
    return write_each(videos, folder, ".vtt", lambda video: web_vtt(video.segments))


def write_sub_rip_files(videos: Sequence[AnnotatedVideo], folder: Path) -> list[Path]:
    """Writes ``VIDEO.srt`` for each video to ``folder``; returns the files."""
    return write_each(videos, folder, ".srt", lambda video: sub_rip(video.segments))


def _read(path: Path, videos: VideoFinder, parse: Callable[[str], list[tuple[int, Segment]]]) -> list[AnnotatedVideo]:
    found = SegmentCollector()
    try:
        cues = parse(read_text(path, DatasetError))
    except SubtitleError as error:
        raise DatasetError(f"{path}:{error.line}: {error}: correct the line") from error
    video = videos.find([path.stem], path, str(path))
    found.add_video(video, str(path))
    for line, segment in cues:
        found.add_segment(video, f"{path}:{line}", segment)
    return found.videos()
