"""What an explanation is: a map over a clip, what it is of, and the files that show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dualformer.explain.deletion_check import DeletionCheck
from dualformer.explain.map_geometry import Box
from dualformer.explain.shown_clip import ShownClip
from dualformer.model.config import Size3

Method = Literal["gradcam", "attention", "pyramid"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One map of an explanation: all of it, or what one scale of the pyramid has of it."""

    title: str
    map: NDArray[np.float32]
    """(T, h, w), 0 to 1, 1 being the hottest place in the clip; on the pixels of the view."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Heat:
    """What a method finds in a clip."""

    about: str
    """The method in words, and the part of the network that it looks into."""
    map: NDArray[np.float32]
    """(T, h, w), 0 to 1: how hot each pixel of the view is, 1 being the hottest place in the clip."""
    parts: tuple[Part, ...]
    """What is drawn: the map; for a pyramid, one map for each scale."""
    tokens: NDArray[np.float32]
    """(T', H', W'): the map as the network has it. Of attention, weights that sum to 1; of Grad-CAM, in no unit."""
    stage: int
    """Counted from 1, as are block and half."""
    block: int
    half: int
    token: Size3 | None = None
    """t, y, x of the token that looks, in the stage's map, counted from 0; None for Grad-CAM."""
    token_box: Box | None = None
    """Its pixels in the view."""
    window_box: Box | None = None
    """Those of its window; None where there are no windows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What a network goes by in one clip of a video."""

    source: str
    """The file, or "frames"."""
    method: Method
    label: str
    """The class that is explained."""
    probability: float
    """Of that class, for this clip alone."""
    predicted: tuple[str, float]
    """The clip's most likely class and its probability."""
    heat: Heat
    clip: ShownClip
    """The frames, and where the view lies in them."""
    check: DeletionCheck | None = None
    """What deleting the hottest tenth does, where that was tried."""

    @property
    def map(self) -> NDArray[np.float32]:
        """(T, h, w), 0 to 1: how hot each pixel of the view is, 1 being the hottest place in the clip."""
        return self.heat.map

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, ready for JSON. ``crop``: top, left, height and width of the view, in parts of the
        frame's height and width."""
        heat, times = self.heat, self.clip.times
        top, left, height, width = self.clip.box
        _, rows, columns, _ = self.clip.frames.shape
        return {
            "source": self.source,
            "method": self.method,
            "about": heat.about,
            "label": self.label,
            "probability": self.probability,
            "predicted": {"label": self.predicted[0], "probability": self.predicted[1]},
            "stage": heat.stage,
            "block": heat.block,
            "half": heat.half,
            "token": None if heat.token is None else list(heat.token),
            "tokens": list(heat.tokens.shape),
            "map": list(heat.map.shape),
            "frames": self.clip.numbers.tolist(),
            "seconds": None if times is None else [round(float(second), 4) for second in times],
            "crop": [round(part, 4) for part in (top / rows, left / columns, height / rows, width / columns)],
            "check": None if self.check is None else self.check.to_dict(),
        }

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Writes the clip with the map over it and the map itself into ``folder``, and says what lies where.

        ``video`` and ``gif`` play it, ``sheet`` is a PNG of some of the frames, ``map`` an NPY file of `map`, ``json``
        the words and numbers. The files have the method's name; those of an earlier explanation are replaced.
        """
        from dualformer.explain.explanation_files import (
            save,  # it draws explanations, which this module does not need to know
        )

        return save(self, Path(folder))
