"""Reads clips of video files: samples, decodes and crops frames. Everything that reads videos calls it.

Frames are cropped (training) or resized (test) as they are decoded, so that memory depends on the clip, not the file.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.plurals import counted
from dualformer.video.augmentation import Augmentation
from dualformer.video.container import FrameCountError, VideoError
from dualformer.video.frame_reader import FrameReader
from dualformer.video.memory_frames import MemoryFrames
from dualformer.video.open_video import open_video
from dualformer.video.pixel_augment import augment
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import covering_clips, even_clips, is_short, random_clip
from dualformer.video.transforms import (
    Crop,
    crop_views,
    cut,
    cut_long,
    draw_crop,
    pad_to_square,
    resize_and_flip,
    resize_frames,
    resized_bytes,
)
from dualformer.video.video_segment import Footage
from dualformer.video.video_source import VideoSource, resolve_source, source_name

_log = logging.getLogger("dualformer")
_RESIZE_AT_ONCE = 32 * 2**20  # bytes of full-size frames gathered before they are resized together
_warned_short = multiprocessing.Value("b", False)  # shared with loader workers that are forked


@dataclass(frozen=True)
class Views:
    """Test views of a video: ``clips`` spread evenly over it, each with 1 crop (centre) or 3 along the longer side.

    Raises ``ValueError`` for other numbers.
    """

    clips: int = 4
    crops: int = 1

    def __post_init__(self) -> None:
        if self.clips < 1 or self.crops not in (1, 3):
            raise ValueError(f"views are 1 or more clips x 1 or 3 crops, as in 4x1 or 4x3, not {self}")

    @classmethod
    def parse(cls, text: str | Views) -> Views:
        """Parses ``"4x1"`` (clips x crops); `Views` pass through."""
        if isinstance(text, Views):
            return text
        numbers = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text.strip())
        if numbers is None:
            raise ValueError(f"views are written clips x crops, as in 4x1 or 4x3, not {text!r}")
        return cls(int(numbers[1]), int(numbers[2]))

    @property
    def count(self) -> int:
        """The number of views of one video."""
        return self.clips * self.crops

    def warn_if_equal(self, pre: Preprocessing) -> None:
        """Warns where all crops of a clip are the same picture, as of squares that all of a picture is padded to."""
        if self.crops > 1 and pre.crop_mode == "pad" and pre.crop == pre.resize:
            _log.warning(
                "views %s: pictures are padded to squares, whose crops are one and the same: %s says no less",
                self,
                Views(self.clips),
            )

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"


class TrainingClip(NamedTuple):
    """A training clip, uint8 (T, crop, crop, 3). If it is mirrored, it may belong to another class."""

    frames: Tensor
    mirrored: bool
    box: tuple[float, float, float, float]
    """The crop: top, left, height and width as fractions of the frame's, or of the square that it is padded to."""
    times: NDArray[np.float64]
    """(T,): seconds of its frames from the first one of the video."""


def read_training_clip(
    path: str | Footage,
    pre: Preprocessing,
    rng: np.random.Generator,
    augmentation: Augmentation,
    *,
    threads: int | None = None,
    fps: float | None = None,
) -> TrainingClip:
    """Returns a randomly placed and augmented clip of a file.

    ``rng`` decides everything: the same state gives the same clip. Draws the start first, then the crop, then the flip,
    then what changes the pixels. ``fps`` is the rate of a folder of frames.
    """
    with open_video(path, threads=threads, fps=fps, clock=pre.fps is not None) as reader:
        return training_clip_from_reader(reader, path, pre, rng, augmentation)


def training_clip_from_reader(
    reader: FrameReader, path: str | Footage, pre: Preprocessing, rng: np.random.Generator, augmentation: Augmentation
) -> TrainingClip:
    """Returns a training clip of an open file, as `read_training_clip`."""
    state = rng.bit_generator.state

    def draw() -> TrainingClip:
        rng.bit_generator.state = state
        warn_if_short(path, reader.times, pre)
        indices = random_clip(reader.times, pre, rng)
        return make_training_clip(reader.frames(indices), indices, reader.times, pre, rng, augmentation)

    try:
        return draw()
    except FrameCountError:
        return draw()  # the reader has counted its frames meanwhile


