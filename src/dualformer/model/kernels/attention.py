"""softmax(q·kᵀ/√d)·v, by PyTorch's fused kernel or by two matrix products with the weights in between."""

import logging
from functools import cache
from math import e, log2

import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.model.kernels.tracing import is_tracing

#: Scores (queries × keys of a head) up to which training may keep all weights in memory.
EXPLICIT_SCORES = 2**22
#: Weights (queries × keys × heads) that the explicit form computes at a time for inference: 4 MB of bfloat16.
_WEIGHTS_AT_ONCE = 2**21
#: Where a query's weights may sum up to before they are made to sum to 1. Far from both ends of bfloat16.
_SAFE_SUMS = (2.0**-90, 2.0**90)

_log = logging.getLogger("dualformer")


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    """softmax(q·kᵀ·scale + bias)·v: ``q`` B h L d, ``k`` and ``v`` B h P d → B h L d. ``scale``: None is 1/√d."""
    in_pieces = not (torch.is_grad_enabled() or is_tracing())
    fits = in_pieces or q.shape[2] * k.shape[2] <= EXPLICIT_SCORES
    explicit = q.dtype == torch.bfloat16 and q.device.type == "cpu"
    if q.device.type != "meta" and not is_tracing():
        _log_choice(q.device.type, str(q.dtype).removeprefix("torch."), explicit, fits)
    if not (explicit and fits):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    if in_pieces:
        return explicit_attention(q, k, v, bias, scale)
    if not is_tracing():
        # Copied head after head once here, not number by number by each of the products, forward and backward.
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return attention_weights(q, k, bias, scale) @ v


@cache
def _log_choice(device: str, dtype: str, explicit: bool, fits: bool) -> None:
    """Logs once which kernel computes attention and, where that was measured, why."""
    choice = "PyTorch's fused kernel"
    if explicit and fits:
        choice = "explicit, as PyTorch's fused kernel is the slower one there"
    elif explicit:
        choice += ", as in training the weights of so many tokens would take too much memory"
    elif device == "cpu":
        choice += ", which is the faster one there"
    _log.info("attention in %s on the %s: %s", dtype, device, choice)


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(q·kᵀ·scale + bias), B h L P: what every query looks at. ``scale``: by default 1/√d."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    return torch.softmax(scores if bias is None else scores + bias, dim=-1)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    """Attention by its weights, B h L d, for inference: as many weights at a time as the cache holds."""
    (clips, heads, queries, _), keys = q.shape, k.shape[2]
    step = max(1, _WEIGHTS_AT_ONCE // (heads * queries * keys))
    rows = max(1, _WEIGHTS_AT_ONCE // (heads * keys))
    out = torch.empty((clips, queries, heads, v.shape[3]), dtype=q.dtype, device=q.device).transpose(1, 2)
    for first in range(0, clips, step):
        some = slice(first, first + step)
        # Else each product would copy what does not lie head after head, and keys number by number.
        some_k, some_v = k[some].contiguous(), v[some].contiguous()
        here = None if bias is None else bias.expand(clips, heads, queries, keys)[some]
        for start in range(0, queries, rows):
            part = slice(start, start + rows)
            biased = None if here is None else here[:, :, part]
            _attend(q[some, :, part], some_k, some_v, biased, scale, out=out[some, :, part])
    return out


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float | None, *, out: Tensor) -> None:
    """Writes the attention of ``q`` B h L d to ``k`` and ``v`` B h P d, which lie head after head, into ``out``.

    As a softmax divides by the sum, so does this, but behind the second product, where there is less to divide.
    Powers of 2 are twice as fast as powers of e and, without the largest score taken off, take one pass less. Where
    that could matter, which the sums tell, softmax does it.
    """
    to_base_2 = log2(e) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scaled = torch.mul(q, to_base_2, out=q.new_empty(q.shape))
    powers = scaled @ k.transpose(-2, -1)
    if bias is not None:
        powers += bias * log2(e)
    sums = powers.exp2_().sum(dim=-1, keepdim=True)
    low, high = sums.aminmax()
    if _SAFE_SUMS[0] < float(low) and float(high) < _SAFE_SUMS[1]:
        torch.div(powers @ v, sums, out=out)
    else:
        out.copy_(attention_weights(q, k, bias, scale) @ v)
