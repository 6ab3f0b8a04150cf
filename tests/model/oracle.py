"""DualFormer once more, straight from section 3 of the paper: obviously right instead of fast.

It shares the config's types and the names of the weights with `dualformer.model`, and nothing else. Windows, patches
and cells are cut out of the map one by one, those at its end simply have fewer tokens, so there is no padding
anywhere; softmax, norms, convolutions and resampling are sums written out. Everything is plain PyTorch, so gradients
come along. Maps are ``B T H W C``; what runs on them takes its weights as a dict, ``norm.weight`` → tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache, partial
from itertools import product
from math import sqrt

import torch
from torch import Tensor

from dualformer.model.config import Config, Scale, Size3, Stage

Weights = Mapping[str, Tensor]


def dualformer(config: Config, state: Weights, video: Tensor, *, training: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Figure 3: ``B 3 T H W`` → logits (pooled features without classes) and the map ``B C T H W`` of every stage.

    ``training`` takes the batch's own statistics in BatchNorm; dropout and stochastic depth are not part of this.
    """
    x = video.permute(0, 2, 3, 4, 1)
    maps, built_for = [], config.clip
    for number, stage in enumerate(config.stages):
        built_for = whole_steps(built_for, stage.patch)
        x = run_stage(x, below(state, f"stages.{number}"), stage, config, built_for, training)
        maps.append(x.permute(0, 4, 1, 2, 3))
    pooled = layer_norm(x, below(state, "norm")).mean(dim=(1, 2, 3))
    return (linear(pooled, below(state, "head")) if config.num_classes else pooled), maps


def run_stage(x: Tensor, w: Weights, stage: Stage, config: Config, built_for: Size3, training: bool) -> Tensor:
    """Patch embedding, then blocks of one or two halves. ``built_for`` is this stage's map of the config's clip."""
    heads = stage.channels // config.head_dim
    if stage.embedding == "convolutions":
        x = stem(x, below(w, "embed"), stage, 1 if max(stage.patch[0], built_for[0]) == 1 else 3, training)
    else:
        check_shape(w["embed.proj.weight"], (stage.channels, x.shape[-1], *stage.patch))
        x = convolve_cells(x, below(w, "embed.proj"), w["embed.proj.weight"], depthwise=False)
    x = layer_norm(x, below(w, "embed.norm"))
    if config.position == "absolute":
        x = x + absolute_position(below(w, "table"), size_of(x), built_for)
    for block, (second, kind) in product(range(stage.depth), enumerate(stage.kinds)):
        half = below(w, f"blocks.{block}.{second}")
        if kind == "C":
            x = x + c_half(x, below(half, "branch"), stage, config.mlp_ratio, 1 if built_for[0] == 1 else 3, training)
        else:
            normed = layer_norm(x, below(half, "norm1"))
            if kind == "L":
                attended = lw_msa(normed, below(half, "attn"), heads, stage.window, config.position == "relative")
            else:
                attended = gp_msa(normed, below(half, "attn"), heads, stage.scales, built_for, training)
            x = x + attended  # eq. 1
            x = x + mlp(layer_norm(x, below(half, "norm2")), below(half, "mlp"))
        if config.position == "peg" and (block, second) == (0, 0):
            x = x + convolve_around(x, below(w, "position.conv"), (1 if built_for[0] == 1 else 3, 3, 3))  # eq. 4
    return x


# The two attentions (section 3.2)


def lw_msa(x: Tensor, w: Weights, heads: int, window: Size3, relative: bool) -> Tensor:
    """Self-attention within windows of the size that cuts the map into as many parts as ``window`` would."""
    fitted = whole_steps(size_of(x), whole_steps(size_of(x), window))

    def attend(tokens: Tensor) -> Tensor:
        q, k, v = linear(tokens.flatten(1, 3), below(w, "qkv")).chunk(3, dim=-1)
        bias = relative_bias(w["bias.table"], size_of(tokens), window) if relative else [0.0] * heads
        return linear(msa(q, k, v, bias), below(w, "proj")).view_as(tokens)

    return cell_by_cell(x, fitted, attend)