def make_training_clip(
    frames: Iterator[tuple[int, Tensor]],
    indices: NDArray[np.int64],
    times: NDArray[np.float64],
    pre: Preprocessing,
    rng: np.random.Generator,
    augmentation: Augmentation,
) -> TrainingClip:
    """Crops, resizes, flips and augments decoded frames (number, (H, W, 3)), for `read_training_clip`.

    ``indices`` are the frames of the clip, ``times`` the seconds of all frames of the video.
    """
    crop: Crop | None = None
    height = width = 1
    boxes: list[Tensor] = []
    for _, picture in frames:
        frame = picture if pre.crop_mode == "center" else pad_to_square(cut_long(picture), pre)
        if crop is None:
            height, width = frame.shape[:2]
            crop = draw_crop(height, width, pre.crop, augmentation, rng)
        boxes.append(cut(frame, crop))
    assert crop is not None  # a clip has at least one frame
    places = np.unique(indices, return_inverse=True)[1].reshape(-1)
    view = augment(resize_and_flip(torch.stack(boxes), crop, pre), augmentation, pre, rng)
    return TrainingClip(
        view if np.array_equal(places, np.arange(len(boxes))) else view[torch.from_numpy(places)],
        crop.flip,
        (crop.top / height, crop.left / width, crop.height / height, crop.width / width),
        times[indices],
    )


class NotedViews(NamedTuple):
    """Test views uint8 (V, T, h, w, 3), and what is to be said of the video that they are of."""

    views: Tensor
    notes: tuple[str, ...]


def read_views(
    path: str | Footage | MemoryFrames,
    pre: Preprocessing,
    *,
    clips: int = 1,
    crops: int = 1,
    threads: int | None = None,
    fps: float | None = None,
) -> Tensor:
    """Returns test views of a file, uint8 (clips·crops, T, crop, crop, 3): clips spread evenly, each with 1 or 3 crops.

    Ordered clip by clip: view c·crops + k is crop k of clip c. One pass over the file serves all of them. ``path`` and
    ``fps`` are those of `open_video`.
    """
    return read_noted_views(path, pre, Views(clips, crops), threads=threads, fps=fps).views


def read_noted_views(
    path: str | Footage | MemoryFrames,
    pre: Preprocessing,
    views: Views,
    *,
    threads: int | None = None,
    fps: float | None = None,
) -> NotedViews:
    """Returns `read_views` with notes: that the video is shorter than a clip, changes its size, or is HDR."""
    with open_video(path, threads=threads, fps=fps, clock=pre.fps is not None) as reader:
        read = views_from_reader(reader, path, pre, clips=views.clips, crops=views.crops)
        return NotedViews(read, notes_of(reader, pre))


def notes_of(reader: FrameReader, pre: Preprocessing) -> tuple[str, ...]:
    """Returns the notes of `read_noted_views` once the views were read."""
    short = short_note(reader.times, pre)
    return (*((short,) if short else ()), *reader.notes)


def views_from_reader(
    reader: FrameReader, path: str | Footage | MemoryFrames, pre: Preprocessing, *, clips: int = 1, crops: int = 1
) -> Tensor:
    """Returns the test views of an open file, as `read_views`."""
    try:
        small, places, _ = _even_frames(path, reader, pre, clips)
    except FrameCountError:
        small, places, _ = _even_frames(path, reader, pre, clips)  # the reader has counted its frames meanwhile
    return _cut_views(small, places, pre, clips, crops)


def read_covering_clips(
    path: str | Footage, pre: Preprocessing, *, at_once: int = 1, threads: int | None = None, fps: float | None = None
) -> Iterator[tuple[Tensor, NDArray[np.float64]]]:
    """Yields clips that cover a video (`covering_clips`), uncropped: uint8 (n, T, h, w, 3) as `resize_frames`
    gives them, n at most ``at_once``, and the seconds of their frames (n, T).
    """
    with open_video(path, threads=threads, fps=fps, clock=pre.fps is not None) as reader:
        done = -1.0
        while True:
            clips = covering_clips(reader.times, pre)
            clips = clips[reader.times[clips[:, -1]] > done][:at_once]
            if not len(clips):
                return
            unique, places = np.unique(clips, return_inverse=True)
            try:
                small = torch.cat(list(_resized(reader.frames(unique), pre)))
            except FrameCountError:
                continue  # the reader has counted its frames meanwhile
            times = reader.times[clips]
            done = float(times[-1, -1])
            yield small[torch.from_numpy(places.reshape(-1))].unflatten(0, clips.shape), times


def read_even_clips(
    path: str | Footage, pre: Preprocessing, *, clips: int, threads: int | None = None, fps: float | None = None
) -> tuple[Tensor, NDArray[np.float64]]:
    """Returns evenly spread clips, uncropped: uint8 (clips, T, h, w, 3) as `resize_frames` gives them, and the seconds
    that each begins and ends at (clips, 2), in the video's own time.
    """
    with open_video(path, threads=threads, fps=fps, clock=pre.fps is not None) as reader:
        try:
            small, places, indices = _even_frames(path, reader, pre, clips)
        except FrameCountError:
            small, places, indices = _even_frames(
                path, reader, pre, clips
            )  # the reader has counted its frames meanwhile
        times = reader.times
        last = float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
        shown = times[indices]
    spans = np.stack([shown.min(axis=1), shown.max(axis=1) + last], axis=1)
    return small[places].unflatten(0, (clips, pre.frames)), spans


