"""The labelled stretch of a video: what people mark, files of segments hold, and timelines find."""

from dataclasses import dataclass

BACKGROUND = "background"
"""The class of moments in which nothing is marked, of networks that answer at every moment."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a video with one label."""

    label: str
    start: float
    """Seconds from the first frame."""
    end: float
    """As large as ``start`` where a moment is marked."""
    probability: float = 1.0
    """Of the label, on average over the segment; 1 for what people marked."""
