"""Keeps the readers of long videos open: to list the frames of an hour takes far longer than to read a clip of it."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dualformer.video.container import FrameCountError
from dualformer.video.frame_reader import FrameReader
from dualformer.video.open_video import open_video

_Read = TypeVar("_Read")


class KeptReaders:
    """Reads videos by readers of which those used last stay open, ``most`` of them in each process.

    A file that turned out to hold other frames than it promised is opened anew each time: what is read of it does not
    depend on what was read before. Copies, and forks of the process, begin with none.
    """

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._process = os.getpid()
        self._readers: OrderedDict[tuple[Path, float | None, bool], FrameReader] = OrderedDict()

    def read(
        self, path: Path, read: Callable[[FrameReader], _Read], *, fps: float | None = None, clock: bool = False
    ) -> _Read:
        """Returns what ``read`` makes of the reader, which it calls once more where the file's frames were counted
        meanwhile. ``fps`` and ``clock`` are those of `open_video`, and so are the errors."""
        if self._process != os.getpid():
            self._process, self._readers = os.getpid(), OrderedDict()
        key = (path, fps, clock)
        reader = self._readers.pop(key, None) or open_video(path, fps=fps, clock=clock)
        try:
            try:
                found = read(reader)
            except FrameCountError:
                found = read(reader)
        except BaseException:
            reader.close()
            raise
        if reader.recounted:
            reader.close()
            return found
        self._readers[key] = reader
        while len(self._readers) > self._most:
            self._readers.popitem(last=False)[1].close()
        return found

    def close(self) -> None:
        """Closes all readers."""
        while self._readers:
            self._readers.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_most": self._most, "_process": -1, "_readers": OrderedDict()}
