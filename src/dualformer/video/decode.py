"""Frames of a video file, by number and in order.

What a file says about itself is not believed: frame counts and rates in headers lie. The frames of a file are those
that decode, in display order. Where every packet carries a good time (MP4, Matroska, MPEG-TS, …) the sorted table of
packet times is that list, and a frame is reached from the key frame before it; every decoded frame is held against the
table. Where times are missing or unreliable (AVI with reordered frames, streams cut in their middle), and wherever a
frame does not match the table, the file is decoded from its start and its frames are counted.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType

import av.error
import av.packet
import av.video.frame
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.video.container import FrameCountError, OpenVideo, VideoError, ffmpeg_says, packets_of
from dualformer.video.file_pieces import Media
from dualformer.video.frame_reader_base import as_asked, checked_numbers, stacked
from dualformer.video.packets import NO_TIME, Table, scan, tabulate
from dualformer.video.pixels import Pictures
from dualformer.video.sequential import VideoInfo, counted_times, decode_all, decode_in_order, describe, first_size

__all__ = ["FrameCountError", "VideoError", "VideoInfo", "VideoReader", "decode_all"]

_log = logging.getLogger("dualformer")

_KEEP_COMPRESSED = 16 * 2**20  # bytes of packets kept in memory, so that reading a short file demuxes it once
_KEEP_DECODED = 128 * 2**20  # bytes of decoded frames kept where counting them meant decoding them
_SKIPPING_IS_EXACT = {"h264", "hevc", "mpeg4", "mpeg2video"}  # decoders that leave out non-reference frames on request
_JUMP_FROM = 8  # packets; nearer key frames are not worth emptying the decoder for


class _Mismatch(Exception):
    """A decoded frame is not the one that the packet table promises."""


class VideoReader:
    """Random and sequential access to the frames of one file. A context manager: it always closes its container.

    ``threads``: decoding threads. None: 1 inside a loader worker and for small frames, else as many as there are cores.
    Not thread-safe, and not to be shared over a fork: open it where it is used.
    Raises ``FileNotFoundError``, and :class:`VideoError` for what is no decodable video.
    """

    def __init__(self, path: str | Media, *, threads: int | None = None) -> None:
        self._path = Path(path) if isinstance(path, str) else path
        self._threads = threads
        self._info: VideoInfo | None = None
        self._decoded: list[av.video.frame.VideoFrame] | None = None
        self._video = OpenVideo(self._path, threads)
        # Nothing in it leads back here: what a cycle holds outlives its use, and a loader's memory grows.
        self._pictures = Pictures(self._path, self._video.declared_size, partial(first_size, self._path))
        try:
            self._listed, self._packets = scan(self._video, keep=_KEEP_COMPRESSED)
            self._table = tabulate(self._listed, self._video)
            if self._table is None:
                self._count()
            else:
                self.times: NDArray[np.float64] = self._table.times
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._packets = self._decoded = None
        self._video.close()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def info(self) -> VideoInfo:
        """Decodes the first frame, the first time it is asked for."""
        if self._info is None:
            frame = next((f for _, f in self._matching([0])), None)
            if frame is None:
                raise VideoError(self._path, "no frame of it decodes")
            self._info = describe(self._path, self._video, frame, self.times)
        return self._info

    def read(self, indices: ArrayLike) -> Tensor:
        """Frames by number as uint8 RGB (n, H, W, 3), in any order, with repeats; one pass over the file.

        Raises ``ValueError`` for a number outside the video, :class:`VideoError` where a frame does not decode.
        """
        wanted = checked_numbers(indices, len(self), self._path)
        unique = np.unique(wanted)
        try:
            out = stacked(self.frames(unique), len(unique))
        except FrameCountError:
            if len(unique) and unique[-1] >= len(self):
                raise
            out = stacked(self.frames(unique), len(unique))
        if out is None:
            return torch.empty((0, self.info.height, self.info.width, 3), dtype=torch.uint8)
        return as_asked(out, unique, wanted)

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        """The same one by one: (number, uint8 (H, W, 3)), each once, in display order, holding one frame at a time.

        Raises :class:`FrameCountError` where the file turns out to hold another number of frames than its packets
        promised; from then on the reader knows the right number: choose frames anew.
        """
        wanted = np.unique(checked_numbers(indices, len(self), self._path))
        for index, frame in self._matching(wanted.tolist()):
            yield index, self._pictures(frame)

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        """Every frame in display order as (seconds from the first, uint8 (H, W, 3)), in constant memory.

        Opens the file once more for itself, so that reading by number in between disturbs nothing.
        """
        if self._decoded is not None:
            for seconds, frame in zip(self.times.tolist(), self._decoded, strict=True):
                yield seconds, self._pictures(frame)
            return
        for i, frame in enumerate(decode_in_order(self._path, self._threads)):
            if self._table is not None and frame.pts is not None:
                seconds = float(frame.pts - self._table.pts[0]) * self._table.tick
            else:
                seconds = float(self.times[min(i, len(self.times) - 1)])
            yield seconds, self._pictures(frame)

    def _count(self) -> None:
        """The list of frames by decoding all of them; the decoded frames are kept while they fit."""
        decoded: list[av.video.frame.VideoFrame] | None = []
        pts: list[int | None] = []
        room = _KEEP_DECODED
        for frame in decode_in_order(self._path, self._threads):
            pts.append(frame.pts)
            room -= sum(plane.buffer_size for plane in frame.planes)
            if decoded is not None and room >= 0:
                decoded.append(frame)
            else:
                decoded = None
        self._table, self._decoded, self._packets = None, decoded, None
        self.times = counted_times(pts, self._video)
        self._info = None

    def _matching(self, wanted: list[int]) -> Iterator[tuple[int, av.video.frame.VideoFrame]]:
        """Decoded frames of sorted, distinct numbers; from the table, or by counting where the table proves wrong."""
        done = 0
        if self._table is not None:
            try:
                for found in self._by_table(self._table, wanted):
                    yield found
                    done += 1
                return
            except _Mismatch as mismatch:
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
        for index, frame in enumerate(decode_in_order(self._path, self._threads)):
            if target is None:
                return
            if index == target:
                yield index, frame
                target = next(rest, None)

    def _by_table(self, table: Table, wanted: list[int]) -> Iterator[tuple[int, av.video.frame.VideoFrame]]:
        for start, group in self._groups(table, wanted):
            targets = iter(group)
            target = next(targets)
            last = -1
            for frame in self._decode_from(start, {int(table.pts[i]) for i in group}):
                rank = int(np.searchsorted(table.pts, frame.pts)) if frame.pts is not None else len(table.pts)
                if rank == len(table.pts) or table.pts[rank] != frame.pts or rank <= last or frame.is_corrupt:
                    raise _Mismatch(f"a decoded frame at {frame.pts} is not the one expected after frame {last}")
                last = rank
                if rank > target:
                    raise _Mismatch(f"frame {target} does not decode where the packets promise it")
                if rank == target:
                    yield rank, frame
                    following = next(targets, None)
                    if following is None:
                        break
                    target = following
            else:
                raise _Mismatch(f"frame {target} does not decode though the packets promise it")

    def _groups(self, table: Table, wanted: list[int]) -> list[tuple[int, list[int]]]:
        """Runs of frames that one stretch of decoding serves: (packet of the key frame to start at, frame numbers)."""
        keys = self._listed.keys
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
        """Frames in display order from the key frame at packet ``start``, leaving out what nobody wants or needs."""
        codec = self._video.codec
        codec.flush_buffers()
        skipping = codec.name in _SKIPPING_IS_EXACT
        skip_now = False
        try:
            for packet in self._packets_from(start):
                if skipping and (packet.pts not in wanted_pts) != skip_now:
                    skip_now = not skip_now
                    codec.skip_frame = "NONREF" if skip_now else "DEFAULT"
                yield from codec.decode(packet)
            yield from codec.decode(None)
        except av.error.FFmpegError as error:
            raise _Mismatch(f"decoding from packet {start} fails ({ffmpeg_says(error)})") from error
        finally:
            if skip_now:
                codec.skip_frame = "DEFAULT"

    def _packets_from(self, start: int) -> Iterator[av.packet.Packet]:
        if self._packets is not None:
            yield from self._packets[start:]
            return
        # Where a seek lands is the container's guess: the packet's own time says where we are. MPEG-TS is searched by
        # the times of decoding: by that of display it lands behind the key frame.
        pts, dts = self._listed.pts, self._listed.dts
        targets = dict.fromkeys(map(int, (pts[start], dts[start], pts[0], dts[0])))
        for target in (time for time in targets if time != NO_TIME):
            self._video.container.seek(target, stream=self._video.stream, backward=True)
            place = -1
            for packet in packets_of(self._video):
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
        raise _Mismatch(f"seeking to packet {start} does not reach it")
