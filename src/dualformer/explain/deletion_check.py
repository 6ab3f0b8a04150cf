"""The check that a map is the network's and no decoration: without its hottest places, the class is less likely.

Deleted is the hottest tenth of the clip's space and time: in its place stands the same frame, blurred to 4 × 4 patches
of colour. A flat colour would be a thing of its own with sharp edges, and one that follows what moves moves like it.
What is compared is a tenth at random, drawn several times: the very same shape, moved to another place in space and
time (what leaves the clip on one side comes in on the other), so that nothing but its place can make the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dualformer.inference.recognizer import Recognizer

if TYPE_CHECKING:
    from dualformer.explain.explanation import Explanation

_PATCHES = 4


@dataclass(frozen=True, kw_only=True)
class DeletionCheck:
    """Probabilities of the class that is explained, for the clip alone."""

    share: float
    """How much of the clip was deleted."""
    whole: float
    """Of the clip as it is."""
    hottest: float
    """Without its hottest part."""
    random: tuple[float, ...]
    """Without as much of it at random places."""

    @property
    def drop(self) -> float:
        """What deleting the hottest part costs."""
        return self.whole - self.hottest

    @property
    def random_drop(self) -> float:
        """What deleting random parts costs on average."""
        return self.whole - float(np.mean(self.random))

    @property
    def passed(self) -> bool:
        """Whether the hottest part is worth more than random ones. A single clip may fail by chance; many do not."""
        return self.drop > self.random_drop

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {
            "share": self.share,
            "whole": self.whole,
            "hottest": self.hottest,
            "random": list(self.random),
            "passed": self.passed,
        }

    def __str__(self) -> str:
        low, high = min(self.random), max(self.random)
        return (
            f"{self.whole:.1%} as it is, {self.hottest:.1%} without its hottest {self.share:.0%}, "
            f"{np.mean(self.random):.1%} without {self.share:.0%} elsewhere ({len(self.random)} draws: {low:.1%} to "
            f"{high:.1%})"
        )


def check_deletion(
    recognizer: Recognizer, explanation: Explanation, *, share: float = 0.1, draws: int = 8, seed: int = 0
) -> DeletionCheck:
    """Deletes the hottest ``share`` of a clip, and as much at ``draws`` random places.

    Errors: ``ValueError`` for a share outside 0..1, for no draws, for another method than Grad-CAM (attention is no
    evidence for a class), and for a map in which nothing speaks for the class.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    if explanation.method != "gradcam":
        raise ValueError(f"{explanation.method} shows no evidence for a class that could be deleted: check gradcam")
    heat = explanation.map
    if not heat.any():
        raise ValueError(f"nothing in the clip speaks for {explanation.label!r}, so there is nothing to delete")
    view = explanation.clip.view
    mask = torch.from_numpy(hottest_part(heat, share))
    rng = np.random.default_rng(seed)
    masks = torch.stack([torch.zeros_like(mask), mask, *(_moved(mask, rng) for _ in range(draws))])
    views = torch.where(masks[..., None], blurred(view), view)
    of_class = recognizer.predict_views(views)[:, recognizer.labels.index(explanation.label)].tolist()
    whole, hottest, *random = of_class
    return DeletionCheck(share=share, whole=whole, hottest=hottest, random=tuple(random))


def hottest_part(heat: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Where (T, h, w) the hottest ``share`` of a map lies; less of it where the map is 0 outside less."""
    count = max(1, round(share * heat.size))
    order = np.argsort(-heat, axis=None, kind="stable")[:count]
    part = np.zeros(heat.shape, dtype=bool)
    part.reshape(-1)[order] = True
    return part & (heat > 0)


def blurred(view: Tensor) -> Tensor:
    """Frames uint8 (T, h, w, 3) of which nothing but ``_PATCHES`` × ``_PATCHES`` mean colours are left."""
    planes = view.permute(0, 3, 1, 2).float()
    patches = F.interpolate(planes, size=(_PATCHES, _PATCHES), mode="area")
    smooth = F.interpolate(patches, size=view.shape[1:3], mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8)


def _moved(mask: Tensor, rng: np.random.Generator) -> Tensor:
    return mask.roll([int(rng.integers(length)) for length in mask.shape], dims=(0, 1, 2))
