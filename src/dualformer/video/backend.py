"""What decodes: the library and its version, which belong to every result. Frames differ between decoders."""

import av


def decoder() -> str:
    """``PyAV 18.1.0, FFmpeg 8.1.2``; FFmpeg is the one inside PyAV."""
    ffmpeg = getattr(av, "ffmpeg_version_info", None)  # older PyAV tells the versions of FFmpeg's libraries alone
    if ffmpeg is None:
        ffmpeg = "libavcodec " + ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__}, FFmpeg {ffmpeg}"