def views_at(reader: FrameReader, indices: NDArray[np.int64], pre: Preprocessing, *, crops: int = 1) -> Tensor:
    """Returns the test views of the clips with these frame ``indices`` (clips, T) of an open file, as `read_views`."""
    unique, places = np.unique(indices, return_inverse=True)
    small = torch.cat(list(_resized(reader.frames(unique), pre)))
    return _cut_views(small, torch.from_numpy(places.reshape(-1)), pre, len(indices), crops)


def warn_if_short(path: str | Footage | MemoryFrames, times: NDArray[np.float64], pre: Preprocessing) -> None:
    """Warns once, over all processes of a run, that a video is shorter than a clip."""
    if not _warned_short.value and (note := short_note(times, pre)):
        with _warned_short.get_lock():
            if _warned_short.value:
                return
            _warned_short.value = True
        _log.warning("%s: %s (said once)", path, note)


def short_note(times: NDArray[np.float64], pre: Preprocessing) -> str:
    """Returns a sentence for a video that is shorter than a clip, nothing for others."""
    if not is_short(times, pre):
        return ""
    filled = "its last frame is repeated" if pre.short_video == "repeat" else "it is looped"
    frames, clip = counted(len(times), "frame"), f"{pre.frames} frames × stride {pre.stride}"
    if pre.fps is None:
        return f"{frames} {'is' if len(times) == 1 else 'are'} shorter than a clip of {clip}: {filled}"
    lasts, wanted = float(times[-1] - times[0]), (pre.frames - 1) * pre.stride / pre.fps
    return f"{lasts:.3g} s ({frames}) are shorter than a clip of {wanted:.3g} s ({clip} at {pre.fps:g} fps): {filled}"


def _even_frames(
    path: str | Footage | MemoryFrames, reader: FrameReader, pre: Preprocessing, clips: int
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Returns the distinct frames of evenly spread clips, resized (n, h, w, 3), their indices (clips·T,), and those of
    the clips in the video (clips, T)."""
    warn_if_short(path, reader.times, pre)
    indices = even_clips(reader.times, pre, clips)
    unique, places = np.unique(indices, return_inverse=True)
    return torch.cat(list(_resized(reader.frames(unique), pre))), torch.from_numpy(places.reshape(-1)), indices


def _cut_views(frames: Tensor, places: Tensor, pre: Preprocessing, clips: int, crops: int) -> Tensor:
    """Returns views (clips·crops, T, crop, crop, 3) of distinct frames and their indices (clips·T,)."""
    views = crop_views(frames, pre, crops)  # crops, frames, crop, crop, 3
    shape = (crops, clips, pre.frames, pre.crop, pre.crop, 3)
    return views[:, places].reshape(shape).transpose(0, 1).reshape(clips * crops, *shape[2:])


def _resized(frames: Iterator[tuple[int, Tensor]], pre: Preprocessing) -> Iterator[Tensor]:
    block: list[Tensor] = []
    for _, picture in frames:
        frame = cut_long(picture)
        block.append(frame)
        if len(block) * max(frame.numel(), resized_bytes(frame, pre)) >= _RESIZE_AT_ONCE:
            yield resize_frames(torch.stack(block), pre)
            block = []
    if block:
        yield resize_frames(torch.stack(block), pre)


def views_of_frames(frames: Tensor, pre: Preprocessing, views: Views, *, fps: float | None = None) -> Tensor:
    """Returns test views (V, T, h, w, 3) of all frames of a video in memory, uint8 (n, H, W, 3), as `read_views`.

    ``fps``: frames a second, needed where ``pre`` resamples in time. Raises ``ValueError`` where it is missing, and for
    other arrays.
    """
    return read_views(MemoryFrames(frames=frames, fps=fps), pre, clips=views.clips, crops=views.crops)


def read_views_or_error(
    video: VideoSource, pre: Preprocessing, views: Views, *, fps: float | None = None
) -> NotedViews | VideoError:
    """Returns `read_noted_views` of a source, or the error for one that cannot be read.

    Raises ``ValueError`` for what is no video.
    """
    try:
        return read_noted_views(resolve_source(video, fps=fps), pre, views, fps=fps)
    except VideoError as error:
        return error
    except FileNotFoundError:
        return VideoError(source_name(video), "there is no such file")
    except OSError as error:
        return VideoError(source_name(video), f"it cannot be read ({error.strerror})")
