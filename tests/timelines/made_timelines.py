"""Films of colours whose segments are known."""

from pathlib import Path

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.segment import Segment
from dualformer.video.encode import write_video
from made_films import coloured


def made_video(
    path: Path, phases: list[tuple[str, int]], *, background: str = "black", fps: int = 25
) -> AnnotatedVideo:
    """Writes frames of one colour each, and returns the video with a segment for each colour but ``background``."""
    write_video(path, coloured(phases), fps=fps, crf=0)
    segments, start = [], 0
    for name, frames in phases:
        if name != background:
            segments.append(Segment(label=name, start=start / fps, end=(start + frames) / fps))
        start += frames
    lines = tuple(f"made:{number}" for number in range(2, len(segments) + 2))
    return AnnotatedVideo(path=path, segments=tuple(segments), lines=lines)
