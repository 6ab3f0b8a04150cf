"""The number of test views of a video, and the views of frames in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dualformer.video.clip_reader import read_views
from dualformer.video.container import VideoError
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import even_clips
from dualformer.video.transforms import crop_views, resize_short_side


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

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"


def views_of_frames(frames: Tensor, pre: Preprocessing, views: Views, *, fps: float | None = None) -> Tensor:
    """Returns test views (V, T, h, w, 3) of all frames of a video in memory, uint8 (n, H, W, 3), as `read_views`.

    ``fps``: frames a second, needed where ``pre`` resamples in time. Raises ``ValueError`` where it is missing, and for
    other arrays.
    """
    if frames.dtype != torch.uint8 or frames.dim() != 4 or frames.shape[-1] != 3 or frames.numel() == 0:
        raise ValueError(f"frames must be uint8 (T, H, W, 3), T at least 1, not {frames.dtype} {tuple(frames.shape)}")
    if fps is not None and not fps > 0:
        raise ValueError(f"fps must be positive, not {fps}")
    if pre.fps is not None and fps is None:
        raise ValueError(
            f"the weights resample to {pre.fps:g} frames a second: say with fps= how many a second these are"
        )
    times = np.arange(len(frames)) / (fps or 1.0)
    unique, places = np.unique(even_clips(times, pre, views.clips), return_inverse=True)
    small = crop_views(resize_short_side(frames[torch.from_numpy(unique)], pre.resize), pre, views.crops)
    shape = (views.crops, views.clips, pre.frames, pre.crop, pre.crop, 3)
    return small[:, torch.from_numpy(places.reshape(-1))].reshape(shape).transpose(0, 1).reshape(-1, *shape[2:])


def read_views_or_error(path: str | Path, pre: Preprocessing, views: Views) -> Tensor | VideoError:
    """Returns `read_views` of a file, or the error for a file that cannot be read."""
    try:
        return read_views(path, pre, clips=views.clips, crops=views.crops)
    except VideoError as error:
        return error
    except FileNotFoundError:
        return VideoError(path, "there is no such file")
    except OSError as error:
        return VideoError(path, f"it cannot be read ({error.strerror})")
