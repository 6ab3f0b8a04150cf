"""Test views: how many there are of a video, how frames in memory become them, and what a network says about each.

Evaluation, prediction and everything that is deployed go from views to probabilities through `view_probabilities`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dualformer.errors import DualFormerError
from dualformer.video.clip_reader import read_views
from dualformer.video.decode import VideoError
from dualformer.video.preprocessing import DEFAULT_VIEWS as DEFAULT_VIEWS
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import even_clips
from dualformer.video.transforms import normalize, resize_short_side, test_views

Precision = Literal["float32", "bfloat16"]
"""What the network computes in. float32 gives the same answer on every machine."""


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
        """``"4x1"`` (clips x crops); `Views` pass through."""
        if isinstance(text, Views):
            return text
        numbers = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text.strip())
        if numbers is None:
            raise ValueError(f"views are written clips x crops, as in 4x1 or 4x3, not {text!r}")
        return cls(int(numbers[1]), int(numbers[2]))

    @property
    def count(self) -> int:
        """Views of one video."""
        return self.clips * self.crops

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"


def views_of_frames(frames: Tensor, pre: Preprocessing, views: Views, *, fps: float | None = None) -> Tensor:
    """What ``read_views`` cuts from a file, of all its frames in memory: uint8 (n, H, W, 3) → (V, T, h, w, 3).

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
    small = test_views(resize_short_side(frames[torch.from_numpy(unique)], pre.resize), pre, views.crops)
    shape = (views.crops, views.clips, pre.frames, pre.crop, pre.crop, 3)
    return small[:, torch.from_numpy(places.reshape(-1))].reshape(shape).transpose(0, 1).reshape(-1, *shape[2:])


def try_views(path: str | Path, pre: Preprocessing, views: Views) -> Tensor | VideoError:
    """``read_views``, for work that goes on after a bad file: what is wrong with it is returned, not raised."""
    try:
        return read_views(path, pre, clips=views.clips, crops=views.crops)
    except VideoError as error:
        return error
    except FileNotFoundError:
        return VideoError(path, "there is no such file")
    except OSError as error:
        return VideoError(path, f"it cannot be read ({error.strerror})")


def probabilities_of(logits: Tensor, *, multi_label: bool) -> Tensor:
    """Logits B classes → probabilities: they sum to 1, or with ``multi_label`` each is that of its class alone."""
    return logits.sigmoid() if multi_label else logits.softmax(dim=1)


@torch.inference_mode()
def view_probabilities(
    network: Callable[[Tensor], Tensor],
    views: Tensor,
    pre: Preprocessing,
    *,
    device: torch.device,
    at_once: int = 4,
    precision: Precision = "float32",
    multi_label: bool = False,
) -> Tensor:
    """Softmax for each view: uint8 (V, T, h, w, 3) → float32 (V, classes) on the CPU.

    With ``multi_label`` sigmoid of every class for itself.

    ``network``: B 3 T H W → B classes (logits), in eval mode, on ``device``. One with a true attribute ``takes_views``
    is given the uint8 views as they are and normalises them itself, and computes in what it was made for: exported
    models are such. ``at_once`` views go through it together, which bounds the memory whatever V is.
    Raises :class:`DualFormerError` where memory runs out on the device or scores are not numbers.
    """
    if at_once < 1:
        raise ValueError(f"at least one view must go through the network at a time, not {at_once}")
    parts: list[Tensor] = []
    try:
        for part in views.split(at_once):
            if getattr(network, "takes_views", False):
                logits = network(part)
            else:
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                    logits = network(normalize(part.to(device), pre))
            parts.append(probabilities_of(logits.float(), multi_label=multi_label).cpu())
    except torch.cuda.OutOfMemoryError as error:
        raise DualFormerError(
            f"{device} has no memory for {min(at_once, len(views))} views at a time: take fewer (--batch-size)"
        ) from error
    probabilities = torch.cat(parts)
    if not probabilities.isfinite().all():
        raise DualFormerError(
            f"the network's scores are not finite numbers in {precision}: its weights are damaged, or it needs float32"
        )
    return probabilities
