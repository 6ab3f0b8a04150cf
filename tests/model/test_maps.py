"""Attention and pyramid maps: against loops over windows, cells and tokens, and without a trace in the network."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dualformer.model import maps
from dualformer.model.attention import PyramidAttention, WindowAttention
from dualformer.model.config import Config, Scale, Size3, Stage
from dualformer.model.maps import AttentionMap, watch_attention
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models, preset_config

FINE, COARSE = Scale(grid=(2, 2, 2)), Scale(grid=(1, 3, 3), factorised=True)
MEAN, FULL = Scale(grid=(2, 3, 1), function="average"), Scale(grid=(3, 2, 2), function="full")


def small_config(
    *, kinds: str = "LG", position: str = "peg", clip: Size3 = (4, 16, 16), drop_path: float = 0.0
) -> Config:
    """Three stages: two scales, then two others and two blocks, then attention to all tokens."""
    stages = (
        Stage(channels=8, depth=1, patch=(1, 2, 2), window=(2, 3, 3), scales=(FINE, COARSE), kinds=kinds),
        Stage(channels=8, depth=2, patch=(1, 2, 2), window=(3, 2, 4), scales=(MEAN, FULL), kinds=kinds),
        Stage(channels=16, depth=1, patch=(1, 1, 1), window=(2, 3, 3), kinds=kinds),
    )
    return Config(stages=stages, clip=clip, num_classes=5, head_dim=4, drop_path=drop_path).replace(position=position)


def small(**settings: Any) -> DualFormer:
    """In float64, with weights so large that attention is far from even."""
    model = DualFormer(small_config(**settings), seed=0).double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) - 0.4
    return model


def video(*size: int, batch: int = 2) -> Tensor:
    return torch.randn((batch, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def attention_of(model: DualFormer, seen: AttentionMap) -> WindowAttention | PyramidAttention:
    attention = model.get_submodule(f"stages.{seen.stage}.blocks.{seen.block}.{seen.half}.attn")
    assert isinstance(attention, WindowAttention | PyramidAttention)
    return attention


def tokens_of(size: Size3) -> list[Size3]:
    t, h, w = map(range, size)
    return list(product(t, h, w))


def hooks_in(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# The naive reference: loops over queries, keys, cells and tokens, in NumPy.


def naive(model: DualFormer, seen: AttentionMap, x: Tensor) -> Iterator[tuple[Size3, np.ndarray, list[np.ndarray]]]:
    """For every token of a clip's T H W C: what it looks at, h T H W, and with a pyramid the weights of its scales."""
    stage, attention = model.config.stages[seen.stage], attention_of(model, seen)
    (t, h, w), channels, heads = x.shape[:3], x.shape[3], attention.heads
    size, tokens, table = (t, h, w), tokens_of((t, h, w)), None
    if isinstance(attention, WindowAttention):
        queries, keys = attention.qkv(x)[..., :channels], attention.qkv(x)[..., channels : 2 * channels]
        table = None if attention.bias is None else attention.bias.table.numpy()
    else:
        queries = attention.q(x)
        keys = attention.kv(x if attention.pyramid is None else attention.pyramid(x[None]))[..., :channels]
    queries, keys = (part.reshape(-1, heads, channels // heads).numpy() for part in (queries, keys))
    grids = [smaller(scale.grid, size) for scale in stage.scales] if seen.kind == "G" else []
    for query, token in zip(queries, tokens, strict=True):
        spread, scales = np.zeros((heads, *size)), [np.zeros((heads, *grid)) for grid in grids]
        if seen.kind == "L":
            looked_at = [n for n, other in enumerate(tokens) if same_window(token, other, size, stage.window)]
        else:
            looked_at = range(len(keys))
        for head in range(heads):
            exps = []
            for number in looked_at:
                score = query[head] @ keys[number, head] / math.sqrt(channels // heads)
                if table is not None:
                    offsets = zip(token, tokens[number], stage.window, strict=True)
                    score += table[(*(mine - other + length - 1 for mine, other, length in offsets), head)]
                exps.append(math.exp(score))
            weights = np.array(exps) / sum(exps)
            if not grids:
                for number, weight in zip(looked_at, weights, strict=True):
                    spread[(head, *tokens[number])] = weight
            start = 0
            for scale, grid in zip(scales, grids, strict=True):
                for cell, weight in zip(tokens_of(grid), weights[start:], strict=False):
                    scale[(head, *cell)] = weight
                    spread[head] += weight * covered(cell, grid, size)
                start += math.prod(grid)
        yield token, spread, scales


def smaller(one: Size3, other: Size3) -> Size3:
    t, h, w = map(min, one, other)
    return t, h, w


def same_window(token: Size3, other: Size3, size: Size3, window: Size3) -> bool:
    steps = [math.ceil(length / math.ceil(length / most)) for length, most in zip(size, window, strict=True)]
    return all(a // step == b // step for a, b, step in zip(token, other, steps, strict=True))


@cache
def covered(cell: Size3, grid: Size3, size: Size3) -> np.ndarray:
    """Which part of a cell's volume lies in each token."""
    parts = np.ones(size)
    for token in tokens_of(size):
        for number, cells, place, length in zip(cell, grid, token, size, strict=True):
            first, last = number * length / cells, (number + 1) * length / cells
            parts[token] *= max(0.0, min(last, place + 1) - max(first, place)) / (last - first)
    return parts


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (4, 12, 12)),  # windows and grids fit some axes of some maps
        ({}, (3, 13, 9)),  # and here hardly any
        ({"position": "relative"}, (3, 12, 9)),
        ({"kinds": "GL", "position": "none"}, (1, 9, 7)),
        ({"kinds": "GG", "clip": (1, 16, 16)}, (1, 11, 8)),
        ({"kinds": "LL", "position": "relative"}, (2, 1, 1)),
    ],
)
@torch.no_grad()
def test_maps_equal_naive_ones(settings: dict[str, Any], size: Size3) -> None:
    model, inputs = small(**settings), dict[nn.Module, Tensor]()
    for module in model.modules():
        if isinstance(module, WindowAttention | PyramidAttention):
            module.register_forward_pre_hook(lambda module, args: inputs.update({module: args[0]}))
    with watch_attention(model) as watched:
        model(video(*size))
    kinds = settings.get("kinds", "LG")
    assert [(seen.stage, seen.block, seen.half, seen.kind) for seen in watched.maps] == [
        (stage, block, half, kinds[half]) for stage, block in ((0, 0), (1, 0), (1, 1), (2, 0)) for half in (0, 1)
    ]
    for seen in watched.maps:
        x = inputs[attention_of(model, seen)]
        assert seen.size == model.config.map_sizes(size)[seen.stage]
        mean, means = np.zeros(()), []
        for number, (token, spread, scales) in enumerate(naive(model, seen, x[1])):
            mean = mean + spread
            means = [a + b for a, b in zip(means, scales, strict=True)] if means else scales
            if number % 3 and number != math.prod(seen.size) - 1:  # the last window is one that may stick out
                continue
            found = seen.of_token(token)
            assert close(found[1], spread.mean(0))
            assert close(seen.of_token(token, head=1)[1], spread[1])
            assert close(found.sum((1, 2, 3)), np.ones(2))
            assert close(seen.weights(token).sum(-1), np.ones((2, len(spread))))
            if scales:
                for part, last, scale in zip(
                    seen.of_token_per_scale(token), seen.of_token_per_scale(token, head=1), scales, strict=True
                ):
                    assert close(part[1], scale.mean(0))
                    assert close(last[1], scale[1])
        tokens = math.prod(seen.size)
        assert close(seen.received()[1], mean.mean(0) / tokens)
        assert close(seen.received(head=1)[1], mean[1] / tokens)
        if means:
            for part, sums in zip(seen.received_per_scale(), means, strict=True):
                assert close(part[1], sums.mean(0) / tokens)


def close(ours: Tensor, reference: np.ndarray) -> bool:
    return ours.shape == reference.shape and bool(np.abs(ours.numpy() - reference).max() < 1e-12)


@torch.no_grad()
def test_padding_gets_and_gives_nothing() -> None:
    model = small()
    with watch_attention(model, stages=[0], kinds="L") as watched:
        model(video(3, 13, 9))
    (seen,) = watched.maps
    assert (seen.size, seen.window) == ((3, 7, 5), (2, 3, 3))  # 4×9×6 with padding
    last = seen.weights((2, 6, 4)).unflatten(-1, (2, 3, 3))
    assert close(last[..., 0, 0, :2].sum(-1), np.ones((2, 2)))
    assert last[..., 1, :, :].abs().max() == last[..., 1:, :].abs().max() == last[..., 2].abs().max() == 0


@torch.no_grad()
def test_a_batch_has_the_maps_of_its_clips() -> None:
    model, clips = small(position="relative"), video(3, 13, 9, batch=3)
    with watch_attention(model) as watched:
        model(clips)
        together = watched.maps
        for number, clip in enumerate(clips):
            model(clip[None])
            for one, three in zip(watched.maps, together, strict=True):
                assert close(three.received()[number], one.received()[0].numpy())
                assert close(three.of_token((1, 2, 1))[number], one.of_token((1, 2, 1))[0].numpy())


def test_received_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    with torch.no_grad(), watch_attention(model) as watched:
        model(video(3, 13, 9))
    whole = [seen.received() for seen in watched.maps]
    monkeypatch.setattr(maps, "_WEIGHTS_AT_ONCE", 100)
    for seen, expected in zip(watched.maps, whole, strict=True):
        assert close(seen.received(), expected.numpy())


@torch.no_grad()
def test_priors_are_what_the_pyramid_norms() -> None:
    model = small()
    with watch_attention(model, kinds="G") as watched:
        model(video(3, 13, 9))
    assert [seen.grids for seen in watched.maps] == [[(2, 2, 2), (1, 3, 3)], *[[(2, 3, 1), (3, 2, 2)]] * 2, []]
    for seen in watched.maps[:3]:
        attention = attention_of(model, seen)
        assert isinstance(attention, PyramidAttention) and attention.pyramid is not None
        normed = attention.pyramid.norm(torch.cat([prior.flatten(2) for prior in seen.priors], dim=2).transpose(1, 2))
        keys = attention.kv(normed)[..., : normed.shape[-1]].unflatten(-1, (2, 4)).transpose(1, 2)
        assert close(keys, seen.k.numpy())


@pytest.mark.parametrize("how", ["no_grad", "inference", "autocast", "training", "checkpointed"])
@pytest.mark.usefixtures("one_thread")
def test_watching_changes_nothing(how: str) -> None:
    model = small(position="relative", drop_path=0.2).float().train(how in ("training", "checkpointed"))
    model.set_grad_checkpointing(how == "checkpointed")
    clips = video(3, 13, 9).float()

    def run(watch: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model.load_state_dict(state)
        model.zero_grad()
        contexts = {"no_grad": torch.no_grad(), "inference": torch.inference_mode()}
        with (
            contexts.get(how, nullcontext()),
            torch.autocast("cpu", enabled=how == "autocast"),
            watch_attention(model) if watch else nullcontext() as watched,
        ):
            out = model(clips)
            seen = () if watched is None else watched.maps
            if model.training:
                out.sum().backward()
            assert watched is None or all(a is b for a, b in zip(seen, watched.maps, strict=True))
        for one in seen:
            assert not any(kept.requires_grad for kept in (one.q, one.k, *one.priors))
            assert one.bias is None or not one.bias.requires_grad
            with torch.autocast("cpu"):  # which would compute in bfloat16
                for spread in (one.received(), one.of_token((0, 1, 1))):
                    assert spread.dtype == torch.float32
                    assert not spread.requires_grad
                    assert (spread.sum((1, 2, 3)) - 1).abs().max() < 1e-5
        buffers = [buffer.clone() for buffer in model.buffers()]
        return [out.detach(), *buffers, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    state = {name: value.clone() for name, value in model.state_dict().items()}
    plain, watched = run(False), run(True)
    assert len(plain) > 80 if model.training else len(plain) > 1
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_the_backward_pass_of_checkpointing_is_no_call() -> None:
    model = small().train()
    model.set_grad_checkpointing()
    out = model(video(3, 13, 9))
    with watch_attention(model) as watched:
        out.sum().backward()
        with pytest.raises(ValueError, match="nothing is recorded yet: call the network inside"):
            _ = watched.maps
        first, second = model(video(4, 12, 12)), model(video(4, 12, 12))
        model(video(3, 13, 9))
        kept = watched.maps
        first.sum().backward()
        assert all(a is b for a, b in zip(watched.maps, kept, strict=True))
        assert kept[0].size == (3, 7, 5)
        broken = model.get_submodule("stages.0.blocks.0.1").register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(video(3, 13, 9))
        broken.remove()
        second.sum().backward()
        assert [(seen.stage, seen.half, seen.size) for seen in watched.maps] == [(0, 0, (3, 7, 5))]


@torch.no_grad()
def test_every_way_to_call_counts_and_the_latest_stays() -> None:
    model = small()
    with watch_attention(model) as watched:
        model.forward_features(video(4, 12, 12))
        assert [seen.stage for seen in watched.maps] == [0, 0, 1, 1, 1, 1, 2, 2]
        model.forward_intermediates(video(3, 13, 9), [0], stop_early=True, intermediates_only=True)
        assert [(seen.stage, seen.size) for seen in watched.maps] == [(0, (3, 7, 5))] * 2  # nothing of the call before
    model(video(4, 12, 12))
    assert len(watched.maps) == 2  # readable, and no longer watching
    assert watched.maps[0].received().shape == (2, 3, 7, 5)


def test_hooks_are_always_removed() -> None:
    model = small()
    model.norm.register_forward_hook(lambda *_: None)
    with watch_attention(model), watch_attention(model, stages=[1]):
        assert hooks_in(model) > 1
    assert hooks_in(model) == 1
    with pytest.raises(ValueError, match="a video is B 3 T H W"), watch_attention(model):
        model(torch.zeros(1))
    assert hooks_in(model) == 1
    model.stages[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with watch_attention(model) as watched:
        with pytest.raises(ZeroDivisionError):
            model(video(4, 12, 12))
        assert [seen.stage for seen in watched.maps] == [0, 0]
    assert hooks_in(model) == 2


@pytest.mark.slow
@torch.no_grad()
def test_a_compiler_sees_no_hooks() -> None:
    config = small_config()
    model, clips = DualFormer(config.replace(stages=config.stages[:1])).double().eval(), video(4, 12, 12)
    with watch_attention(model) as watched:
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        compiled(clips)
        with pytest.raises(ValueError, match="a compiled network does not tell"):
            _ = watched.maps
        model(clips)
    kept = watched.maps
    compiled(clips)
    assert all(a is b for a, b in zip(watched.maps, kept, strict=True))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"stages": [-1]}, [(2, 0, 0), (2, 0, 1)]),
        ({"stages": [1, 0, -3], "kinds": "G", "blocks": [-1]}, [(0, 0, 1), (1, 1, 1)]),
        ({"blocks": [0], "kinds": "L"}, [(0, 0, 0), (1, 0, 0), (2, 0, 0)]),
    ],
)
@torch.no_grad()
def test_choosing_halves(asked: dict[str, Any], found: list[Size3]) -> None:
    model = small()
    with watch_attention(model, **asked) as watched:
        model(video(4, 12, 12))
    assert [(seen.stage, seen.block, seen.half) for seen in watched.maps] == found


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"stages": [3]}, r"stages: there are 3, 0 to 2, and \[3\] names another"),
        ({"blocks": [1]}, r"blocks of stage 0: there are 1, 0 to 0, and \[1\] names another"),
        ({"kinds": "X"}, "kinds must be L, G or LG, not 'X'"),
        ({"kinds": ""}, "kinds must be L, G or LG, not ''"),
        ({"stages": []}, "no half to watch"),
        ({"kinds": "G"}, "no half to watch"),
    ],
)
def test_nothing_to_watch(asked: dict[str, Any], message: str) -> None:
    model = small(kinds="LL")
    with pytest.raises(ValueError, match=message), watch_attention(model, **asked):
        pass
    assert hooks_in(model) == 0


