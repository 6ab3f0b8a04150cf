"""Reads the frames of a video file by number and in order with PyAV.

What a file says about itself is not believed: frame counts and rates in headers lie. The frames of a file are those
that decode, in display order. Where every packet carries a good time (MP4, Matroska, MPEG-TS, …) the sorted table of
packet times is that list, and a frame is reached from the key frame before it; every decoded frame is held against the
table. Where times are missing or unreliable (AVI with reordered frames, streams cut in their middle), and wherever a
frame does not match the table, the file is decoded from its start and its frames are counted.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import av.packet
import av.video.frame
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.video.container import FrameCountError, OpenVideo, UnreachableError, VideoError, demux, video_errors
from dualformer.video.file_slices import Media
from dualformer.video.frame_converter import FrameConverter
from dualformer.video.frame_reader import FrameReader
from dualformer.video.frame_table import NO_TIME, FrameTable
from dualformer.video.packet_index import list_frames
from dualformer.video.sequential_decoding import VideoInfo, decode_file, first_frame_size, frame_times, video_info

_log = logging.getLogger("dualformer")

_KEEP_COMPRESSED = 16 * 2**20  # bytes of packets kept in memory, so that reading a short file demuxes it once
_KEEP_DECODED = 128 * 2**20  # bytes of decoded frames kept where counting them meant decoding them
_SKIPPING_IS_EXACT = {"h264", "hevc", "mpeg4", "mpeg2video"}  # decoders that leave out non-reference frames on request
_JUMP_FROM = 8  # packets; nearer key frames are not worth emptying the decoder for


class _TableMismatch(Exception):
    """A decoded frame is not the one that the packet table promises."""


class PyAVReader(FrameReader):
    """Gives the frames of one file, in any order or from first to last.

    ``threads``: decoding threads. None: 1 inside a loader worker and for small frames, else as many as there are cores.
    Not thread-safe, and not to be shared over a fork: open it where it is used.
    Raises ``FileNotFoundError``, and :class:`VideoError` for what is no decodable video.
    """

    def __init__(self, path: str | Media, *, threads: int | None = None) -> None:
        super().__init__(path)
        self._threads = threads
        self._decoded: list[av.video.frame.VideoFrame] | None = None
        self._video = OpenVideo(self._path, threads)
        # Nothing in it leads back here: what a cycle holds outlives its use, and a loader's memory grows.
        self._convert = FrameConverter(self._path, self._video.declared_size, partial(first_frame_size, self._path))
        try:
            self._packet_table, self._table, self._kept_packets = list_frames(self._video, keep=_KEEP_COMPRESSED)
            self._promised = self._table is not None
            if self._table is None:
                self._count()
            else:
                self.times: NDArray[np.float64] = self._table.times
        except BaseException:
            self.close()
            raise

    @property
    def recounted(self) -> bool:
        return self._promised and self._table is None

    @property
    def divisible(self) -> bool:
        video = self._video
        is_cut = "mp4" in video.container.format.name and len(self._packet_table.pts) < video.stream.frames
        return self._table is not None and not is_cut

    @property
    def notes(self) -> tuple[str, ...]:
        return self._convert.notes

    @property
    def kept_bytes(self) -> int:
        packets = sum(packet.size for packet in self._kept_packets or ())
        return packets + sum(plane.buffer_size for frame in self._decoded or () for plane in frame.planes)

    def close(self) -> None:
        self._kept_packets = self._decoded = None
        self._video.close()

    def _stack_frames(self, unique: NDArray[np.int64]) -> Tensor:
        try:
            return super()._stack_frames(unique)
        except FrameCountError:
            if len(unique) and unique[-1] >= len(self):
                raise
            return super()._stack_frames(unique)

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        """As `FrameReader.frames`.

        Raises :class:`FrameCountError` where the file turns out to hold another number of frames than its packets
        promised; from then on the reader knows the right number: choose frames anew.
        """
        for index, convert in self.lazy_frames(indices):
            yield index, convert()

    def lazy_frames(self, indices: ArrayLike) -> Iterator[tuple[int, Callable[[], Tensor]]]:
        wanted = np.unique(self._check_numbers(indices))
        for index, frame in self._decode(wanted.tolist()):
            yield index, partial(self._convert, frame)

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        """As `FrameReader.__iter__`.

        Opens the file once more for itself, so that reading by number in between disturbs nothing.
        """
        if self._decoded is not None:
            for seconds, frame in zip(self.times.tolist(), self._decoded, strict=True):
                yield seconds, self._convert(frame)
            return
        for i, frame in enumerate(decode_file(self._path, self._threads)):
            if self._table is not None and frame.pts is not None:
                seconds = float(frame.pts - self._table.pts[0]) * self._table.tick
            else:
                seconds = float(self.times[min(i, len(self.times) - 1)])
            yield seconds, self._convert(frame)

    def _describe(self) -> VideoInfo:
        frame = next((f for _, f in self._decode([0])), None)
        if frame is None:
            raise VideoError(self._path, "no frame of it decodes")
        return video_info(self._path, self._video, frame, self.times)

    def _count(self) -> None:
        """Lists the frames by decoding all of them, and keeps the decoded frames while they fit into memory."""
        decoded: list[av.video.frame.VideoFrame] | None = []
        pts: list[int | None] = []
        room = _KEEP_DECODED
        for frame in decode_file(self._path, self._threads):
            pts.append(frame.pts)
            room -= sum(plane.buffer_size for plane in frame.planes)
            if decoded is not None and room >= 0:
                decoded.append(frame)
            else:
                decoded = None
        self._table, self._decoded, self._kept_packets = None, decoded, None
        self.times = frame_times(pts, self._video)
        self._info = None

    def _decode(self, wanted: list[int]) -> Iterator[tuple[int, av.video.frame.VideoFrame]]:
        """Yields decoded frames of sorted, distinct numbers: by the table, or by counting where the table is wrong."""
        done = 0
        if self._table is not None:
            try:
                for found in self._by_table(self._table, wanted):
                    yield found
                    done += 1
                return
            except _TableMismatch as mismatch:
                _log.debug("%s: %s; counting its frames instead", self._path, mismatch)
                before = len(self)
                self._count()
                if len(self) != before:
                    reason = f"its packets promise {before} frames, but {len(self)} decode"
                    raise FrameCountError(self._path, reason) from mismatch
        yield from self._by_count(wanted[done:])

    def _by_count(self, wanted: list[int]) -> Iterator[tuple[int, av.video.frame.VideoFrame]]:
        if self._decoded is not None:
            for index in wanted:
                yield index, self._decoded[index]
            return
        rest = iter(wanted)
        target = next(rest, None)
        for index, frame in enumerate(decode_file(self._path, self._threads)):
            if target is None:
                return
            if index == target:
                yield index, frame
                target = next(rest, None)

    def _by_table(self, table: FrameTable, wanted: list[int]) -> Iterator[tuple[int, av.video.frame.VideoFrame]]:
        for start, group in self._groups(table, wanted):
            targets = iter(group)
            target = next(targets)
            last = -1
            for frame in self._decode_from(start, {int(table.pts[i]) for i in group}):
                rank = int(np.searchsorted(table.pts, frame.pts)) if frame.pts is not None else len(table.pts)
                if rank == len(table.pts) or table.pts[rank] != frame.pts or rank <= last or frame.is_corrupt:
                    raise _TableMismatch(f"a decoded frame at {frame.pts} is not the one expected after frame {last}")
                last = rank
                if rank > target:
                    raise _TableMismatch(f"frame {target} does not decode where the packets promise it")
                if rank == target:
                    yield rank, frame
                    following = next(targets, None)
                    if following is None:
                        break
                    target = following
            else:
                raise _TableMismatch(f"frame {target} does not decode though the packets promise it")

    def _groups(self, table: FrameTable, wanted: list[int]) -> list[tuple[int, list[int]]]:
        """Groups frames that are decoded in one go: (packet of the key frame to start at, frame numbers)."""
        keys = self._packet_table.keys
        groups: list[tuple[int, list[int]]] = []
        reach = -1
        for rank in wanted:
            place = int(table.place[rank])
            # The last key frame that is stored and shown no later. Frames stored behind a key frame but shown before it
            # may refer to what came earlier (open GOP).
            k = int(np.searchsorted(keys, place, side="right")) - 1
            while k > 0 and table.stored[keys[k]] > table.pts[rank]:
                k -= 1
            start = int(keys[k])
            if groups and start < reach + _JUMP_FROM:
                groups[-1][1].append(rank)
            else:
                groups.append((start, [rank]))
            reach = max(reach, place)
        return groups

    def _decode_from(self, start: int, wanted_pts: set[int]) -> Iterator[av.video.frame.VideoFrame]:
        """Yields frames in display order from the key frame at packet ``start``, but those that nothing needs."""
        codec = self._video.codec
        codec.flush_buffers()
        skipping = codec.name in _SKIPPING_IS_EXACT
        skip_now = False
        try:
            for packet in self._packets_from(start):
                if skipping and (packet.pts not in wanted_pts) != skip_now:
                    skip_now = not skip_now
                    codec.skip_frame = "NONREF" if skip_now else "DEFAULT"
                yield from self._decode_packet(packet, start)
            yield from self._decode_packet(None, start)
        finally:
            if skip_now:
                codec.skip_frame = "DEFAULT"

    def _decode_packet(self, packet: av.packet.Packet | None, start: int) -> list[av.video.frame.VideoFrame]:
        try:
            with video_errors(self._path, f"decoding from packet {start} fails"):
                return self._video.codec.decode(packet)
        except VideoError as error:
            raise _TableMismatch(error.reason) from error

    def _packets_from(self, start: int) -> Iterator[av.packet.Packet]:
        if self._kept_packets is not None:
            yield from self._kept_packets[start:]
            return
        # Where a seek lands is the container's guess: the packet's own time says where we are. MPEG-TS is searched by
        # the times of decoding: by that of display it lands behind the key frame.
        pts, dts = self._packet_table.pts, self._packet_table.dts
        targets = dict.fromkeys(map(int, (pts[start], dts[start], pts[0], dts[0])))
        for target in (time for time in targets if time != NO_TIME):
            try:
                with video_errors(self._path, f"seeking to packet {start} fails"):
                    self._video.container.seek(target, stream=self._video.stream, backward=True)
            except UnreachableError:
                raise
            except VideoError as error:
                raise _TableMismatch(error.reason) from error
            place = -1
            for packet in demux(self._video):
                if place < 0:
                    found = [] if packet.pts is None else np.flatnonzero(pts == packet.pts).tolist()
                    if not found or found[-1] > start:
                        break
                    place = found[-1]
                if place >= start:
                    yield packet
                place += 1
            else:
                return
        raise _TableMismatch(f"seeking to packet {start} does not reach it")
