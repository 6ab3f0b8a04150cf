"""Checks a Grad-CAM map by deletion: without its hottest places, the class must become less likely.

The hottest tenth of the clip's space and time is replaced by the same frame, blurred to 4 × 4 patches of colour. A flat
colour would add sharp edges, and one that follows what moves would move like it. For comparison, a tenth at a random
place is deleted, several times: the same shape, rolled in space and time, so that only its place differs.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dualformer.explain.explanation import DeletionCheck, Explanation
from dualformer.inference.recognizer import Recognizer

_PATCHES = 4


def check_deletion(
    recognizer: Recognizer, explanation: Explanation, *, share: float = 0.1, draws: int = 8, seed: int = 0
) -> DeletionCheck:
    """Deletes the hottest ``share`` of a clip, or all that speaks for the class if that is less, and as much at
    ``draws`` random places.

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
    mask = torch.from_numpy(hottest_mask(heat, share))
    rng = np.random.default_rng(seed)
    masks = torch.stack([torch.zeros_like(mask), mask, *(_rolled(mask, rng) for _ in range(draws))])
    views = torch.where(masks[..., None], blur(view), view)
    whole, hottest, *random = recognizer.predict_views(views)[:, recognizer.labels.index(explanation.label)].tolist()
    return DeletionCheck(share=float(mask.float().mean()), whole=whole, hottest=hottest, random=tuple(random))


def hottest_mask(heat: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Returns the mask (T, h, w) of the hottest ``share`` of a map; it never covers what is 0."""
    count = max(1, round(share * heat.size))
    order = np.argsort(-heat, axis=None, kind="stable")[:count]
    mask = np.zeros(heat.shape, dtype=bool)
    mask.reshape(-1)[order] = True
    return mask & (heat > 0)


def blur(view: Tensor) -> Tensor:
    """Blurs frames uint8 (T, h, w, 3) to ``_PATCHES`` × ``_PATCHES`` mean colours each."""
    planes = view.permute(0, 3, 1, 2).float()
    patches = F.interpolate(planes, size=(_PATCHES, _PATCHES), mode="area")
    smooth = F.interpolate(patches, size=view.shape[1:3], mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8)


def _rolled(mask: Tensor, rng: np.random.Generator) -> Tensor:
    return mask.roll([int(rng.integers(length)) for length in mask.shape], dims=(0, 1, 2))
