"""The two attentions of a DualFormer block: LW-MSA within local windows, GP-MSA over the global pyramid (section 3.2).

Both take and give tokens as ``B T H W C``, and both are standard multi-head self-attention; they differ in what a
query may look at.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Scale, Size3, ceil_div
from dualformer.model.position import RelativeBias
from dualformer.model.pyramid import Pyramid


class Attention(nn.Module):
    """softmax(q·kᵀ/√d)·v. A module without parameters, so that hooks can count and watch it."""

    #: Scores (queries × keys of a head) up to which the explicit form may keep them all in memory.
    EXPLICIT_SCORES = 2**22

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """``q`` B h L d, ``k`` and ``v`` B h P d → B h L d; ``bias`` is added to the scores and broadcast to B h L P.

        A bias of minus infinity keeps a query from looking at a key.
        """
        if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.shape[2] * k.shape[2] <= self.EXPLICIT_SCORES:
            # PyTorch's fused kernel is the slower one here, in training above all: docs/experiments.md.
            return attention_weights(q, k, bias) @ v
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√d + bias), B h L P: what every query looks at."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return torch.softmax(scores if bias is None else scores + bias, dim=-1)


class WindowAttention(nn.Module):
    """LW-MSA (eq. 1): a token attends to the tokens of its own window; cost L·N·C instead of N²·C (eq. 2)."""

    def __init__(self, channels: int, heads: int, window: Size3, *, relative: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(channels, 3 * channels)
        self.bias = RelativeBias(heads, window) if relative else None
        self.attention = Attention()
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        size = (x.shape[1], x.shape[2], x.shape[3])
        window = fitted_window(size, self.window)
        windows = into_windows(x, window)
        # PyTorch's fused kernels take four dimensions: windows join the batch.
        q, k, v = self.qkv(windows.flatten(0, 1)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = self.attention(q, k, v, self._bias(size, window, q, clips=x.shape[0]))
        out = self.proj(out.transpose(1, 2).reshape(windows.shape))
        return from_windows(out, window, size)

    def _bias(self, size: Size3, window: Size3, q: Tensor, *, clips: int) -> Tensor | None:
        """What is added to the scores: relative positions, and minus infinity where a window sticks out of the map."""
        bias = None if self.bias is None else self.bias(window)[None].to(q.dtype)
        real = window_mask(size, window, q.device)
        if real is None:
            return bias
        outside = torch.zeros_like(real, dtype=q.dtype).masked_fill(~real, float("-inf")).repeat(clips, 1, 1, 1)
        return outside if bias is None else bias + outside


class PyramidAttention(nn.Module):
    """GP-MSA: every token is a query, the keys and values are the pyramid's priors; cost ≈ P·N·C (eq. 3).

    Without scales the keys and values are all the tokens: full attention, as in the last stage.
    """

    def __init__(self, channels: int, heads: int, map_size: Size3, scales: tuple[Scale, ...]) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.pyramid = Pyramid(channels, map_size, scales) if scales else None
        self.kv = nn.Linear(channels, 2 * channels)
        self.attention = Attention()
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        priors = x.flatten(1, 3) if self.pyramid is None else self.pyramid(x)
        q = self.q(x.flatten(1, 3)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(priors).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = self.attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(x.shape))


def fitted_window(size: Size3, window: Size3) -> Size3:
    """The window that cuts ``size`` into as many parts as ``window`` would, as evenly as can be.

    It is ``window`` itself where that divides the map, the whole map where the map is smaller, and in between it
    needs the least padding: 16 tokens are cut into 6 + 6 + 4 by windows of at most 7.
    """
    return ceil_div(size, ceil_div(size, window))


def into_windows(x: Tensor, window: Size3) -> Tensor:
    """B T H W C → B G L C; windows that stick out are filled with zeros (`window_mask` tells them apart)."""
    size = (x.shape[1], x.shape[2], x.shape[3])
    (t, h, w), (gt, gh, gw) = window, ceil_div(size, window)
    if (gt * t, gh * h, gw * w) != size:  # padding by nothing would copy
        x = F.pad(x, (0, 0, 0, gw * w - size[2], 0, gh * h - size[1], 0, gt * t - size[0]))
    x = x.unflatten(3, (gw, w)).unflatten(2, (gh, h)).unflatten(1, (gt, t))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(x.shape[0], gt * gh * gw, t * h * w, x.shape[-1])


def from_windows(x: Tensor, window: Size3, size: Size3) -> Tensor:
    """B G L C → B T H W C, the inverse of `into_windows`."""
    gt, gh, gw = ceil_div(size, window)
    x = x.unflatten(2, window).unflatten(1, (gt, gh, gw)).permute(0, 1, 4, 2, 5, 3, 6, 7)
    x = x.flatten(5, 6).flatten(3, 4).flatten(1, 2)
    return x[:, : size[0], : size[1], : size[2]]


def window_mask(size: Size3, window: Size3, device: torch.device) -> Tensor | None:
    """Which keys are real, G 1 1 L; None where windows tile the map, which is the plain and faster case."""
    if all(length % step == 0 for length, step in zip(size, window, strict=True)):
        return None
    real = torch.ones((1, *size, 1), dtype=torch.bool, device=device)
    return into_windows(real, window)[0, :, None, None, :, 0]
