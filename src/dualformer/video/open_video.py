"""Opens whatever holds frames: a video or a part of one, an image, or a folder of numbered images."""

from dualformer.remote_paths import RemotePath
from dualformer.video.backend import Backend, chosen_backend
from dualformer.video.container import VideoError
from dualformer.video.file_formats import is_image
from dualformer.video.file_slices import is_frame_folder, media_path
from dualformer.video.frame_reader import FrameFolderReader, FrameReader
from dualformer.video.memory_frames import MemoryFrames, MemoryFramesReader
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.segment_reader import SegmentReader
from dualformer.video.torchcodec_reader import TorchcodecReader
from dualformer.video.video_segment import Footage, VideoSegment
from dualformer.video.video_source import resolve_source


def open_video(
    path: str | Footage | MemoryFrames,
    *,
    threads: int | None = None,
    fps: float | None = None,
    clock: bool = False,
    backend: Backend | None = None,
) -> FrameReader:
    """Returns a reader of a video or image file, of a `VideoSegment`, of a folder of frames where ``path`` is a
    pattern, or of what `resolve_source` made of another source. Text is a path, a URL, or ``-`` for standard input.

    ``fps``: the rate of a folder of frames. ``clock``: times in seconds are needed; :class:`VideoError` where a folder
    of frames has no rate, ``ValueError`` where frames in memory have none. ``backend``: what decodes videos (None: what
    ``DUALFORMER_DECODER`` says); PyAV reads all images.
    """
    backend = backend or chosen_backend()
    path = resolve_source(path) if isinstance(path, (str, RemotePath)) else path
    if isinstance(path, VideoSegment):
        return SegmentReader(path, open_video(path.file, threads=threads, fps=fps, clock=True, backend=backend))
    if isinstance(path, MemoryFrames):
        if clock and path.fps is None:
            raise ValueError("the weights resample in time: say with fps= how many frames a second these are")
        return MemoryFramesReader(path)
    if is_frame_folder(path):
        if clock and fps is None:
            reason = "a folder of frames does not tell its rate, which `fps` needs: say it with the data, as fps=25"
            raise VideoError(path, reason)
        return FrameFolderReader(path, fps=fps)
    if backend == "pyav" or is_image(media_path(path)):
        return PyAVReader(path, threads=threads)
    return TorchcodecReader(path, threads=threads)
