"""Videos that the tests encode themselves, and the naive reference that readers are held against."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.packet
import numpy as np
from numpy.typing import NDArray

Encode = Callable[..., Path]


def picture(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """A frame that no other index shares: a gradient that moves, and a square whose brightness tells the index."""
    y, x = np.mgrid[:height, :width]
    out = np.stack([(x * 3 + index * 7) % 256, (y * 2 + index * 3) % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    side = min(height, width) // 2
    out[:side, :side] = (index * 37) % 256
    return out


def encoder(folder: Path) -> Encode:
    """A function that writes numbered frames into a file of ``folder`` with PyAV and returns its path."""

    def write(
        name: str,
        frames: int = 60,
        *,
        height: int = 48,
        width: int = 64,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        options: dict[str, str] | None = None,
        times: list[int] | None = None,
        turn: tuple[int, bool, bool] | None = None,
        **context: Any,
    ) -> Path:
        path = folder / name
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=Fraction(25), options=options or {})
            stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
            # With threads, the same frames do not give the same file each time.
            stream.codec_context.thread_count = 1
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            for key, value in context.items():
                setattr(stream.codec_context, key, value)
            if turn is not None:
                stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(i, height, width), format="rgb24")
                if times is not None:
                    frame.pts, frame.time_base = times[i], Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


def remux(source: Path, target: Path, change: Callable[[av.packet.Packet], None], **options: str) -> Path:
    """The packets of a file in another container, each after ``change``; ``options`` are the container's."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                change(packet)
                packet.stream = stream
                new.mux(packet)
    return target


def naive(path: Path, *, upright: bool = True) -> NDArray[np.uint8]:
    """Every frame (n, H, W, 3) by the plainest means there are: PyAV from start to end, turned upright or as stored.

    Where the size changes, frames are scaled to that of the first.
    """
    out = []
    with av.open(str(path), metadata_errors="replace") as container:
        first = None
        for frame in container.decode(video=0):
            first = first or frame
            rgb = frame.to_ndarray(format="rgb24", width=first.width, height=first.height)
            out.append(np.rot90(rgb, frame.rotation // 90 if upright else 0))
    return np.stack(out)
