"""Keeps the list of packets of long files: to read a clip of a film of hours takes no longer than one of a short file.

To list a file's packets, all of it is read. Lists of large files stay in memory, those of long ones also in a folder of
the user's cache (`index_folder`), where other processes and later runs find them; a file that has changed, by its size
or time, is listed anew.
"""

import hashlib
import logging
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import av.packet
import numpy as np

from dualformer.errors import DualFormerError
from dualformer.files import atomic_write
from dualformer.user_cache import user_cache
from dualformer.video.container import OpenVideo
from dualformer.video.file_slices import FileSlice, LocalFileSlice
from dualformer.video.frame_table import FrameTable, PacketTable, build_frame_table, read_packets
from dualformer.video.remote_video import list_by_header

_LONG = 20_000
"""Packets from which on a list is written to the folder: a quarter of an hour."""
_MOST = 16
"""Lists in memory: of a film of two hours it takes six megabytes."""
_VERSION = 1

_log = logging.getLogger("dualformer")
_tables: "OrderedDict[tuple[str, int, int], tuple[PacketTable, FrameTable | None]]" = OrderedDict()


class ListedFrames(NamedTuple):
    """What a file's packets say about its frames."""

    packets: PacketTable
    frames: FrameTable | None
    """None where only decoding tells."""
    kept: list[av.packet.Packet] | None
    """The packets themselves, of a file that was read just now and is small."""


def list_frames(video: OpenVideo, *, keep: int) -> ListedFrames:
    """Returns the frames of a freshly opened file, and its packets if they take no more than ``keep`` bytes.

    Of a large file that was listed before, nothing is read.
    """
    key = _key(video)
    if key in _tables:
        _tables.move_to_end(key)
        return ListedFrames(*_tables[key], None)
    packets = _load(_file(key)) if key else None
    kept = None
    if packets is None and (packets := list_by_header(video)) is None:
        packets, kept = read_packets(video, keep=keep)
        if key and kept is None and len(packets.pts) >= _LONG:
            _save(packets, _file(key))
    frames = build_frame_table(packets, video)
    # With ``keep`` 0 nothing is kept of small files either: only long ones are worth the memory.
    if key and kept is None and (keep or len(packets.pts) >= _LONG):
        _tables[key] = (packets, frames)
        if len(_tables) > _MOST:
            _tables.popitem(last=False)
    return ListedFrames(packets, frames, kept)


def index_folder() -> Path | None:
    """Returns the folder of lists, ``packets`` in `user_cache`; None where there is none."""
    folder = user_cache()
    return folder / "packets" if folder else None


def _key(video: OpenVideo) -> tuple[str, int, int] | None:
    """Returns what tells a file from others, and from itself before it was changed; None where nothing is kept."""
    if video.limits is not None or video.is_image:
        return None
    path, part = video.path, ""
    if isinstance(path, FileSlice) and path.content_key:
        return path.content_key, path.size, 0
    if isinstance(path, LocalFileSlice):
        path, part = path.file, f"@{path.offset}+{path.size}"
    if not isinstance(path, Path):
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return f"{path.absolute()}{part}", found.st_size, found.st_mtime_ns


def _file(key: tuple[str, int, int]) -> Path | None:
    folder = index_folder()
    digest = hashlib.sha256(f"{_VERSION} {key}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return folder / f"{digest}.npz" if folder else None


def _load(file: Path | None) -> PacketTable | None:
    if file is None or not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return PacketTable(
                pts=arrays["pts"],
                dts=arrays["dts"],
                keys=arrays["keys"],
                hidden=arrays["hidden"],
                tick=float(arrays["tick"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.debug("%s: no list of packets (%s), made anew", file, error)
        return None


def _save(packets: PacketTable, file: Path | None) -> None:
    if file is None:
        return

    def write(temporary: Path) -> None:
        with temporary.open("wb") as out:
            np.savez(out, pts=packets.pts, dts=packets.dts, keys=packets.keys, hidden=packets.hidden, tick=packets.tick)

    try:
        atomic_write(file, write)
    except DualFormerError as error:  # the next process lists the packets once more
        _log.debug("%s", error)
