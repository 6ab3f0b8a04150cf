"""Inference on a CPU, tile by tile: the layers of a half run on some thousand tokens before they go on to the next.

What is computed is `SubBlock.forward`, and that is what to read. Here its layers are called in another order: one layer
after the other on a whole map sends temporaries of tens of megabytes to memory and back, while those of a tile stay in
the cache, and are small enough to be reused instead of being taken from the system anew. The tiles of a local half are
windows, which do not look at each other; those of a global half are queries, which look at the same priors.

A tile's result replaces its tokens in the map, which is why only a stage, whose own map it is, may call `run_layers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.attention import PyramidAttention, WindowAttention, fitted_window, window_mask
from dualformer.model.block import SubBlock
from dualformer.model.config import Size3, ceil_div
from dualformer.model.kernels.linear import linear
from dualformer.model.kernels.tracing import is_tracing
from dualformer.model.position import PositionEncoding

#: Tokens of a tile: eight windows of 8×7×7.
TOKENS = 3136


def usable(stage: nn.Module, x: Tensor) -> bool:
    """Whether the halves of ``stage`` may run in tiles: for inference on a CPU that nobody watches or translates.

    Hooks within the stage want each layer's whole input and output; compilers and exporters want the plain graph.
    """
    if x.device.type != "cpu" or stage.training or torch.is_grad_enabled() or is_tracing():
        return False
    return not any(layer._forward_hooks or layer._forward_pre_hooks for layer in stage.modules() if layer is not stage)


def run_layers(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """One layer of a stage after the other, in eval mode, on a map B T H W C, which is written over.

    Of maps that fill a tile each clip goes all the way alone: together they would only need more memory.
    """
    # Under autocast norms and residuals are in float32, and linear layers and attention in bfloat16.
    x = x.float() if torch.is_autocast_enabled("cpu") else x.contiguous()
    for clips in x.split(max(1, TOKENS // prod(x.shape[1:4]))):
        for layer in layers:
            if isinstance(layer, SubBlock) and isinstance(layer.attn, WindowAttention):
                _run_windows(layer, layer.attn, clips)
            elif isinstance(layer, SubBlock) and isinstance(layer.attn, PyramidAttention):
                _run_queries(layer, layer.attn, clips)
            elif isinstance(layer, PositionEncoding):
                clips += layer.encoding(clips)
            else:
                clips.copy_(layer(clips))
    return x


def run_patches(proj: nn.Conv3d, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(proj(x))``, B C T H W → B T' H' W' C', of pixels that patches divide: ``proj`` has its kernel as stride.

    It takes some frames at a time, as a linear layer on the pixels of each patch.
    """
    _, _, t, h, w = proj.weight.shape
    patches = x.unflatten(4, (-1, w)).unflatten(3, (-1, h)).unflatten(2, (-1, t)).permute(0, 2, 4, 6, 1, 3, 5, 7)
    out: Tensor | None = None
    for tile in pieces(patches.shape[:2], max(1, TOKENS // prod(patches.shape[2:4]))):
        tokens: Tensor = norm(linear(patches[tile].flatten(4), proj.weight.flatten(1), proj.bias))
        if out is None:
            out = tokens.new_empty(*patches.shape[:4], proj.out_channels)
        out[tile] = tokens
    assert out is not None
    return out


def _run_windows(half: SubBlock, attention: WindowAttention, x: Tensor) -> None:
    """A local half: tiles of whole windows."""
    size = (x.shape[1], x.shape[2], x.shape[3])
    window = fitted_window(size, attention.window)
    (t, h, w), grid, length = window, ceil_div(size, window), prod(window)
    padded, real = _padded(x, window, grid), window_mask(size, window, x.device)
    cells = padded.unflatten(3, (-1, w)).unflatten(2, (-1, h)).unflatten(1, (-1, t)).permute(0, 1, 3, 5, 2, 4, 6, 7)
    for tile in pieces((len(x), *grid), max(1, TOKENS // length)):
        tokens = cells[tile].reshape(-1, length, x.shape[-1])
        if real is None:
            attended = attention.attend(half.norm1(tokens), window)
        else:
            here = real.unflatten(0, grid)[tile[1:]].flatten(0, 2)
            attended = attention.attend(half.norm1(tokens), window, here.repeat(len(tokens) // len(here), 1, 1, 1))
        tokens = tokens + attended
        tokens += _mlp(half, tokens)
        cells[tile] = tokens.view(cells[tile].shape)
    if padded is not x:
        x.copy_(padded[:, : size[0], : size[1], : size[2]])


def _run_queries(half: SubBlock, attention: PyramidAttention, x: Tensor) -> None:
    """A global half: keys and values of the whole map once, then tiles of queries."""
    normed = half.norm1(x)
    k, v = attention.keys_and_values(normed)
    tokens, queries = x.flatten(1, 3), normed.flatten(1, 3)
    for clips, places in pieces(tokens.shape[:2], TOKENS):
        tile = tokens[clips, places]
        tile += attention.attend(queries[clips, places], k[clips], v[clips])
        tile += _mlp(half, tile)


def _mlp(half: SubBlock, tokens: Tensor) -> Tensor:
    hidden = half.mlp.fc1(half.norm2(tokens))
    torch.ops.aten.gelu.out(hidden, out=hidden)
    return half.mlp.fc2(hidden)


def pieces(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Cuts a box of ``shape`` into boxes of at most ``most`` entries, as even as can be, each one piece of memory."""
    inner = prod(shape[1:])
    if inner > most:
        for index in range(shape[0]):
            for rest in pieces(shape[1:], most):
                yield (slice(index, index + 1), *rest)
        return
    count = -(-shape[0] // (most // inner))
    step = -(-shape[0] // count)
    for start in range(0, shape[0], step):
        yield (slice(start, start + step), *(slice(None) for _ in shape[1:]))


def _padded(x: Tensor, window: Size3, grid: Size3) -> Tensor:
    """``x`` itself where the windows fit, else a copy with zeros behind its ends."""
    t, h, w = (count * step - length for count, step, length in zip(grid, window, x.shape[1:4], strict=True))
    return F.pad(x, (0, 0, 0, w, 0, h, 0, t)) if t or h or w else x