@torch.no_grad()
def test_wrong_tokens_heads_and_scales() -> None:
    model = small()
    with watch_attention(model, stages=[0, 2]) as watched:
        model(video(3, 13, 9))
    for seen in watched.maps:
        t, h, w = seen.size
        for token in ((t, 0, 0), (0, h, 0), (0, 0, w), (-1, 0, 0)):
            with pytest.raises(ValueError, match=rf"lies outside the map of stage {seen.stage}: it has {t}×{h}×{w}"):
                seen.of_token(token)
        heads = (2, 0, 4)[seen.stage]
        for head in (-1, heads):
            with pytest.raises(ValueError, match=f"head {head} is not one of the {heads}"):
                seen.received(head)
    for seen in (watched.maps[0], watched.maps[3]):
        with pytest.raises(ValueError, match=f"half {seen.half} of block 0 in stage {seen.stage} has no pyramid"):
            seen.received_per_scale()


@pytest.mark.parametrize("name", list_models())
def test_every_preset(name: str) -> None:
    config = preset_config(name)
    with torch.device("meta"):
        model = create_model(name, seed=0).eval()
        clip = torch.empty((1, 3, *config.clip))
    with torch.no_grad(), watch_attention(model) as watched:
        model(clip)
    expected = [
        (stage, size, grids)
        for stage, (layers, size) in enumerate(zip(config.stages, config.map_sizes(), strict=True))
        for _ in range(layers.depth)
        for kind in layers.kinds.replace("C", "")
        for grids in [None if kind == "L" else [scale.grid for scale in layers.scales]]
    ]
    found = [(seen.stage, seen.size, None if seen.kind == "L" else seen.grids) for seen in watched.maps]
    assert found == expected
    if name == "dualformer_tiny":
        assert [seen.window for seen in watched.maps[:2]] == [(8, 7, 7), None]
        kept = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for m in watched.maps for t in (m.q, m.k)}
        assert sum(kept.values()) == pytest.approx(165e6, rel=0.01)  # the docstring says so
