"""Which files are taken for videos and images: extensions to look for, and the containers that may be opened.

An image is a video of one frame: whatever reads videos reads images. Imports nothing heavy.
"""

import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dualformer.video.file_pieces import Media

VIDEO_EXTENSIONS = frozenset(
    (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".gif", ".ogv")
)
IMAGE_EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"))

_VIDEOS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,mpegtsraw,h264,hevc,av1,obu,ivf,m4v,flv,live_flv,"
    "asf,asf_o,gif,apng,ogg,mxf,nut,rm,dv,vc1,wtv,yuv4mpegpipe,dirac,nsv,ea,bink,smacker,swf,amv,film_cpk,r3d,gxf"
)
IMAGES = ("jpeg_pipe", "png_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "ppm_pipe", "pgm_pipe", "pbm_pipe")
"""FFmpeg's demuxers for files that hold a picture, and perhaps more behind it."""

IMAGE_BRANDS = ("avif", "heic", "heix", "mif1")
"""Files built like MP4 that hold a picture."""

FRAME_NUMBER = re.compile(r"%(?:0(\d+))?d")
"""The place of the number in the name of numbered images, with the least number of its digits."""

OPENED = ",".join((_VIDEOS, *IMAGES))
"""FFmpeg's demuxers for formats that hold their pictures themselves. It would also open playlists and image sequences,
which name *other* files: an uploaded file must not be able to read those."""


def is_image(path: Path) -> bool:
    """Whether the name is an image's."""
    return path.suffix.lower() in IMAGE_EXTENSIONS


def is_frame_pattern(path: Path) -> bool:
    """Whether the name stands for numbered images that are a video together: ``img_%05d.jpg``, ``%d.png``.

    A file may be called so all the same: ask `are_frames` of what can be on a disk.
    """
    return is_image(path) and len(FRAME_NUMBER.findall(path.name)) == 1


def is_media(path: Path) -> bool:
    """Whether the name is a video's or an image's. Hidden files never are."""
    known = is_image(path) or path.suffix.lower() in VIDEO_EXTENSIONS
    return known and not path.name.startswith(".")


def is_jpeg(path: "Media") -> bool:
    """Whether a file begins as a JPEG does, whatever it is called."""
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def has_jpeg_end(data: bytes) -> bool:
    """Whether a JPEG's end marker follows its picture; FFmpeg does not mind if some of the picture is missing.

    Markers before the picture are those of previews inside its header. The picture itself never looks like a marker.
    A header that cannot be followed is left to the decoder.
    """
    start_of_scan, place = 0xDA, 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = struct.unpack(">xBH", data[place : place + 4])
        if marker == start_of_scan:
            return data.find(b"\xff\xd9", place) >= 0
        place += 1 if marker == 0xFF else 2 + length  # any number of bytes 255 may precede a marker
    return True


def has_jpeg_in_tiff(path: "Media") -> bool:
    """Whether a TIFF's first image is compressed as JPEG, which FFmpeg decodes to black without a word."""
    compression, jpeg = 259, (6, 7)
    try:
        with path.open("rb") as file:
            order = {b"II": "<", b"MM": ">"}[file.read(2)]
            _, first = struct.unpack(f"{order}HI", file.read(6))
            file.seek(first)
            (entries,) = struct.unpack(f"{order}H", file.read(2))
            for _ in range(entries):
                tag, _, _, value, _ = struct.unpack(f"{order}HHIHH", file.read(12))
                if tag == compression:
                    return value in jpeg
    except (KeyError, struct.error):
        pass  # damaged: decoding it says so
    return False