def gp_msa(x: Tensor, w: Weights, heads: int, scales: tuple[Scale, ...], built_for: Size3, training: bool) -> Tensor:
    """Every token attends to the priors of all scales or, where there are no scales, to every token."""
    tokens = x.flatten(1, 3)
    priors = pyramid(x, below(w, "pyramid"), scales, built_for, training) if scales else tokens
    k, v = linear(priors, below(w, "kv")).chunk(2, dim=-1)
    out = msa(linear(tokens, below(w, "q")), k, v, [0.0] * heads)
    return linear(out, below(w, "proj")).view_as(x)


def msa(q: Tensor, k: Tensor, v: Tensor, bias: list[Tensor] | list[float]) -> Tensor:
    """softmax(q·kᵀ/√d + bias)·v, head after head; ``q`` B L C, ``k`` and ``v`` B P C."""
    out = []
    for q1, k1, v1, bias1 in zip(*(part.chunk(len(bias), dim=-1) for part in (q, k, v)), bias, strict=True):
        scores = q1 @ k1.transpose(1, 2) / sqrt(q1.shape[-1]) + bias1
        exponentials = torch.exp(scores - scores.detach().amax(dim=-1, keepdim=True))
        out.append(exponentials / exponentials.sum(dim=-1, keepdim=True) @ v1)
    return torch.cat(out, dim=-1)


# The global pyramid (section 3.2, figure 4)


def pyramid(x: Tensor, w: Weights, scales: tuple[Scale, ...], built_for: Size3, training: bool) -> Tensor:
    """The priors of one scale after the other, B P C, normalised together."""
    priors = [
        pyramid_scale(x, below(w, f"scales.{number}"), scale, built_for, training).flatten(1, 3)
        for number, scale in enumerate(scales)
    ]
    return layer_norm(torch.cat(priors, dim=1), below(w, "norm"))


