"""Makes labels of tokens: of a student's from a teacher's scores (token labelling, Jiang et al., 2021; section 4.1), of
any from what a renderer knows, and of steps in time from segments."""

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


def map_targets(classes: Tensor, tokens: torch.Size, quarters: int) -> Tensor:
    """Returns the class in the middle of each quarter of a token, B T' H' W' quarters², int64, for T' H' W' ``tokens``.

    ``classes`` B T h w.
    """
    for dim, count in zip((1, 2, 3), (tokens[0], tokens[1] * quarters, tokens[2] * quarters), strict=True):
        size = classes.shape[dim]
        middles = ((torch.arange(count, device=classes.device) + 0.5) * size / count).long()
        classes = classes.index_select(dim, middles)
    _, h, w = tokens
    return classes.long().unflatten(3, (w, quarters)).unflatten(2, (h, quarters)).permute(0, 1, 2, 4, 3, 5).flatten(4)


def motion_targets(moving: Tensor, velocity: Tensor, tokens: torch.Size, quarters: int) -> Tensor:
    """Returns what each quarter of a token shows, B T' H' W' (quarters² · 3), for T' H' W' ``tokens``.

    That is the part of it that the actor covers, and that part's velocity divided by 3. ``moving`` B T h w,
    ``velocity`` B T h w 2 (pixels per frame).
    """
    t, h, w = tokens
    cells = torch.cat([moving[..., None], velocity * moving[..., None] / 3], dim=-1).permute(0, 4, 1, 2, 3)
    pooled = F.adaptive_avg_pool3d(cells, (t, h * quarters, w * quarters))
    return pooled.unflatten(4, (w, quarters)).unflatten(3, (h, quarters)).permute(0, 2, 3, 5, 4, 6, 1).flatten(4)


def step_targets(moments: Tensor, steps: int, *, multi_label: bool) -> Tensor:
    """Returns what is true at the ``steps`` in time of clips, all of them in a row, by the shares of ``moments`` B T
    classes that each class has: the class that has the most, B·T* int64, or of several labels zeros and ones B·T*
    classes: which of them have at least half.
    """
    shares = F.adaptive_avg_pool1d(moments.transpose(1, 2), steps).transpose(1, 2).flatten(0, 1)
    return (shares >= 0.5).float() if multi_label else shares.argmax(dim=1)
