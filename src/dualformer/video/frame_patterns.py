"""Finds the images of frame folders, which are named by a pattern: ``clip/img_%05d.jpg``.

The frames are the images in the order of their numbers, from the lowest number on; a gap in the numbers is an error.
Imports no torch, like ``sequential_decoding``.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dualformer.video.container import VideoError
from dualformer.video.file_formats import FRAME_NUMBER, frame_name_regex, is_frame_pattern, is_image
from dualformer.video.file_slices import Media, media_path
from dualformer.video.sequential_decoding import VideoInfo, decode_all

__all__ = ["decode_frame_folder", "find_frame_pattern", "frame_files", "is_frame_pattern", "parse_frame_pattern"]

_BRACES = re.compile(r"\{(?:i|idx)?:?(?:0?(\d+))?d?\}")


def parse_frame_pattern(text: str) -> str:
    """Returns ``img_%05d.jpg`` for itself and for ``img_{:05d}.jpg``.

    Raises ``ValueError`` for text that is no pattern of numbered images.
    """
    name = _BRACES.sub(lambda m: f"%0{int(m[1])}d" if m[1] else "%d", text)
    if "/" in name or "\\" in name or not is_frame_pattern(Path(name)):
        raise ValueError(f"{text!r} is no pattern of numbered images: write it as in img_%05d.jpg")
    return name


def frame_files(pattern: Path) -> list[Path]:
    """Returns the images of a pattern in the order of their numbers.

    Raises ``FileNotFoundError`` without the folder, :class:`VideoError` without an image or where a number is missing.
    """
    if not pattern.parent.is_dir():
        raise FileNotFoundError(f"no such folder of frames: {pattern.parent}")
    named = frame_name_regex(pattern.name)
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
    """Returns the images of a pattern, as `frame_files`, or of a slice."""
    return frame_files(pattern) if isinstance(pattern, Path) else pattern.frames()


def find_frame_pattern(folder: Path) -> Path:
    """Returns the pattern of the numbered images in a folder.

    Raises :class:`VideoError` where there is none, or more than one.
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


def decode_frame_folder(pattern: Media, *, on_error: Callable[[VideoInfo], None] | None = None) -> VideoInfo:
    """Decodes every image of a frame folder, and describes it as `decode_all` describes a file, with a rate of 0.

    Raises :class:`VideoError` for the first image that does not decode, has
    another size than the first, or is no image; ``on_error`` is that of `decode_all`.
    """
    files = frame_images(pattern)
    first: VideoInfo | None = None
    for done, file in enumerate(files):
        try:
            info = decode_all(file)
            first = info if first is None else first
            if (info.width, info.height) != (first.width, first.height):
                raise frame_size_error(pattern, file, (info.width, info.height), (first.width, first.height))
        except VideoError:
            if on_error is not None and first is not None:
                on_error(_folder_info(pattern, first, done))
            raise
    assert first is not None  # frame_files raises for none
    return _folder_info(pattern, first, len(files))


def _folder_info(pattern: Media, first: VideoInfo, frames: int) -> VideoInfo:
    return replace(first, path=str(pattern), frames=frames, fps=0.0, duration=0.0)


def frame_size_error(pattern: Media, file: Media, size: tuple[int, int], first: tuple[int, int]) -> VideoError:
    """Returns the error for a frame of another (width, height) than the first."""
    name = media_path(file).name
    return VideoError(pattern, f"{name} has {size[0]}x{size[1]} pixels, the first frame {first[0]}x{first[1]}")
