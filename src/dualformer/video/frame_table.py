"""Lists the packets of a file, and the frames that they promise, without decoding."""

from array import array
from dataclasses import dataclass

import av.packet
import numpy as np
from numpy.typing import NDArray

from dualformer.video.container import OpenVideo, VideoError, demux

NO_TIME = np.iinfo(np.int64).min
"""Stands for a missing time, as inside FFmpeg."""
_PACKET_OVERHEAD = 640  # bytes of a packet besides its content
_HIDDEN_FRAMES = {"vp8"}  # packets that show no frame, with times like any other


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketTable:
    """The P packets of a file in stored order, as arrays: an hour of video has a hundred thousand."""

    pts: NDArray[np.int64]
    """(P,): presentation times in ticks, or `NO_TIME`."""
    dts: NDArray[np.int64]
    """(P,): decoding times."""
    keys: NDArray[np.int64]
    """The indices of key frames."""
    hidden: NDArray[np.bool_]
    """(P,): whether an edit list hides the packet."""
    tick: float
    """Seconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTable:
    """The N frames of a file in display order."""

    pts: NDArray[np.int64]
    """(N,): presentation times in ticks."""
    place: NDArray[np.int64]
    """(N,): the index of each frame's packet."""
    stored: NDArray[np.int64]
    """(P,): presentation times of all packets, hidden ones included."""
    tick: float
    """Seconds."""

    @property
    def times(self) -> NDArray[np.float64]:
        """(N,): seconds from the first frame."""
        return (self.pts - self.pts[0]) * self.tick


def read_packets(video: OpenVideo, *, keep: int) -> tuple[PacketTable, list[av.packet.Packet] | None]:
    """Reads all packets of a freshly opened file; returns them, too, if they take no more than ``keep`` bytes."""
    pts, dts, keys, hidden = array("q"), array("q"), array("q"), array("b")
    kept: list[av.packet.Packet] | None = []
    size = 0
    for packet in demux(video):
        if packet.is_keyframe:
            keys.append(len(pts))
        pts.append(NO_TIME if packet.pts is None else packet.pts)
        dts.append(NO_TIME if packet.dts is None else packet.dts)
        hidden.append(packet.is_discard)
        size += packet.size + _PACKET_OVERHEAD
        if kept is not None and size <= keep:
            kept.append(packet)
        else:
            kept = None
    if not pts:
        raise VideoError(video.path, "its video stream is empty")
    packets = PacketTable(
        pts=np.frombuffer(pts, dtype=np.int64),
        dts=np.frombuffer(dts, dtype=np.int64),
        keys=np.asarray(keys, dtype=np.int64),
        hidden=np.asarray(hidden, dtype=bool),
        tick=float(video.stream.time_base or 0),
    )
    return packets, kept


def build_frame_table(packets: PacketTable, video: OpenVideo) -> FrameTable | None:
    """Returns the frames where the packets' times can be relied on; None where only decoding tells."""
    codec = video.codec
    avi = video.container.format.name == "avi"  # stores no display times: fine unless frames are reordered
    pts = packets.pts
    if NO_TIME in pts or (avi and codec.has_b_frames) or codec.name in _HIDDEN_FRAMES or packets.tick == 0:
        return None
    # Two fields may be two packets of one frame (1: progressive, 0: unknown).
    if codec.field_order > 1:
        return None
    shown = np.flatnonzero(~packets.hidden)
    place = shown[np.argsort(pts[shown], kind="stable")]
    ordered = pts[place]
    # A stream cut in its middle: what comes before its first key frame, in either order, does not decode.
    cut = len(packets.keys) == 0 or packets.keys[0] != 0 or len(ordered) == 0 or pts[0] > ordered[0]
    if cut or np.any(np.diff(ordered) == 0):
        return None
    return FrameTable(pts=ordered, place=place, stored=pts, tick=packets.tick)
