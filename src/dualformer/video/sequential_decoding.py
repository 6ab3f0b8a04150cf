"""Decodes a file from its start to its end: the reference for the faster readers.

Imports no torch, so that a process that only checks files starts in a fraction of a second.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av.error
import av.filter
import av.packet
import av.sidedata.sidedata
import av.video.frame
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from numpy.typing import NDArray

from dualformer.video.container import OpenVideo, VideoError, demux, video_errors
from dualformer.video.file_slices import Media
from dualformer.video.hdr import hdr_note, hdr_transfer

ORIENTATION_CHANGES = "some of its frames lie on their side and others do not: convert it to a video of one orientation"


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """The description of a video, as decoded and displayed."""

    path: str
    frames: int
    fps: float
    """Frames a second on average; 0 for an image, and for a single frame that does not say."""
    width: int
    """Pixels, after rotation. Non-square pixels are not stretched."""
    height: int
    duration: float
    """Seconds from the first frame to the end of the last; 0 for an image."""
    codec: str
    pixel_format: str
    rotation: int
    """Degrees counter-clockwise that the stored frames were turned by for display."""
    notes: tuple[str, ...] = ()
    """What is to be said of it: sizes that change, HDR; where all of it was decoded."""


def decode_all(
    path: str | Media, *, seconds_limit: float | None = None, on_error: Callable[[VideoInfo], None] | None = None
) -> VideoInfo:
    """Decodes every frame of a file and describes it: the test of a good file. Before it raises, ``on_error`` is called
    with a description of the frames that decoded, if there were any.

    Raises :class:`VideoError` with the reason: it does not open, a frame does not decode or is flagged corrupt, an MP4
    ends before the frames that it lists, some frames lie on their side and others do not, or more than
    ``seconds_limit`` seconds went by (tested between frames).
    """
    path = Path(path) if isinstance(path, str) else path
    end = math.inf if seconds_limit is None else time.monotonic() + seconds_limit
    pts: list[int | None] = []
    first: av.video.frame.VideoFrame | None = None
    sizes: list[tuple[int, int]] = []
    video = OpenVideo(path, 1)
    try:
        for frame in decode_frames(video):
            first = frame if first is None else first
            if _is_sideways(frame) != _is_sideways(first):
                raise VideoError(path, ORIENTATION_CHANGES)
            pts.append(frame.pts)
            if not sizes or sizes[-1] != (frame.width, frame.height):
                sizes.append((frame.width, frame.height))
            if time.monotonic() > end:
                raise VideoError(path, f"decoding took longer than {seconds_limit:g} s")
    except VideoError:
        if on_error is not None and first is not None:
            on_error(video_info(path, video, first, frame_times(pts, video), notes=_notes(first, sizes)))
        raise
    else:
        assert first is not None  # decode_frames has raised otherwise
        return video_info(path, video, first, frame_times(pts, video), notes=_notes(first, sizes))
    finally:
        video.close()


def _notes(first: av.video.frame.VideoFrame, sizes: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Returns what is to be said of a video, by its first frame and the (width, height) of each run of frames."""
    notes = [hdr_note(transfer)] if (transfer := hdr_transfer(first)) else []
    if len(sizes) > 1:
        (w, h), (other_w, other_h) = sizes[:2]
        times = "once," if len(sizes) == 2 else f"{len(sizes) - 1} times, first"
        notes.append(f"frame size changes {times} from {w}x{h} to {other_w}x{other_h}; frames are scaled to the first")
    return tuple(notes)


def decode_file(path: Media, threads: int | None) -> Generator[av.video.frame.VideoFrame, None, None]:
    video = OpenVideo(path, threads)
    try:
        yield from decode_frames(video)
    finally:
        video.close()


def decode_frames(video: OpenVideo) -> Generator[av.video.frame.VideoFrame, None, None]:
    """Yields every frame of a freshly opened file in display order. Errors name the frame."""
    decoded = packets = 0
    started = False
    waiting: list[av.packet.Packet] = []
    for packet in demux(video):
        packets += 1
        if not started:
            # What precedes the first key frame of a cut stream has nothing to refer to. Streams that flag no key frame
            # at all exist.
            waiting.append(packet)
            if not packet.is_keyframe and len(waiting) < 1000:
                continue
            started = True
            feed = waiting[-1:] if packet.is_keyframe else waiting
            waiting = []
        else:
            feed = [packet]
        for item in feed:
            for frame in _decode(video, item, decoded):
                yield frame
                decoded += 1
    for item in [*waiting, None]:
        for frame in _decode(video, item, decoded):
            yield frame
            decoded += 1
    if decoded == 0:
        raise VideoError(video.path, "no frame of it decodes")
    check_complete(video, packets)


