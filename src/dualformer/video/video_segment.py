"""The part of a video between two times, which is read where it lies: a film of hours is not cut to files.

Imports nothing heavy.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from dualformer.remote_paths import RemotePath, as_path
from dualformer.timestamps import parse_time
from dualformer.video.file_slices import Media, is_frame_folder, media_path

_FRAGMENT = re.compile(r"(?P<film>.+)#t=(?P<start>[0-9:.]*),(?P<end>[0-9:.]+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class VideoSegment:
    """The frames of a video that are shown from ``start`` on and before ``end``, in seconds from its first frame.

    Where no frame begins between them, it is the one that is on the screen at ``start``.
    Raises ``ValueError`` for times that are negative or reversed.
    """

    file: Media
    """The video, or the pattern of a folder of frames whose rate is known."""
    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"{self}: a segment does not begin before 0, nor end before it begins")

    @property
    def path(self) -> Path:
        """Its name, after the W3C's media fragments: ``film.mp4#t=1.5,3.2``."""
        video = media_path(self.file)
        if isinstance(video, RemotePath):
            return as_path(f"{video}{self.times}")
        return video.with_name(f"{video.name}{self.times}")

    @property
    def times(self) -> str:
        """``#t=1.5,3.2``."""
        return f"#t={seconds_text(self.start)},{seconds_text(self.end)}"

    def __str__(self) -> str:
        return f"{self.file}{self.times}"


Footage = Media | VideoSegment
"""What a clip is read from: a file, a slice of one, or a part of its time."""


def parse_segment(path: str | Path) -> VideoSegment | None:
    """Returns the segment that ``film.mp4#t=1:05,72.5`` names; None where the end of the text is not like that, where a
    file has this very name, and where there is no such film.

    Raises ``ValueError`` for a segment that ends before it begins.
    """
    found = _FRAGMENT.fullmatch(str(path))
    if found is None:
        return None
    film = as_path(found["film"])
    if not isinstance(film, RemotePath) and (Path(path).exists() or not (film.is_file() or is_frame_folder(film))):
        return None
    try:
        return VideoSegment(file=film, start=parse_time(found["start"] or "0"), end=parse_time(found["end"]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def stem_of(path: Path) -> str:
    """Returns a video's name without folder and extension; of a segment that ``path`` names with its times."""
    segment = parse_segment(path)
    return f"{media_path(segment.file).stem}{segment.times}" if segment else path.stem


def seconds_text(seconds: float) -> str:
    """Returns seconds with at most six decimals, and without zeros that say nothing."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
