"""Chooses the decoder, and names its version, which every result records: frames differ between decoders.

The environment variable ``DUALFORMER_DECODER`` chooses it, for all processes of a run. Images are always decoded by
PyAV.
"""

import os
from types import ModuleType
from typing import Literal, get_args

import av

from dualformer.errors import DualFormerError

DECODER_VARIABLE = "DUALFORMER_DECODER"

Backend = Literal["pyav", "torchcodec"]


class DecoderMissingError(DualFormerError):
    """The chosen decoder cannot be imported. The message says how to install it."""


def chosen_backend() -> Backend:
    """Returns what ``DUALFORMER_DECODER`` says, ``pyav`` by default. Raises ``ValueError`` for another name."""
    name = os.environ.get(DECODER_VARIABLE, "").strip().lower() or "pyav"
    for known in get_args(Backend):
        if name == known:
            return known
    raise ValueError(
        f"{DECODER_VARIABLE}={name} is no decoder: set it to {' or '.join(get_args(Backend))}, or not at all"
    )


def import_torchcodec() -> ModuleType:
    """Imports torchcodec. Raises :class:`DecoderMissingError` where it is missing, or does not find FFmpeg."""
    try:
        import torchcodec  # type: ignore[import-not-found]  # optional, beside FFmpeg's libraries
        import torchcodec.decoders  # type: ignore[import-not-found]
    except (ImportError, OSError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DecoderMissingError(
            f"{DECODER_VARIABLE}=torchcodec: it cannot be imported ({lines[0]}): pip install the torchcodec that goes "
            "with your PyTorch and install FFmpeg's shared libraries, or unset the variable"
        ) from error
    return torchcodec


def decoder() -> str:
    """Returns the chosen decoder with versions: ``PyAV 18.1.0, FFmpeg 8.1.2``, the FFmpeg inside PyAV; or
    ``torchcodec 0.13.0, FFmpeg 7.1 (images: PyAV 18.1.0, FFmpeg 8.1.2)``, where the first FFmpeg is the machine's.

    Raises as `chosen_backend` and `import_torchcodec` do.
    """
    ffmpeg = getattr(av, "ffmpeg_version_info", None)  # older PyAV tells the versions of FFmpeg's libraries alone
    if ffmpeg is None:
        ffmpeg = "libavcodec " + ".".join(map(str, av.library_versions["libavcodec"]))
    pyav = f"PyAV {av.__version__}, FFmpeg {ffmpeg}"
    if chosen_backend() == "pyav":
        return pyav
    torchcodec = import_torchcodec()
    versions = getattr(getattr(torchcodec, "_core", None), "get_ffmpeg_library_versions", None)
    ffmpeg = versions().get("ffmpeg_version") if versions else None
    if ffmpeg is None:
        ffmpeg = torchcodec.ffmpeg_major_version
    return f"torchcodec {torchcodec.__version__}, FFmpeg {ffmpeg} (images: {pyav})"
