"""File formats of videos and images: the extensions and names that are data, and the containers that may be opened.

An image is a video of one frame: whatever reads videos reads images. Imports nothing heavy.
"""

import re
from collections.abc import Collection
from pathlib import Path

_EXTENSIONS = (
    "mp4 m4v mov qt mqv mj2 mjp2 3gp 3gpp 3g2 3gp2 f4v ismv 360 "  # ISO media and QuickTime
    "mkv mk3d webm avi divx xvid "
    "ts mts m2ts m2t trp mpg mpeg mpe m2p vob vro evo mod tod "  # MPEG transport and program streams
    "m1v m2v mpv mp2v h264 264 avc h26l hevc h265 265 h266 266 vvc av1 obu ivf vc1 drc "  # raw streams
    "flv asf wmv dvr-ms wtv ogv ogm rm rmvb mxf gxf nut dv dif y4m nsv bik smk swf amv r3d gif apng"
)
VIDEO_EXTENSIONS = frozenset(f".{extension}" for extension in _EXTENSIONS.split())
"""Of the containers and raw streams that `ALLOWED_DEMUXERS` reads, in any case of letters; not those of sound alone."""
IMAGE_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif")
)

_VIDEOS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,mpegtsraw,h264,hevc,vvc,av1,obu,ivf,m4v,flv,"
    "live_flv,asf,asf_o,gif,apng,ogg,mxf,nut,rm,dv,vc1,wtv,yuv4mpegpipe,dirac,nsv,ea,bink,smk,swf,amv,film_cpk,r3d,gxf"
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


_OTHER_PROGRAMS = frozenset(
    (
        *("__macosx", "network trash folder", "temporary items", "icon\r"),
        *("$recycle.bin", "system volume information", "found.000", "thumbs.db", "ehthumbs.db"),
        *("desktop.ini", "lost+found", "lost.dir", "@eadir", "#recycle", "#snapshot", "@recycle", "@__thumb"),
        *("@recently-snapshot", "@sharesnap", "_gsdata_", "__pycache__", "node_modules"),
    )
)


def is_of_another_program(name: str) -> bool:
    """Returns whether operating systems, storage devices or tools leave files or folders of this name behind."""
    return name.casefold() in _OTHER_PROGRAMS


def is_data_folder(name: str) -> bool:
    """Returns whether a folder of this name is searched: not a hidden one, nor another program's."""
    return not name.startswith(".") and not is_of_another_program(name)


_SIDECAR = re.compile(
    r"(.+?)(?:[-_. ](?:thumb|thumbs|thumbnail|poster|fanart|cover|preview|screenshot|snapshot|landscape))?", re.I | re.S
)


def sidecar_images(names: Collection[str]) -> set[str]:
    """Returns those of the ``names`` of media in a folder that are images made of a video beside them.

    They are called like it: ``v1.webp``, ``v1.mp4.jpg`` and ``v1-thumb.png`` beside ``v1.mp4``.
    """
    images = [name for name in names if is_image(Path(name))]
    videos = set(names).difference(images)
    if not videos or not images:
        return set()
    called = {text.casefold() for name in videos for text in (name, Path(name).stem)}

    def is_sidecar(name: str) -> bool:
        stem = Path(name).stem.casefold()
        match = _SIDECAR.fullmatch(stem)
        return stem in called or (match is not None and match[1] in called)

    return {name for name in images if is_sidecar(name)}
