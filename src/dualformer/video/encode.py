"""Writes frames as H.264 in MP4, and an image as PNG."""

import platform
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dualformer.files import partial_file
from dualformer.video.container import VideoError, foreign_reason
from dualformer.video.frame_converter import ONE_THREAD

# x264's AVX-512 code decides differently from one call to the next on the same frames. With SSE2, which every x86-64
# has, it gives the bits of the plain C code, and in as little time as with AVX-512.
_REPEATABLE = {"x264-params": "asm=sse2"} if platform.machine() in ("x86_64", "AMD64") else {}


def write_video(
    path: str | Path, frames: NDArray[np.uint8] | Iterable[NDArray[np.uint8]], *, fps: float, crf: int = 20
) -> None:
    """Writes uint8 RGB frames, an array (T, H, W, 3) or any iterable of (H, W, 3), as H.264 (yuv420p) with even sides.

    ``crf``: 0 (lossless) to 51. The same frames give the same file. It appears whole or not at all, and is not
    synced to disk: data sets have thousands.
    Raises ``ValueError`` for frames of odd or changing size, other types or none at all; :class:`VideoError` if writing
    fails.
    """
    path = Path(path)
    if not fps > 0:
        raise ValueError(f"fps must be positive, not {fps}")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must be within 0..51, not {crf}")
    if path.suffix.lower() not in (".mp4", ".mkv", ".mov"):
        raise ValueError(f"write_video writes .mp4, .mkv or .mov, not {path.name}")
    try:
        with partial_file(path) as partial:
            _encode(partial, frames, Fraction(fps).limit_denominator(100_000), crf)
    except av.error.FFmpegError as error:
        raise VideoError(path, f"it cannot be written ({foreign_reason(error)})") from error


def write_image(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Writes a uint8 RGB picture (H, W, 3) as PNG, without loss. It appears whole or not at all.

    Raises ``ValueError`` for another shape, type or extension.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"write_image writes .png, not {path.name}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(f"a picture must be uint8 (H, W, 3), not {picture.dtype} {picture.shape}")
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "rgb24", Fraction(1), 1
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    with partial_file(path) as partial:
        partial.write_bytes(b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None))))


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]], fps: Fraction, crf: int) -> None:
    with av.open(f"file:{path}", mode="w") as container:
        stream = None
        # The encoder would convert frames by itself, but with threads, and then the same frames give different files.
        reformatter = VideoReformatter()
        shape: tuple[int, ...] = ()
        for picture in frames:
            picture = np.asarray(picture)
            if stream is None:
                shape = picture.shape
                if picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
                    raise ValueError(f"frames must be uint8 (H, W, 3), not {picture.dtype} {shape}")
                if shape[0] % 2 or shape[1] % 2:
                    raise ValueError(f"H.264 needs even sides, not {shape[0]}x{shape[1]}")
                options = {"crf": str(crf), "preset": "veryfast", **_REPEATABLE}
                stream = container.add_stream("libx264", rate=fps, options=options)
                stream.width, stream.height, stream.pix_fmt = shape[1], shape[0], "yuv420p"
                stream.codec_context.thread_count = 1
            elif picture.shape != shape or picture.dtype != np.uint8:
                raise ValueError(f"frames change from {shape} to {picture.dtype} {picture.shape}")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(reformatter.reformat(frame, format="yuv420p", **ONE_THREAD)))
        if stream is None:
            raise ValueError("no frames to write")
        container.mux(stream.encode())
