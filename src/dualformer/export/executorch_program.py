"""Turns a program into one for ExecuTorch, whose XNNPACK back end computes on the CPUs of phones and boards.

XNNPACK knows tensors of up to six axes and convolutions of two, and computes what stands together in the graph as one
piece. So the program is rewritten before it is lowered, with the same numbers to rounding: a convolution over time is a
sum of convolutions of shifted frames, a permutation of more axes moves them one by one, attention is products of
matrices and a softmax, and what does not depend on the input is computed here and kept as a constant.
"""

from collections.abc import Callable, Sequence
from math import prod
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from dualformer.export.export_formats import quiet_exporters
from dualformer.weights.exported.export_card import ExportCard
from dualformer.weights.exported.exported_files import CARD_KEY
from dualformer.weights.exported.runtime import import_extra

_MOST_AXES = 6
"""Of XNNPACK's tensors."""

aten: Any = torch.ops.aten
_RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default)
_WITHOUT_EFFECT = (aten.alias.default, aten.clone.default, aten._assert_tensor_metadata.default)
"""Where every tensor is written in one piece, as ExecuTorch's are."""


def to_executorch(program: torch.export.ExportedProgram, card: ExportCard) -> bytes:
    """Returns a program of fixed shapes as the content of a ``.pte`` file, in which ``dualformer`` is a method that
    returns the card as text."""
    exir, xnnpack = import_executorch()
    with quiet_exporters():
        edge = exir.to_edge_transform_and_lower(
            for_xnnpack(program),
            partitioner=[xnnpack.XnnpackPartitioner()],
            constant_methods={CARD_KEY: card.to_json()},
            compile_config=exir.EdgeCompileConfig(_check_ir_validity=False),  # it refuses nothing, and takes long
        )
        return edge.to_executorch().buffer


def import_executorch() -> tuple[Any, Any]:
    """Imports what lowers programs and what runs them; returns the former. Errors: as `import_extra`."""
    names = ("exir", "backends.xnnpack.partition.xnnpack_partitioner", "runtime")
    with quiet_exporters():
        exir, xnnpack, _ = (import_extra(f"executorch.{name}", "`format=executorch`") for name in names)
    return exir, xnnpack


def for_xnnpack(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Rewrites a program of fixed shapes in operations that XNNPACK has."""
    inputs = tuple(
        torch.zeros(node.meta["val"].shape, dtype=node.meta["val"].dtype)
        for node in program.graph.find_nodes(op="placeholder")
        if node.name in program.graph_signature.user_inputs
    )
    rewritten: Any = program.run_decompositions(_REWRITTEN).module()
    _join_reshapes(rewritten.graph)
    _fold_constants(rewritten)
    with torch.no_grad():
        made = torch.export.export(rewritten, inputs)
    for node in made.graph.nodes:  # each of many passes copies what it knows of every node
        node.meta = {key: value for key, value in node.meta.items() if key in ("val", "tensor_meta")}
    return made


def _conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Tensor:
    """``x`` B C T H W: for each tap in time, the frames that it meets are convolved as pictures, and all are added."""
    (step, *strides), (before, *paddings), (apart, *dilations) = (
        list(given) * (3 // len(given)) for given in (stride, padding, dilation)
    )
    taps = weight.shape[2]
    count = (x.shape[2] + 2 * before - apart * (taps - 1) - 1) // step + 1
    padded = aten.constant_pad_nd(x, [0, 0, 0, 0, before, before]) if before else x
    out: Tensor | None = None
    for tap in range(taps):
        first = tap * apart
        frames = aten.slice(padded, 2, first, first + (count - 1) * step + 1, step).transpose(1, 2).flatten(0, 1)
        kernel = aten.select(weight, 2, tap)
        convolved = aten.conv2d(frames, kernel, None if tap else bias, strides, paddings, dilations, groups)
        out = convolved if out is None else out + convolved
    assert out is not None
    return out.unflatten(0, (x.shape[0], count)).transpose(1, 2)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``q`` B h L d, ``k`` and ``v`` B h P d. The usual way minds queries that may look at nothing; there are none."""
    assert not (dropout_p or is_causal or enable_gqa)
    factor = float(q.shape[-1] ** -0.5 if scale is None else scale)
    scores = aten.bmm((q if factor == 1 else q * factor).flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
    if attn_mask is not None:
        scores = (scores.unflatten(0, q.shape[:2]) + attn_mask).flatten(0, 1)
    return aten.bmm(scores.softmax(-1), v.flatten(0, 1)).unflatten(0, q.shape[:2])


def _matmul(x: Tensor, other: Tensor) -> Tensor:
    if other.dim() != 2:
        return NotImplemented
    return aten.mm(x.reshape(-1, x.shape[-1]), other).reshape(*x.shape[:-1], other.shape[-1])


def _permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Moves one axis at a time to its place; the axes before it, those it passes and those behind it are one each."""
    if x.dim() <= _MOST_AXES:
        return NotImplemented
    order, sizes = list(range(x.dim())), list(x.shape)
    for place, axis in enumerate(dims):
        now = order.index(axis)
        if now != place:
            parts = prod(sizes[:place]), prod(sizes[place:now]), sizes[now], prod(sizes[now + 1 :])
            x = x.reshape(parts).transpose(1, 2)
            order.insert(place, order.pop(now))
            sizes.insert(place, sizes.pop(now))
    return x.reshape(sizes)


def _unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    others = [length for axis, length in enumerate(x.shape) if axis != dim % x.dim()]
    return [aten.slice(x, dim, place, place + 1).reshape(others) for place in range(x.shape[dim])]


_REWRITTEN: dict[Any, Callable[..., Any]] = {
    aten.conv3d.default: _conv3d,
    aten.scaled_dot_product_attention.default: _attention,
    aten.matmul.default: _matmul,
    aten.permute.default: _permute,
    aten.unbind.int: _unbind,
}


def _join_reshapes(graph: fx.Graph) -> None:
    """Leaves of several reshapes the last one, so that none has more axes than XNNPACK knows."""
    for node in graph.nodes:
        if node.target in _WITHOUT_EFFECT:
            if node.users:
                node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target in _RESHAPES:
            while node.args[0].target in _RESHAPES:
                node.update_arg(0, node.args[0].args[0])
            node.target = aten.reshape.default
    graph.eliminate_dead_code()


@torch.no_grad()
def _fold_constants(module: fx.GraphModule) -> None:
    """Computes what depends on weights alone, and makes it a buffer."""
    known: dict[fx.Node, Tensor] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            known[node] = attrgetter(str(node.target))(module)
        elif node.op == "call_function" and all(used in known for used in node.all_input_nodes):
            args, settings = map_arg((node.args, node.kwargs), known.__getitem__)
            value = node.target(*args, **settings)
            if not isinstance(value, Tensor):
                continue
            name = f"constant_{node.name}"
            module.register_buffer(name, value.contiguous())
            with module.graph.inserting_before(node):
                constant = module.graph.get_attr(name)
            node.replace_all_uses_with(constant)
            known[constant] = value
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()
