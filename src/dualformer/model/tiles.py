"""Inference on a CPU, tile by tile: a sub-block runs all its layers on some thousand tokens, then on the next ones.

It computes what `SubBlock.forward` says, and that is what to read. One layer after the other on a whole map sends
temporaries of tens of megabytes to memory and back, while those of a tile stay in the cache, and are small enough to be
reused instead of being taken from the system anew. The tiles of LW-MSA are windows, which do not look at each other;
those of GP-MSA are queries, which look at the same priors. Threads take tiles one by one (`model/threads.py`).

Convolutions look over the edges of any tile, those of a C half two tokens far, so a stem and a C half are not cut: each
runs on a whole map, but of one clip at a time, so that a batch needs no larger temporaries than a clip.

A tile's result replaces its tokens in the map, which is why only a stage, whose own map it is, may call `run_layers`.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dualformer.model.attention import PyramidAttention, WindowAttention, fitted_window, pad_to_windows, window_mask
from dualformer.model.block import SubBlock
from dualformer.model.config import ceil_div
from dualformer.model.kernels.linear import linear, product_dtype
from dualformer.model.kernels.tracing import is_tracing
from dualformer.model.position import PositionEncoding
from dualformer.model.threads import map_pieces, thread_count

#: As many as eight windows of 8×7×7.
TOKENS_PER_TILE = 3136
#: In bfloat16 a tile of fewer channels than 256 has as many numbers as one of 256. In float32 that is no faster.
_CHANNELS_OF_BFLOAT16 = 256
#: As many as a thread is worth waking for, and frames that are not mostly the edges that their neighbours see.
_FEWEST_TOKENS, _FEWEST_FRAMES = 196, 4
#: Numbers as which a patch's row of so many bytes is copied: pixel by pixel takes several times as long.
_ROWS = {8: torch.int64, 16: torch.complex128}


def usable(stage: nn.Module, x: Tensor) -> bool:
    """Whether ``stage`` may run in tiles: for inference on a CPU, if nobody watches or traces it.

    Hooks within it want each layer's whole input and output; compilers and exporters want the plain graph.
    """
    if x.device.type != "cpu" or stage.training or torch.is_grad_enabled() or is_tracing():
        return False
    return not any(layer._forward_hooks or layer._forward_pre_hooks for layer in stage.modules() if layer is not stage)


def usable_for_patches(embedding: nn.Module, x: Tensor) -> bool:
    """Whether `project_patches` is usable, and ``x`` B C T H W is of pixels, not of tokens, whose C lies innermost."""
    return x.stride(1) != 1 and usable(embedding, x)


def run_layers(stage: Any, x: Tensor) -> Tensor:
    """Runs the layers of ``stage`` one after the other on a map B T H W C, which it writes over.

    Of maps that fill a tile each clip goes all the way alone: together they would only need more memory.
    """
    layers = stage.layers()
    # Under autocast norms and residuals are in float32, and linear layers and attention in bfloat16.
    x = x.float() if torch.is_autocast_enabled("cpu") else x.contiguous()
    for clips in x.split(max(1, TOKENS_PER_TILE // prod(x.shape[1:4]))):
        for layer in layers:
            if isinstance(layer, SubBlock) and isinstance(layer.attn, WindowAttention):
                _run_windows(layer, layer.attn, clips)
            elif isinstance(layer, SubBlock) and isinstance(layer.attn, PyramidAttention):
                _run_queries(layer, layer.attn, clips)
            elif isinstance(layer, PositionEncoding):
                _encode_places(layer, clips)
            else:
                clips.copy_(layer(clips))
    return x


def convolve_clips(stem: Any, x: Tensor) -> Tensor:
    """Runs a `ConvolutionalStem` on B C T H W → B T' H' W' C'; of maps that fill a tile each clip goes alone."""
    tokens = prod(ceil_div((x.shape[2], x.shape[3], x.shape[4]), stem.patch))
    maps = [stem.convolve(clips) for clips in x.split(max(1, TOKENS_PER_TILE // tokens))]
    return maps[0] if len(maps) == 1 else torch.cat(maps)


def project_patches(embedding: Any, x: Tensor) -> Tensor:
    """Projects the patches that divide B C T H W to tokens B T' H' W' C', some frames at a time.

    A convolution whose kernel is its stride is a linear layer on the pixels of each patch.
    """
    proj, pixels = embedding.proj, x.to(product_dtype(x))
    _, _, t, h, w = proj.weight.shape
    row = _ROWS.get(w * pixels.element_size())
    if row is not None and pixels.is_contiguous() and pixels.storage_offset() % w == 0:
        pixels, w = pixels.view(row), 1
    patches = pixels.unflatten(4, (-1, w)).unflatten(3, (-1, h)).unflatten(2, (-1, t)).permute(0, 2, 4, 6, 1, 3, 5, 7)

    def project(tile: tuple[slice, ...]) -> Tensor:
        tokens = patches[tile].flatten(4).view(product_dtype(x))
        return embedding.norm(linear(tokens, proj.weight.flatten(1), proj.bias))

    out = project((slice(0),)).new_empty(*patches.shape[:4], proj.out_channels)
    map_pieces(
        lambda tile: out[tile].copy_(project(tile)),
        _tiles(patches.shape[:2], prod(patches.shape[2:4]), most=TOKENS_PER_TILE),
    )
    return out


def _run_windows(sub_block: SubBlock, attention: WindowAttention, x: Tensor) -> None:
    """Writes ``sub_block(x)`` over ``x``, in tiles of whole windows."""
    size = (x.shape[1], x.shape[2], x.shape[3])
    window = fitted_window(size, attention.window)
    (t, h, w), grid, length = window, ceil_div(size, window), prod(window)
    padded, real = pad_to_windows(x, window), window_mask(size, window, x.device)
    cells = padded.unflatten(3, (-1, w)).unflatten(2, (-1, h)).unflatten(1, (-1, t)).permute(0, 1, 3, 5, 2, 4, 6, 7)

    def run(tile: tuple[slice, ...]) -> None:
        tokens = cells[tile].reshape(-1, length, x.shape[-1])
        if real is None:
            attended = attention.attend(sub_block.norm1(tokens), window)
        else:
            here = real.unflatten(0, grid)[tile[1:]].flatten(0, 2)
            attended = attention.attend(sub_block.norm1(tokens), window, here.repeat(len(tokens) // len(here), 1, 1, 1))
        tokens = tokens + attended
        tokens += _mlp(sub_block, tokens)
        cells[tile] = tokens.view(cells[tile].shape)

    map_pieces(run, _tiles((len(x), *grid), length, most=_most_tokens(x)))
    if padded is not x:
        x.copy_(padded[:, : size[0], : size[1], : size[2]])


def _run_queries(sub_block: SubBlock, attention: PyramidAttention, x: Tensor) -> None:
    """Writes ``sub_block(x)`` over ``x``: keys and values of the whole map once, then tiles of queries."""
    normed = sub_block.norm1(x)
    k, v = attention.keys_and_values(normed)
    tokens, queries = x.flatten(1, 3), normed.flatten(1, 3)

    def run(at: tuple[slice, ...]) -> None:
        tile, (clips, _) = tokens[at], at
        tile += attention.attend(queries[at], k[clips], v[clips])
        tile += _mlp(sub_block, tile)

    map_pieces(run, _tiles(tokens.shape[:2], 1, most=_most_tokens(x)))


def _encode_places(encoding: PositionEncoding, x: Tensor) -> None:
    """Adds the position encoding to ``x``. Each thread takes some frames, and looks at those beside them."""
    reach, frames = encoding.conv.kernel_size[0] // 2, x.shape[1]
    count = max(1, min(thread_count(), frames // _FEWEST_FRAMES))
    bounds = [frames * number // count for number in range(count + 1)]

    def encode(tile: tuple[int, int]) -> Tensor:
        first, last = tile
        before, after = min(reach, first), min(reach, frames - last)
        encoded = encoding.encoding(x[:, first - before : last + after])
        return encoded[:, before : encoded.shape[1] - after]

    tiles = list(pairwise(bounds))
    for (first, last), encoded in zip(tiles, map_pieces(encode, tiles), strict=True):
        x[:, first:last] += encoded


def _mlp(sub_block: SubBlock, tokens: Tensor) -> Tensor:
    hidden = sub_block.mlp.fc1(sub_block.norm2(tokens))
    torch.ops.aten.gelu.out(hidden, out=hidden)
    return sub_block.mlp.fc2(hidden)


def _most_tokens(x: Tensor) -> int:
    """Returns how many tokens of the map B T H W C a tile of all layers of a half has at most."""
    wide = max(1, _CHANNELS_OF_BFLOAT16 // x.shape[-1]) if product_dtype(x) == torch.bfloat16 else 1
    return wide * TOKENS_PER_TILE


def _tiles(shape: tuple[int, ...], tokens: int, *, most: int) -> list[tuple[slice, ...]]:
    """Cuts a box of ``shape``, each entry of which is so many ``tokens``, into tiles of at ``most`` so many, enough for
    all threads."""
    threads = thread_count()
    if threads > 1:
        most = min(most, max(_FEWEST_TOKENS, -(-prod(shape) * tokens // threads)))
    return list(pieces(shape, max(1, most // tokens)))


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
