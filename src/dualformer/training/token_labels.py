"""Token labelling (Jiang et al., 2021; section 4.1): makes labels of a student's tokens from a teacher's scores."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.model.config import Size3
from dualformer.training.settings.teacher_settings import Rest


def top_distribution(scores: Tensor, k: int, *, rest: Rest = "none") -> Tensor:
    """Returns for scores (logits) … C a distribution … C over the ``k`` highest, in the proportions of their softmax.

    With ``rest="zero"`` the others' scores become 0 before the softmax, as in the authors' code: next to scores around
    0, each of the many others then has about as much as one of the ``k``.
    """
    highest = scores.topk(min(k, scores.shape[-1]), dim=-1)
    return spread(highest.values, highest.indices, scores.shape[-1], rest=rest)


def spread(values: Tensor, classes: Tensor, count: int, *, rest: Rest = "none") -> Tensor:
    """Returns for the highest scores … k and their classes the distribution … ``count`` of `top_distribution`.

    Class -1 is none of the ``count`` and gets nothing; a token that has no other is all zeros.
    """
    known = classes >= 0
    if rest == "zero":
        full = torch.zeros(*values.shape[:-1], count, dtype=values.dtype, device=values.device)
        return full.scatter_add(-1, classes.clamp_min(0), values * known).softmax(dim=-1)
    parts = values.masked_fill(~known, -torch.inf).softmax(dim=-1).nan_to_num(0.0)
    full = torch.zeros(*values.shape[:-1], count, dtype=values.dtype, device=values.device)
    return full.scatter_add(-1, classes.clamp_min(0), parts)


def fit_map(scores: Tensor, size: Size3) -> Tensor:
    """Returns a teacher's token map B t h w C as B T H W C for a student with a map of ``size``.

    Where the teacher has more tokens along an axis, those that fall into the student's are averaged (neighbouring
    frames, not every second one); where it has fewer, it is interpolated between their centres.
    """
    maps = scores.permute(0, 4, 1, 2, 3)
    t, h, w = (min(own, wanted) for own, wanted in zip(maps.shape[2:], size, strict=True))
    if (t, h, w) != maps.shape[2:]:
        maps = F.adaptive_avg_pool3d(maps, (t, h, w))
    if (t, h, w) != size:
        maps = F.interpolate(maps, size=size, mode="trilinear", align_corners=False)
    return maps.permute(0, 2, 3, 4, 1)
