"""The two attentions of a DualFormer block: LW-MSA within local windows, GP-MSA over the global pyramid (section 3.2).

Both take and give tokens as ``B T H W C``, and both are standard multi-head self-attention; they differ in what a
query may look at.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.config import Scale, Size3, ceil_div
from dualformer.model.kernels.attention import scaled_dot_product
from dualformer.model.kernels.linear import Linear
from dualformer.model.position import RelativeBias
from dualformer.model.pyramid import Pyramid


class Attention(nn.Module):
    """softmax(q·kᵀ/√d)·v. A module without parameters, so that hooks can count and watch it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: float | None = None
        """What scores are multiplied by; None is 1/√d, and `DualFormer.fold` makes it 1."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """``q`` B h L d, ``k`` and ``v`` B h P d → B h L d; ``bias`` is added to the scores and broadcast to B h L P.

        A bias of minus infinity keeps a query from looking at a key.
        """
        return scaled_dot_product(q, k, v, bias, self.scale)


class WindowAttention(nn.Module):
    """LW-MSA (eq. 1): a token attends to the tokens of its own window; cost L·N·C instead of N²·C (eq. 2)."""

    def __init__(self, channels: int, heads: int, window: Size3, *, relative: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = Linear(channels, 3 * channels)
        self.bias = RelativeBias(heads, window) if relative else None
        self.attention = Attention()
        self.proj = Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        size = (x.shape[1], x.shape[2], x.shape[3])
        window = fitted_window(size, self.window)
        windows = into_windows(x, window)
        real = window_mask(size, window, x.device)
        out = self.attend(windows.flatten(0, 1), window, None if real is None else real.repeat(x.shape[0], 1, 1, 1))
        return from_windows(out.view(windows.shape), window, size)

    def attend(self, windows: Tensor, window: Size3, real: Tensor | None = None) -> Tensor:
        """Windows G L C, each to itself → G L C. ``real``, G 1 1 L: which tokens may be looked at (default: all)."""
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = self.attention(q, k, v, self._bias(window, real, q.dtype))
        return self.proj(out.transpose(1, 2).reshape(windows.shape))

    def _bias(self, window: Size3, real: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores: relative positions, and minus infinity where a window sticks out of the map."""
        bias = None if self.bias is None else self.bias(window)[None].to(dtype)
        if real is None:
            return bias
        outside = torch.zeros_like(real, dtype=dtype).masked_fill(~real, float("-inf"))
        return outside if bias is None else bias + outside


class PyramidAttention(nn.Module):
    """GP-MSA: every token is a query, the keys and values are the pyramid's priors; cost ≈ P·N·C (eq. 3).

    Without scales the keys and values are all the tokens: full attention, as in the last stage.
    """

    def __init__(self, channels: int, heads: int, map_size: Size3, scales: tuple[Scale, ...]) -> None:
        super().__init__()
        self.heads = heads
        self.q = Linear(channels, channels)
        self.pyramid = Pyramid(channels, map_size, scales) if scales else None
        self.kv = Linear(channels, 2 * channels)
        self.attention = Attention()
        self.proj = Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        k, v = self.keys_and_values(x)
        return self.attend(x.flatten(1, 3), k, v).view(x.shape)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map B T H W C → keys and values B h P d of the priors that all its tokens look at."""
        priors = x.flatten(1, 3) if self.pyramid is None else self.pyramid(x)
        k, v = self.kv(priors).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def attend(self, tokens: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Some tokens B L C, each to all keys → B L C."""
        q = self.q(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.proj(self.attention(q, k, v).transpose(1, 2).reshape(tokens.shape))


def fitted_window(size: Size3, window: Size3) -> Size3:
    """The window that cuts ``size`` into as many parts as ``window`` would, as evenly as can be.

    It is ``window`` itself where that divides the map, the whole map where the map is smaller, and in between it
    needs the least padding: 16 tokens are cut into 6 + 6 + 4 by windows of at most 7.
    """
    return ceil_div(size, ceil_div(size, window))


def into_windows(x: Tensor, window: Size3) -> Tensor:
    """B T H W C → B G L C; windows that stick out are filled with zeros (`window_mask` tells them apart)."""
    (t, h, w), (gt, gh, gw) = window, ceil_div((x.shape[1], x.shape[2], x.shape[3]), window)
    x = pad_to_windows(x, window)
    x = x.unflatten(3, (gw, w)).unflatten(2, (gh, h)).unflatten(1, (gt, t))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(x.shape[0], gt * gh * gw, t * h * w, x.shape[-1])


def pad_to_windows(x: Tensor, window: Size3) -> Tensor:
    """B T H W C with zeros behind its ends, so that windows fit; ``x`` itself where they do."""
    t, h, w = (-length % step for length, step in zip(x.shape[1:4], window, strict=True))
    return F.pad(x, (0, 0, 0, w, 0, h, 0, t)) if t or h or w else x


def from_windows(x: Tensor, window: Size3, size: Size3) -> Tensor:
    """B G L C → B T H W C, the inverse of `into_windows`."""
    gt, gh, gw = ceil_div(size, window)
    x = x.unflatten(2, window).unflatten(1, (gt, gh, gw)).permute(0, 1, 4, 2, 5, 3, 6, 7)
    x = x.flatten(5, 6).flatten(3, 4).flatten(1, 2)
    return x[:, : size[0], : size[1], : size[2]]


def window_mask(size: Size3, window: Size3, device: torch.device) -> Tensor | None:
    """Which keys are real and not padding, G 1 1 L; None where all are, as the windows fit the map."""
    if all(length % step == 0 for length, step in zip(size, window, strict=True)):
        return None
    real = torch.ones((1, *size, 1), dtype=torch.bool, device=device)
    return into_windows(real, window)[0, :, None, None, :, 0]
