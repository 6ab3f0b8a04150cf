"""Attention and pyramid maps of the very forward pass that gives the scores.

`watch_attention` registers hooks on the sub-blocks of a network and keeps what they pass to `Attention`. Weights are
computed when somebody asks for them, and only those asked for, because all of them are far larger than what they
follow from. Without the context nothing is kept, and within it the network computes what it always does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from dualformer.model.attention import (
    PyramidAttention,
    WindowAttention,
    fitted_window,
    from_windows,
    window_mask,
)
from dualformer.model.config import Size3, ceil_div
from dualformer.model.kernels.attention import attention_weights
from dualformer.model.network import DualFormer, StageLayers
from dualformer.model.pyramid import resample_kernel

#: Stage, block and half, counted from 0.
SubBlockIndex = tuple[int, int, int]
#: Attention weights that `AttentionMap.received` holds at a time.
_WEIGHTS_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMap:
    """The attention of one half in one call, on a map of T H W tokens; ``stage``, ``block`` and ``half`` count from 0.

    Weights are the mean over heads, or of one ``head``; they are computed in float32 at least, and without gradients.
    Errors of the methods: ``ValueError`` for a token outside the map, for a head that there is not, and for the
    weights per scale of a half that has no pyramid.
    """

    stage: int
    block: int
    half: int
    size: Size3
    """T H W of the stage's map."""
    window: Size3 | None
    """Tokens of a window as fitted to the map; None for G."""
    priors: tuple[Tensor, ...] = field(repr=False)
    """What the pyramid saw: every scale's priors, B C and the scale's grid, before the LayerNorm that all scales share.
    Empty where there is no pyramid: for L, and for G that attends to all tokens."""
    q: Tensor = field(repr=False)
    """Queries B h N d, or B·G h L d in windows."""
    k: Tensor = field(repr=False)
    """Keys B h P d, or B·G h L d in windows."""
    bias: Tensor | None = field(repr=False)
    """What was added to the scores, broadcast to every query and key."""

    @property
    def kind(self) -> str:
        """L where tokens look at their window, G where at the global pyramid or at all tokens."""
        return "G" if self.window is None else "L"

    @property
    def grids(self) -> list[Size3]:
        """Cells of every scale of the pyramid on this map."""
        return [(x.shape[2], x.shape[3], x.shape[4]) for x in self.priors]

    def weights(self, token: Size3) -> Tensor:
        """B h P: the weights of the token (t, h, w) as they are, over its keys.

        Keys are the L tokens of its window (padding included, with weight 0), or the priors scale by scale, or all
        tokens; each in the order T H W.
        """
        number, place = self._locate(token)
        return self._rows(slice(number, None, self._windows), slice(place, place + 1))[:, :, 0]

    def of_token(self, token: Size3, head: int | None = None) -> Tensor:
        """B T H W: what the token (t, h, w) looks at; sums to 1.

        For L, the weights within its window and zero elsewhere. For a pyramid, the weight of every prior is spread
        evenly over the tokens that its cell covers, all scales together. Else the weights of all tokens.
        """
        return self._on_map(self._of_token(token, head))

    def of_token_per_scale(self, token: Size3, head: int | None = None) -> tuple[Tensor, ...]:
        """For each scale of the pyramid, the weights of its priors, B and the scale's grid; together they sum to 1."""
        return self._per_scale(self._of_token(token, head))

    def received(self, head: int | None = None) -> Tensor:
        """B T H W: the mean of `of_token` over all tokens, or how much each is looked at; sums to 1.

        It computes all weights, some millions at a time.
        """
        return self._on_map(self._received(head))

    def received_per_scale(self, head: int | None = None) -> tuple[Tensor, ...]:
        """The mean of `of_token_per_scale` over all tokens: for each scale, B and its grid."""
        return self._per_scale(self._received(head))

    @property
    def _window_or_map(self) -> Size3:
        """The window, or the whole map where there is none, so that both kinds share their arithmetic."""
        return self.window or self.size

    @property
    def _windows(self) -> int:
        t, h, w = ceil_div(self.size, self._window_or_map)
        return t * h * w

    def _locate(self, token: Size3) -> tuple[int, int]:
        """Returns the number of the token's window, and of the token in it."""
        if any(not 0 <= place < length for place, length in zip(token, self.size, strict=True)):
            t, h, w = self.size
            raise ValueError(f"token {tuple(token)} lies outside the map of stage {self.stage}: it has {t}×{h}×{w}")
        t, h, w = (divmod(place, step) for place, step in zip(token, self._window_or_map, strict=True))
        (_, rows, columns), (_, height, width) = ceil_div(self.size, self._window_or_map), self._window_or_map
        return (t[0] * rows + h[0]) * columns + w[0], (t[1] * height + h[1]) * width + w[1]

    def _rows(self, windows: slice, queries: slice) -> Tensor:
        """Computes the weights of some queries in some windows of all clips: windows, h, queries, P."""
        dtype, bias = _at_least_float32(self.q), self.bias
        if bias is not None:
            bias = bias.expand(*self.q.shape[:3], self.k.shape[2])[windows, :, queries].to(dtype)
        with _without_autocast(self.q):
            return attention_weights(self.q[windows, :, queries].to(dtype), self.k[windows].to(dtype), bias)

    def _of_token(self, token: Size3, head: int | None) -> Tensor:
        """B G P: the token's weights in its window, zero in the others."""
        row = self._of_head(self.weights(token), head)
        rows = row.new_zeros((len(row), self._windows, row.shape[-1]))
        rows[:, self._locate(token)[0]] = row
        return rows

    def _received(self, head: int | None) -> Tensor:
        """B G P: the mean of `_of_token` over all tokens. Queries that are padding do not count."""
        (numbers, heads, length, _), keys = self.q.shape, self.k.shape[2]
        real = window_mask(self.size, self._window_or_map, self.q.device)
        step = max(1, _WEIGHTS_AT_ONCE // (heads * keys))
        sums = torch.zeros((numbers, heads, keys), dtype=_at_least_float32(self.q), device=self.q.device)
        for number, start in product(range(numbers), range(0, length, step)):
            queries = slice(start, start + step)
            rows = self._rows(slice(number, number + 1), queries)[0]
            if real is not None:
                rows = rows * real[number % self._windows, :, 0, queries, None]
            sums[number] += rows.sum(1)
        t, h, w = self.size
        return self._of_head(sums, head).unflatten(0, (-1, self._windows)) / (t * h * w)

    def _of_head(self, weights: Tensor, head: int | None) -> Tensor:
        """… h P → … P."""
        if head is None:
            return weights.mean(-2)
        if not 0 <= head < weights.shape[-2]:
            raise ValueError(f"head {head} is not one of the {weights.shape[-2]} of stage {self.stage}, counted from 0")
        return weights[..., head, :]

    def _per_scale(self, rows: Tensor) -> tuple[Tensor, ...]:
        """B 1 P → for each scale, B and its grid."""
        if not self.priors:
            raise ValueError(
                f"half {self.half} of block {self.block} in stage {self.stage} has no pyramid, and so no scales"
            )
        parts = rows[:, 0].split([t * h * w for t, h, w in self.grids], dim=-1)
        return tuple(part.unflatten(-1, grid) for part, grid in zip(parts, self.grids, strict=True))

    def _on_map(self, rows: Tensor) -> Tensor:
        """B G P → B T H W."""
        if self.window is not None:
            return from_windows(rows[..., None], self.window, self.size)[..., 0]
        if not self.priors:
            return rows[:, 0].unflatten(-1, self.size)
        with _without_autocast(rows):
            # Cells spread over their tokens just as the taps of a kernel do over finer ones: evenly, by area.
            return torch.stack([resample_kernel(part, self.size) for part in self._per_scale(rows)]).sum(0)


class WatchedAttention:
    """The maps that `watch_attention` kept of the latest call. They stay readable after the context."""

    def __init__(self) -> None:
        self._maps: dict[SubBlockIndex, AttentionMap] = {}
        self._running: set[nn.Module] = set()  # the stage that is being computed

    @property
    def maps(self) -> tuple[AttentionMap, ...]:
        """Maps of the watched sub-blocks in the order in which they ran. Errors: ``ValueError`` before any has run."""
        if not self._maps:
            raise ValueError(
                "nothing is recorded yet: call the network inside `with watch_attention(network)`; a compiled network "
                "does not tell, so watch and call the one that it was compiled from"
            )
        return tuple(self._maps.values())


@contextmanager
def watch_attention(
    model: DualFormer,
    *,
    stages: Sequence[int] | None = None,
    blocks: Sequence[int] | None = None,
    kinds: str = "LG",
) -> Iterator[WatchedAttention]:
    """Keeps the attention and pyramid maps of what the network computes within the context::

        with watch_attention(model, stages=[-1], kinds="G") as watched:
            scores = model(video)
        heat = watched.maps[-1].received()  # B T H W

    ``stages`` and the ``blocks`` of each count from 0, negative ones from the end; None means all. ``kinds`` names
    attention within windows (L), over the pyramid or all tokens (G), or both. Every way to call the network counts,
    in training and under autocast too, and its results stay the same, on one thread bit for bit. A later call replaces
    the maps of the one before; a checkpointed half that runs again in the backward pass is no call. For a
    `FeatureExtractor` or a network wrapped for training, watch the `DualFormer` inside.

    Kept are queries and keys as the network made them, not copied: 3·N·C numbers for an L half (values share their
    memory), N·C + 2·P·C for a G half, or 3·N·C where it attends to all tokens, and the bias of a map that windows do
    not fit. Tiny keeps 165 MB for a clip of 32×224×224 in float32; all its weights would be 1 GB.

    Errors: ``ValueError`` for a stage or block that there is not, for other kinds, and where nothing is left to watch.
    """
    halves = _select_sub_blocks(model, stages, blocks, kinds)
    watched = WatchedAttention()
    with ExitStack() as hooks:
        hooks.enter_context(model.stages[0].register_forward_pre_hook(_eager_hook(lambda *_: watched._maps.clear())))
        for stage in model.stages:
            enter = _eager_hook(lambda stage, *_: watched._running.add(stage))
            leave = _eager_hook(lambda stage, *_: watched._running.discard(stage))
            hooks.enter_context(stage.register_forward_pre_hook(enter))
            hooks.enter_context(stage.register_forward_hook(leave, always_call=True))
        for place, attention in halves.items():
            _watch_sub_block(watched, place, attention, hooks)
        yield watched


def _select_sub_blocks(
    model: DualFormer, stages: Sequence[int] | None, blocks: Sequence[int] | None, kinds: str
) -> dict[SubBlockIndex, WindowAttention | PyramidAttention]:
    """Finds the attention of every sub-block to watch."""
    if not kinds or set(kinds) - set("LG"):
        raise ValueError(f"kinds must be L, G or LG, not {kinds!r}")
    wanted = tuple(kind for letter, kind in (("L", WindowAttention), ("G", PyramidAttention)) if letter in kinds)
    found: dict[SubBlockIndex, WindowAttention | PyramidAttention] = {}
    for number in _resolve_numbers("stages", stages, len(model.stages)):
        stage = model.stages[number]
        assert isinstance(stage, StageLayers)
        for block in _resolve_numbers(f"blocks of stage {number}", blocks, len(stage.blocks)):
            for half, layer in enumerate(stage.blocks[block].children()):
                if isinstance(attention := getattr(layer, "attn", None), wanted):
                    found[number, block, half] = attention
    if not found:
        raise ValueError(f"no half to watch: the stages and blocks asked for have none of kinds {kinds!r}")
    return found


def _resolve_numbers(what: str, wanted: Sequence[int] | None, count: int) -> list[int]:
    """Returns the ``wanted`` numbers, of ``count``, from 0, each once and in order; None means all."""
    if wanted is None:
        return list(range(count))
    if any(not -count <= number < count for number in wanted):
        raise ValueError(f"{what}: there are {count}, 0 to {count - 1}, and {list(wanted)} names another")
    return sorted({number % count for number in wanted})


def _watch_sub_block(
    watched: WatchedAttention, place: SubBlockIndex, attention: WindowAttention | PyramidAttention, hooks: ExitStack
) -> None:
    sizes: list[Size3] = []
    priors: list[Tensor] = []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        t, h, w = inputs[0].shape[1:4]
        sizes[:], priors[:] = [(t, h, w)], []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not watched._running:  # a checkpointed half runs again in the backward pass, where no stage does
            return
        (size,), (q, k), bias = sizes, inputs[:2], (*inputs, None)[3]
        watched._maps[place] = AttentionMap(
            stage=place[0],
            block=place[1],
            half=place[2],
            size=size,
            window=fitted_window(size, attention.window) if isinstance(attention, WindowAttention) else None,
            priors=tuple(priors),
            q=_unscaled(q.detach(), attention),
            k=k.detach(),
            bias=None if bias is None else bias.detach(),
        )

    hooks.enter_context(attention.register_forward_pre_hook(_eager_hook(enter)))
    if isinstance(attention, PyramidAttention) and attention.pyramid is not None:
        for scale in attention.pyramid.scales:
            hooks.enter_context(scale.register_forward_hook(_eager_hook(lambda *call: priors.append(call[2].detach()))))
    hooks.enter_context(attention.attention.register_forward_hook(_eager_hook(keep)))


def _unscaled(q: Tensor, attention: WindowAttention | PyramidAttention) -> Tensor:
    """Queries as `attention_weights` takes them; in a folded network the scale is in them already."""
    scale = attention.attention.scale
    return q if scale is None else q * (scale * q.shape[-1] ** 0.5)


def _eager_hook(hook: Callable[..., None]) -> Callable[..., None]:
    """Hides a hook from compilers, which would build it into their graph, where it could not be removed."""

    def run(*call: Any) -> None:
        if not torch.compiler.is_compiling():
            hook(*call)

    return run


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


@contextmanager
def _without_autocast(like: Tensor) -> Iterator[None]:
    """Runs without gradients and autocast, whatever the caller has set."""
    with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        yield
