"""One long recording and the segments that are marked in it: what every format of segments is read into."""

from dataclasses import dataclass
from pathlib import Path

from dualformer.segment import Segment


@dataclass(frozen=True, kw_only=True)
class AnnotatedVideo:
    """A recording with its segments, in the order of the file that lists them."""

    path: Path
    segments: tuple[Segment, ...]
    lines: tuple[str, ...]
    """Where each segment is listed, for messages: ``FILE:LINE``, or another place in a file of one line."""
    seconds: float | None = None
    """The length of the recording, where the file says it."""
    fps: float | None = None
    """Frames a second, where the file says it."""
    split: str = ""
    """The part of the data set, where the file says it."""

    def __post_init__(self) -> None:
        if len(self.lines) != len(self.segments):
            raise ValueError(f"{self.path}: {len(self.lines)} lines for {len(self.segments)} segments")
