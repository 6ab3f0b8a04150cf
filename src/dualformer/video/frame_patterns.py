"""Folders of numbered images that are a video together, named by a pattern: ``clip/img_%05d.jpg``.

The frames are those that are there, in the order of their numbers, from whichever number is the lowest; a number that
is left out makes the folder a bad file. Imports no torch, like ``sequential``.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dualformer.video.container import VideoError
from dualformer.video.file_formats import FRAME_NUMBER, is_frame_pattern, is_image
from dualformer.video.file_slices import Media, media_path
from dualformer.video.sequential_decoding import VideoInfo, decode_all

__all__ = ["decode_frame_folder", "find_frame_pattern", "frame_files", "is_frame_pattern", "parse_frame_pattern"]

_BRACES = re.compile(r"\{(?:i|idx)?:?(?:0?(\d+))?d?\}")


def parse_frame_pattern(text: str) -> str:
    """``img_%05d.jpg`` for it and for ``img_{:05d}.jpg``, as other code writes it.

    Raises ``ValueError`` for what names no numbered images.
    """
    name = _BRACES.sub(lambda m: f"%0{int(m[1])}d" if m[1] else "%d", text)
    if "/" in name or "\\" in name or not is_frame_pattern(Path(name)):
        raise ValueError(f"{text!r} is no pattern of numbered images: write it as in img_%05d.jpg")
    return name


def frame_files(pattern: Path) -> list[Path]:
    """The images of a pattern in the order of their numbers.

    Raises ``FileNotFoundError`` without the folder, :class:`VideoError` without an image or where a number is left out.
    """
    if not pattern.parent.is_dir():
        raise FileNotFoundError(f"no such folder of frames: {pattern.parent}")
    named = _matching(pattern.name)
    with os.scandir(pattern.parent) as entries:
        found = {int(match[1]): entry.name for entry in entries if (match := named.fullmatch(entry.name))}
    if not found:
        raise VideoError(pattern, "the folder has no frame of that name")
    first, last = min(found), max(found)
    if len(found) != last - first + 1:
        gap = next(number for number in range(first, last) if number not in found)
        raise VideoError(pattern, f"frame {gap} is missing between {first} and {last}")
    return [pattern.parent / found[number] for number in range(first, last + 1)]


def frame_images(pattern: Media) -> Sequence[Media]:
    """The same for a pattern that may stand for a piece."""
    return frame_files(pattern) if isinstance(pattern, Path) else pattern.frames()


def find_frame_pattern(folder: Path) -> Path:
    """The pattern of the numbered images in a folder, by looking into it.

    Raises :class:`VideoError` where it has none, or several that could be meant.
    """
    patterns: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            numbers = re.search(r"(\d+)(\D*)$", Path(entry.name).stem)
            if numbers and is_image(Path(entry.name)) and not entry.name.startswith("."):
                start, end = numbers.span(1)
                width = f"0{end - start}" if end - start > 1 else ""
                patterns.add(f"{entry.name[:start]}%{width}d{entry.name[end:]}")
    if len(patterns) > 1 and len({FRAME_NUMBER.sub("%d", name) for name in patterns}) == 1:
        patterns = {FRAME_NUMBER.sub("%d", name) for name in patterns}  # as many digits as each number takes
    if not patterns:
        raise VideoError(folder, "there are no numbered images in it")
    if len(patterns) > 1:
        raise VideoError(folder, f"its images follow several patterns ({', '.join(sorted(patterns)[:3])}): say which")
    return folder / patterns.pop()


def decode_frame_folder(pattern: Media) -> VideoInfo:
    """What `decode_all` says of a file, of a folder of frames: every image is decoded.

    The rate is 0, as images do not tell it. Raises :class:`VideoError` for the first image that does not decode, has
    another size than the first, or is no image.
    """
    files = frame_images(pattern)
    first: VideoInfo | None = None
    for file in files:
        info = decode_all(file)
        first = info if first is None else first
        if (info.width, info.height) != (first.width, first.height):
            raise frame_size_error(pattern, file, (info.width, info.height), (first.width, first.height))
    assert first is not None  # frame_files raises for none
    return replace(first, path=str(pattern), frames=len(files), fps=0.0, duration=0.0)


def frame_size_error(pattern: Media, file: Media, size: tuple[int, int], first: tuple[int, int]) -> VideoError:
    """The error for a frame of another (width, height) than the first."""
    name = media_path(file).name
    return VideoError(pattern, f"{name} has {size[0]}x{size[1]} pixels, the first frame {first[0]}x{first[1]}")


def _matching(name: str) -> re.Pattern[str]:
    place = FRAME_NUMBER.search(name)
    assert place is not None
    digits = f"\\d{{{int(place[1])},}}" if place[1] else "\\d+"
    return re.compile(f"{re.escape(name[: place.start()])}({digits}){re.escape(name[place.end() :])}")
