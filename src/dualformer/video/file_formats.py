"""File formats of videos and images: the extensions that are looked for, and the containers that may be opened.

An image is a video of one frame: whatever reads videos reads images. Imports nothing heavy.
"""

import re
from pathlib import Path

VIDEO_EXTENSIONS = frozenset(
    (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".gif", ".ogv")
)
IMAGE_EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"))

_VIDEOS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,mpegtsraw,h264,hevc,av1,obu,ivf,m4v,flv,live_flv,"
    "asf,asf_o,gif,apng,ogg,mxf,nut,rm,dv,vc1,wtv,yuv4mpegpipe,dirac,nsv,ea,bink,smacker,swf,amv,film_cpk,r3d,gxf"
)
IMAGE_DEMUXERS = ("jpeg_pipe", "png_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "ppm_pipe", "pgm_pipe", "pbm_pipe")
"""FFmpeg's demuxers for files that hold a picture, and perhaps more behind it."""

IMAGE_BRANDS = ("avif", "heic", "heix", "mif1")
"""Files built like MP4 that hold a picture."""

FRAME_NUMBER = re.compile(r"%(?:0(\d+))?d")
"""Finds the number in the name of numbered images, and its least number of digits."""

ALLOWED_DEMUXERS = ",".join((_VIDEOS, *IMAGE_DEMUXERS))
"""FFmpeg's demuxers for formats that hold their pictures themselves. It would also open playlists and image sequences,
which name *other* files: an uploaded file must not be able to read those."""


def is_image(path: Path) -> bool:
    """Returns whether the name is an image's."""
    return path.suffix.lower() in IMAGE_EXTENSIONS


def is_frame_pattern(path: Path) -> bool:
    """Returns whether the name is a pattern of numbered images that are a video together: ``img_%05d.jpg``, ``%d.png``.

    A file may really be called so: `is_frame_folder` tells for what can be on a disk.
    """
    return is_image(path) and len(FRAME_NUMBER.findall(path.name)) == 1


def frame_name_regex(pattern: str) -> re.Pattern[str]:
    """Returns an expression for the names that a pattern of numbered images stands for; its group 1 is the number."""
    place = FRAME_NUMBER.search(pattern)
    assert place is not None
    digits = f"\\d{{{int(place[1])},}}" if place[1] else "\\d+"
    return re.compile(f"{re.escape(pattern[: place.start()])}({digits}){re.escape(pattern[place.end() :])}")


def is_media(path: Path) -> bool:
    """Returns whether the name is a video's or an image's. Hidden files never are."""
    known = is_image(path) or path.suffix.lower() in VIDEO_EXTENSIONS
    return known and not path.name.startswith(".")
