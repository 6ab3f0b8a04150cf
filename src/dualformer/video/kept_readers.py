"""Keeps the readers of long videos open: to list the frames of an hour takes far longer than to read a clip of it."""

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from dualformer.video.container import FrameCountError
from dualformer.video.file_slices import Media
from dualformer.video.frame_reader import FrameReader
from dualformer.video.open_video import open_video
from dualformer.video.segment_reader import SegmentReader
from dualformer.video.video_segment import Footage, VideoSegment

_ROOM = 512 * 2**20
"""Bytes of packets and frames that open readers may hold together."""
_Read = TypeVar("_Read")


class _Kept(NamedTuple):
    reader: FrameReader
    bytes: int


class KeptReaders:
    """Reads videos by readers of which those used last stay open, ``most`` of them in each process.

    All segments of a video are read by one reader. A file that turned out to hold other frames than it promised is
    opened anew each time: what is read of it does not depend on what was read before. Copies, and forks of the process,
    begin with none.
    """

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._process = os.getpid()
        self._readers: OrderedDict[tuple[Media, float | None, bool], _Kept] = OrderedDict()

    def read(
        self, path: Footage, read: Callable[[FrameReader], _Read], *, fps: float | None = None, clock: bool = False
    ) -> _Read:
        """Returns what ``read`` makes of the reader, which it calls once more where the file's frames were counted
        meanwhile. ``fps`` and ``clock`` are those of `open_video`, and so are the errors."""
        if self._process != os.getpid():
            self._process, self._readers = os.getpid(), OrderedDict()
        if isinstance(path, VideoSegment):
            part, film, clock = path, path.file, True
        else:
            part, film = None, path
        key = (film, fps, clock)
        kept = self._readers.pop(key, None)
        if kept is None:
            opened = open_video(film, fps=fps, clock=clock)
            kept = _Kept(opened, opened.kept_bytes)
        reader = kept.reader
        try:
            try:
                found = read(SegmentReader(part, reader) if part else reader)
            except FrameCountError:
                found = read(SegmentReader(part, reader) if part else reader)
        except BaseException:
            reader.close()
            raise
        if reader.recounted:
            reader.close()
            return found
        self._readers[key] = kept
        while len(self._readers) > self._most or sum(each.bytes for each in self._readers.values()) > _ROOM:
            self._readers.popitem(last=False)[1].reader.close()
        return found

    def close(self) -> None:
        """Closes all readers."""
        while self._readers:
            self._readers.popitem()[1].reader.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_most": self._most, "_process": -1, "_readers": OrderedDict()}
