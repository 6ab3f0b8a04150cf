"""The frames of a video in memory: arrays, tensors, or lists of images, read as the frames of a file are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dualformer.video.container import video_errors
from dualformer.video.frame_reader import FrameReader
from dualformer.video.sequential_decoding import VideoInfo

ChannelOrder = Literal["rgb", "bgr"]
"""The order of the colours in arrays: OpenCV's is ``bgr``."""

_NAME = "frames"
_PICTURE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB"}


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryFrames:
    """All frames of a video in display order, n at least 1: an array or tensor uint8 (n, H, W, 3) with any strides and
    on any device, or a sequence of images of one size, each a PIL image or uint8 (H, W, 3).

    Frames are copied one by one, when they are read. PIL images are turned upright as their EXIF data says.
    Raises ``ValueError`` for anything else.
    """

    frames: Any
    fps: float | None = None
    """Frames a second, where that is known."""
    channel_order: ChannelOrder = "rgb"
    """Of arrays and tensors. PIL images know theirs."""

    def __post_init__(self) -> None:
        check_rate(self.fps)
        if self.channel_order not in get_args(ChannelOrder):
            raise ValueError(f"channel_order must be {' or '.join(get_args(ChannelOrder))}, not {self.channel_order!r}")
        if isinstance(self.frames, (Tensor, np.ndarray)):
            _check_array(self.frames, 4, _NAME)
            return
        if not isinstance(self.frames, Sequence) or not len(self.frames):
            raise ValueError(f"a list of frames has at least one, not {self.frames!r}")
        first = _picture_size(self.frames[0], 0)
        for number, picture in enumerate(self.frames):
            if is_pil_image(picture) and self.channel_order != "rgb":
                raise ValueError("channel_order is for arrays: a PIL image knows the order of its colours")
            if (size := _picture_size(picture, number)) != first:
                raise ValueError(
                    f"frame {number} has {size[1]}x{size[0]} pixels, the first {first[1]}x{first[0]}: resize them alike"
                )

    def __len__(self) -> int:
        return len(self.frames)

    def __str__(self) -> str:
        return _NAME

    @property
    def times(self) -> NDArray[np.float64]:
        """(n,): seconds from the first frame; without a rate, the numbers of the frames."""
        return np.arange(len(self)) / (self.fps or 1.0)

    def frame(self, number: int) -> Tensor:
        """Returns a frame, uint8 RGB (H, W, 3)."""
        picture = self.frames[number]
        if is_pil_image(picture):
            with video_errors(_NAME, f"frame {number} cannot be read"):
                return torch.from_numpy(np.array(_upright(picture).convert("RGB")))
        # A copy of arrays: PyTorch knows no negative strides, and warns of arrays that it may not write to.
        frame = picture.cpu() if isinstance(picture, Tensor) else torch.from_numpy(np.array(picture, order="C"))
        return (frame if self.channel_order == "rgb" else frame.flip(2)).contiguous()


class MemoryFramesReader(FrameReader):
    """Gives `MemoryFrames` by number."""

    def __init__(self, video: MemoryFrames) -> None:
        super().__init__(_NAME)
        self._video = video
        self.times: NDArray[np.float64] = video.times

    def frames(self, indices: ArrayLike) -> Iterator[tuple[int, Tensor]]:
        for index in np.unique(self._check_numbers(indices)).tolist():
            yield index, self._video.frame(index)

    def _describe(self) -> VideoInfo:
        height, width = self._video.frame(0).shape[:2]
        fps = self._video.fps or 0.0
        duration = len(self) / fps if fps else 0.0
        return VideoInfo(
            path=_NAME,
            frames=len(self),
            fps=fps,
            width=width,
            height=height,
            duration=duration,
            codec="",
            pixel_format="rgb24",
            rotation=0,
        )


def check_rate(fps: float | None) -> None:
    """Raises ``ValueError`` for a rate that is not positive and finite."""
    if fps is not None and not 0 < fps < float("inf"):
        raise ValueError(f"fps must be positive, not {fps}")


def is_pil_image(picture: object) -> bool:
    """Returns whether it is an image of Pillow's. Where nothing has imported Pillow there is none."""
    return hasattr(picture, "convert") and hasattr(picture, "getexif") and hasattr(picture, "mode")


def _upright(picture: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _picture_size(picture: Any, number: int) -> tuple[int, int]:
    """Returns (height, width). Raises ``ValueError`` for what is no picture."""
    if is_pil_image(picture):
        if picture.mode not in _PICTURE_MODES:
            raise ValueError(f"frame {number} is an image of mode {picture.mode}, not of 8 bits: convert it to RGB")
        width, height = _upright_size(picture)
        return height, width
    if not isinstance(picture, (Tensor, np.ndarray)):
        raise ValueError(f"frame {number} is neither an image nor an array, but of type {type(picture).__name__}")
    _check_array(picture, 3, f"frame {number}")
    return picture.shape[0], picture.shape[1]


def _upright_size(picture: Any) -> tuple[int, int]:
    sideways = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return picture.size[::-1] if sideways else picture.size


def _check_array(array: Tensor | NDArray[Any], dimensions: int, name: str) -> None:
    """Raises ``ValueError`` with a remedy for another array than uint8 (..., H, W, 3)."""
    wanted = "(T, H, W, 3), T at least 1" if dimensions == 4 else "(H, W, 3)"
    shape = tuple(array.shape)
    is_bytes = array.dtype in (torch.uint8, np.uint8)
    if is_bytes and len(shape) == dimensions and shape[-1] == 3 and 0 not in shape:
        return
    remedy = ""
    if not is_bytes:
        remedy = ": scale them to 0…255 and round"
    elif len(shape) == dimensions and shape[-3] == 3:
        remedy = ": the colours come last"
    elif len(shape) == dimensions and shape[-1] in (1, 4):
        remedy = ": leave out the transparency" if shape[-1] == 4 else ": repeat the grey three times"
    elif len(shape) == dimensions - 1 and dimensions == 4 and shape[-1] == 3:
        remedy = ": a single picture is frames[None]"
    raise ValueError(f"{name} must be uint8 {wanted}, not {array.dtype} {shape}{remedy}")