def _decode(video: OpenVideo, packet: av.packet.Packet | None, decoded: int) -> Iterator[av.video.frame.VideoFrame]:
    """Yields the frames that a packet completes, the first of which is number ``decoded``."""
    with video_errors(video.path, f"frame {decoded} does not decode"):
        frames = video.codec.decode(packet)
    for number, frame in enumerate(frames, decoded):
        _refuse_corrupt(video.path, frame, number)
        yield frame


def check_complete(video: OpenVideo, packets: int) -> None:
    """Raises :class:`VideoError` for an MP4 with fewer packets than it lists."""
    if "mp4" in video.container.format.name and packets < (listed := video.stream.frames):
        there = _stored(video.path)  # an edit list may leave out whole groups of pictures
        if there < listed:
            raise VideoError(video.path, f"it ends early: {there} of the {listed} frames that it lists are there")


def _stored(path: Media) -> int:
    """Counts the packets of a file, including those that its edit list hides."""
    video = OpenVideo(path, 1, edits=False)
    try:
        return sum(1 for _ in demux(video))
    finally:
        video.close()


@contextmanager
def first_frame(path: Media) -> Iterator[tuple[OpenVideo, av.video.frame.VideoFrame]]:
    """Opens a file and gives it with the first frame that decodes; closes it at the end."""
    video = OpenVideo(path, 1)
    decoded = decode_frames(video)
    try:
        yield video, next(decoded)
    finally:
        decoded.close()
        video.close()


def first_frame_size(path: Media) -> tuple[int, int]:
    """Returns the stored (height, width) of the first frame that decodes."""
    with first_frame(path) as (_, frame):
        return frame.height, frame.width


def _refuse_corrupt(path: Media, frame: av.video.frame.VideoFrame, index: int) -> None:
    if frame.is_corrupt:
        raise VideoError(path, f"frame {index} is damaged (FFmpeg flags it as corrupt)")


def frame_times(pts: list[int | None], video: OpenVideo) -> NDArray[np.float64]:
    """Returns the seconds of decoded frames: by their own times where those rise, else by the frame rate."""
    known = [p for p in pts if p is not None]
    tick = float(video.stream.time_base or 0)
    if len(known) == len(pts) and tick > 0 and all(a < b for a, b in pairwise(known)):
        return (np.asarray(known, dtype=np.int64) - known[0]).astype(np.float64) * tick
    return np.linspace(0, (len(pts) - 1) / (_rate(video) or 25.0), len(pts))


def _rate(video: OpenVideo) -> float:
    if video.is_image:
        return 0.0
    return float(video.stream.average_rate or video.stream.guessed_rate or 0)


def video_info(
    path: Media,
    video: OpenVideo,
    frame: av.video.frame.VideoFrame,
    times: NDArray[np.float64],
    *,
    notes: tuple[str, ...] = (),
) -> VideoInfo:
    n, last = len(times), float(times[-1])
    fps = (n - 1) / last if n > 1 else _rate(video)
    turns, _ = orientation(frame)
    height, width = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
    return VideoInfo(
        path=str(path),
        frames=n,
        fps=fps,
        width=width,
        height=height,
        duration=last + (1 / fps if fps else 0.0),
        codec=video.codec.name,
        pixel_format=frame.format.name,
        rotation=90 * turns,
        notes=notes,
    )


def orientation(frame: av.video.frame.VideoFrame) -> tuple[int, bool]:
    """Returns (quarter turns counter-clockwise, whether to mirror left to right before them) for display.

    FFmpeg gives the EXIF orientation of photos as the same matrix as that of videos.
    """
    try:
        return orientation_in(side_data(frame))
    except ValueError:
        return orientation_in(side_data(_with_known_side_data(frame)))


def orientation_in(data: SideDataContainer) -> tuple[int, bool]:
    """Returns the `orientation` by a frame's side data."""
    matrix = data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].astype(np.float64)
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(-math.degrees(math.atan2(b, a)) / 90) % 4, mirrored


def _is_sideways(frame: av.video.frame.VideoFrame) -> bool:
    return round(frame.rotation / 90) % 2 == 1


def side_data(frame: av.video.frame.VideoFrame) -> SideDataContainer:
    """Returns a frame's side data. The frame's own attribute would make a reference cycle, which only the garbage
    collector frees: hundreds of large frames would stay in memory.

    Raises ``ValueError`` for kinds that are newer than this PyAV, EXIF among them.
    """
    return SideDataContainer(frame)  # pyright: ignore[reportCallIssue]  # its stub leaves out what it is made of


def _with_known_side_data(frame: av.video.frame.VideoFrame) -> av.video.frame.VideoFrame:
    """Returns the frame without side data of kinds that this PyAV does not know."""
    newest = max(kind.value for kind in av.sidedata.sidedata.Type)
    graph = av.filter.Graph()
    last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    for kind in range(newest + 1, newest + 9):
        deleting = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(deleting)
        last = deleting
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    kept = graph.pull()
    assert isinstance(kept, av.video.frame.VideoFrame)
    return kept