def pyramid_scale(x: Tensor, w: Weights, scale: Scale, built_for: Size3, training: bool) -> Tensor:
    """One scale: the map as B t h w C, at most as large as its grid."""
    for axis, (length, cells) in enumerate(zip(size_of(x), scale.grid, strict=True), 1):
        x = resample_mean(x, axis, min(cells, length) * max(1, length // cells))
    cell, built_cell = cell_of(size_of(x), scale.grid), cell_of(built_for, scale.grid)
    if scale.function == "average":
        return cell_by_cell(x, cell, lambda tokens: tokens.mean(dim=(1, 2, 3), keepdim=True))
    convolve = partial(fitted_convolution, depthwise=scale.function == "depthwise")
    if not scale.factorised:
        return convolve(x, below(w, "conv"), cell, built_cell)
    x = convolve(x, below(w, "space"), first_of(cell), first_of(built_cell))
    x = batch_norm(x, below(w, "norm"), training).clamp(min=0)
    return convolve(x, below(w, "rest"), rest_of(cell), rest_of(built_cell))


def fitted_convolution(x: Tensor, w: Weights, kernel: Size3, built_kernel: Size3, *, depthwise: bool) -> Tensor:
    """Kernel = stride = ``kernel``, with weights that were cut for ``built_kernel``."""
    check_shape(w["weight"], (x.shape[-1], 1 if depthwise else x.shape[-1], *built_kernel))
    weight = w["weight"]
    for axis, length in enumerate(kernel, 2):
        weight = resample_sum(weight, axis, length)
    return convolve_cells(x, w, weight, depthwise=depthwise)


def cell_of(size: Size3, grid: Size3) -> Size3:
    t, h, w = (max(1, length // cells) for length, cells in zip(size, grid, strict=True))
    return t, h, w


def first_of(cell: Size3) -> Size3:
    """What the first, spatial convolution of a factorised scale takes."""
    _, h, w = cell
    return 1, 7 if h % 7 == 0 else h, 7 if w % 7 == 0 else w


def rest_of(cell: Size3) -> Size3:
    t, h, w = (side // taken for side, taken in zip(cell, first_of(cell), strict=True))
    return t, h, w


# Position (section 3.2 and table 7)


def absolute_position(w: Weights, size: Size3, built_for: Size3) -> Tensor:
    """A vector for every place and one for every moment: T H W C."""
    channels = w["space"].shape[-1]
    check_shape(w["space"], (1, *built_for[1:], channels))
    check_shape(w["time"], (built_for[0], 1, 1, channels))
    space = interpolate(interpolate(w["space"], 1, size[1]), 2, size[2])
    return space + interpolate(w["time"], 0, size[0])


def relative_bias(table: Tensor, size: Size3, window: Size3) -> list[Tensor]:
    """For each head, what is added to the score of every query (row) and key (column) of a window of ``size``."""
    check_shape(table, (*(2 * length - 1 for length in window), table.shape[-1]))
    entries = relative_entries(size, window)
    return [head.flatten()[entries] for head in table.unbind(-1)]


@cache
def relative_entries(size: Size3, window: Size3) -> Tensor:
    """L L: number of the table's entry for every query and key, counted in the table's T H W order."""
    places = list(product(*map(range, size)))
    rows = []
    for query in places:
        row = []
        for key in places:
            t, h, w = (a - b + length - 1 for a, b, length in zip(query, key, window, strict=True))
            row.append((t * (2 * window[1] - 1) + h) * (2 * window[2] - 1) + w)
        rows.append(row)
    return torch.tensor(rows)


# Convolutions in place of patches and attention


def stem(x: Tensor, w: Weights, stage: Stage, taps: int, training: bool) -> Tensor:
    """Strided convolutions; the first halves height and width where patches of 4, 8, … allow it."""
    t, height, width = stage.patch
    h, v = (2 if side % 4 == 0 else 1 for side in (height, width))
    strides = [(1, h, v), (t, height // h, width // v)] if h * v > 1 else [stage.patch]
    for number, stride in enumerate(strides):
        kernel = tuple(max(3, step + 1 - step % 2) for step in stride)
        kernel = (kernel[0] if taps > 1 else 1, *kernel[1:])
        here = below(w, f"convs.{2 * number}")
        check_shape(here["conv.weight"], ((1 + number) * (stage.channels * 3 // 4), x.shape[-1], *kernel))
        x = batch_norm(convolve_strided(x, here["conv.weight"], stride), below(here, "norm"), training).clamp(min=0)
    return torch.einsum("bthwi,oi->bthwo", x, w["proj.weight"][:, :, 0, 0, 0]) + w["proj.bias"]


def c_half(x: Tensor, w: Weights, stage: Stage, ratio: int, taps: int, training: bool) -> Tensor:
    """What a C half adds: two full convolutions, or one depth-wise between two that mix channels alone."""
    narrow, wide, kernel = stage.channels, ratio * stage.channels, (taps, 3, 3)
    if stage.convolution == "full":
        shapes = [(narrow, narrow, *kernel)] * 2
    else:
        shapes = [(wide, narrow, 1, 1, 1), (wide, 1, *kernel), (narrow, wide, 1, 1, 1)]
    for number, shape in enumerate(shapes):
        here = below(w, f"{2 * number}")
        weight = here["conv.weight"]
        check_shape(weight, shape)
        if number:
            x = x.clamp(min=0)
        if len(shapes) == 3 and number == 1:
            x = convolve_around(x, {"weight": weight, "bias": torch.zeros_like(weight[:, 0, 0, 0, 0])}, kernel)
        else:
            x = convolve_strided(x, weight, (1, 1, 1))
        x = batch_norm(x, below(here, "norm"), training)
    return x


def convolve_strided(x: Tensor, weight: Tensor, stride: Size3) -> Tensor:
    """A convolution centred on every ``stride``-th token; what lies outside the map counts as zero."""
    taps = weight.shape[2:]
    reach = [length // 2 for length in taps]
    around = torch.nn.functional.pad(x, (0, 0, *(side for length in reversed(reach) for side in (length, length))))
    rows = []
    for place in product(*(range(0, length, step) for length, step in zip(size_of(x), stride, strict=True))):
        t, h, v = (slice(start, start + length) for start, length in zip(place, taps, strict=True))
        rows.append(torch.einsum("bthwi,oithw->bo", around[:, t, h, v], weight))
    return torch.stack(rows, dim=1).unflatten(1, whole_steps(size_of(x), stride))


# Layers


def linear(x: Tensor, w: Weights) -> Tensor:
    return x @ w["weight"].T + w["bias"]


def layer_norm(x: Tensor, w: Weights) -> Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * w["weight"] + w["bias"]


def batch_norm(x: Tensor, w: Weights, training: bool) -> Tensor:
    mean, variance = w["running_mean"], w["running_var"]
    if training:
        mean = x.mean(dim=(0, 1, 2, 3))
        variance = ((x - mean) ** 2).mean(dim=(0, 1, 2, 3))
    return (x - mean) / torch.sqrt(variance + 1e-5) * w["weight"] + w["bias"]


def mlp(x: Tensor, w: Weights) -> Tensor:
    hidden = linear(x, below(w, "fc1"))
    return linear(hidden * (1 + torch.erf(hidden / sqrt(2))) / 2, below(w, "fc2"))  # GELU


def convolve_cells(x: Tensor, w: Weights, weight: Tensor, *, depthwise: bool) -> Tensor:
    """A convolution whose stride is its kernel; cells that stick out of the map use part of the kernel."""

    def weigh(tokens: Tensor) -> Tensor:
        t, h, width = size_of(tokens)
        part = weight[:, :, :t, :h, :width]
        if depthwise:
            total = torch.einsum("bthwc,cthw->bc", tokens, part[:, 0])
        else:
            total = torch.einsum("bthwi,oithw->bo", tokens, part)
        return (total + w["bias"])[:, None, None, None]

    return cell_by_cell(x, (weight.shape[2], weight.shape[3], weight.shape[4]), weigh)


def convolve_around(x: Tensor, w: Weights, kernel: Size3) -> Tensor:
    """A depth-wise convolution with stride 1, centred on every token; what lies outside the map counts as zero."""
    check_shape(w["weight"], (x.shape[-1], 1, *kernel))
    out = torch.zeros_like(x) + w["bias"]
    for tap in product(*map(range, kernel)):
        here, there = [slice(None)], [slice(None)]
        for index, length, size in zip(tap, kernel, size_of(x), strict=True):
            shift = index - length // 2
            here.append(slice(max(0, -shift), max(0, min(size, size - shift))))
            there.append(slice(max(0, shift), max(0, min(size, size + shift))))
        shifted = torch.zeros_like(x)
        shifted[tuple(here)] = x[tuple(there)]
        out = out + shifted * w["weight"][(slice(None), 0, *tap)]
    return out


# Cutting, and resampling along one axis


def cell_by_cell(x: Tensor, cell: Size3, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Cuts the map into cells (the last ones may be smaller), and puts together what ``function`` makes of each."""
    t, h, w = cell
    return torch.cat(
        [
            torch.cat(
                [torch.cat([function(part) for part in row.split(w, dim=3)], dim=3) for row in slab.split(h, dim=2)],
                dim=2,
            )
            for slab in x.split(t, dim=1)
        ],
        dim=1,
    )


def resample_sum(x: Tensor, axis: int, length: int) -> Tensor:
    """Entries are spread evenly over their width 1, and gathered in ``length`` equal cells."""
    old = x.unbind(axis)
    width = Fraction(len(old), length)
    cells = []
    for number in range(length):
        start, end = number * width, (number + 1) * width
        overlaps = [(min(end, entry + 1) - max(start, entry), entry) for entry in range(len(old))]
        cells.append(sum((float(overlap) * old[entry] for overlap, entry in overlaps if overlap > 0), start=0 * old[0]))
    return torch.stack(cells, dim=axis)


def resample_mean(x: Tensor, axis: int, length: int) -> Tensor:
    return resample_sum(x, axis, length) * (length / x.shape[axis])


def interpolate(x: Tensor, axis: int, length: int) -> Tensor:
    """Linear interpolation between the centres of entries; beyond the first and the last centre it is constant."""
    old = x.unbind(axis)
    entries = []
    for number in range(length):
        place = (number + Fraction(1, 2)) * len(old) / length - Fraction(1, 2)
        place = min(max(place, Fraction(0)), Fraction(len(old) - 1))
        left = int(place)
        right = min(left + 1, len(old) - 1)
        entries.append(float(1 - (place - left)) * old[left] + float(place - left) * old[right])
    return torch.stack(entries, dim=axis)


def whole_steps(size: Size3, step: Size3) -> Size3:
    """How many steps it takes to cover ``size``, per axis."""
    t, h, w = (-(-length // one) for length, one in zip(size, step, strict=True))
    return t, h, w


def size_of(x: Tensor) -> Size3:
    return x.shape[1], x.shape[2], x.shape[3]


def below(weights: Weights, name: str) -> Weights:
    """The weights of one layer, named from there on."""
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def check_shape(tensor: Tensor, expected: tuple[int, ...]) -> None:
    assert tuple(tensor.shape) == expected, f"the weights have shape {tuple(tensor.shape)}, not {expected}"
