"""The fast path on a CPU computes what the plain graph computes, which is what runs where gradients are wanted."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dualformer.model import tiles
from dualformer.model.block import SubBlock
from dualformer.model.config import Config, Scale, Size3, Stage
from dualformer.model.convolution import ConvolutionalStem, ConvolutionSubBlock
from dualformer.model.network import DualFormer, PatchEmbedding
from dualformer.model.position import PositionEncoding
from dualformer.model.presets import create_model
from dualformer.model.threads import MOST_THREADS
from plain_network import PlainDualFormer

FINE, COARSE = Scale(grid=(2, 3, 2)), Scale(grid=(2, 2, 2), factorised=True)


def small_config(**changes: Any) -> Config:
    """Two stages with everything in them, the last one attending to all tokens."""
    stages = (
        Stage(channels=16, depth=1, patch=(2, 2, 2), window=(2, 3, 3), scales=(FINE, COARSE)),
        Stage(channels=32, depth=2, patch=(1, 2, 2), window=(2, 3, 2)),
    )
    return Config(stages=stages, clip=(4, 24, 24), num_classes=5, head_dim=8).replace(**changes)


def exact(config: Config) -> DualFormer:
    """In float64, with weights and statistics so large that every step shows."""
    model = DualFormer(config, seed=0).double().eval()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.4)
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
    return model


def video(*size: int, batch: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn((batch, 3, *size), generator=torch.Generator().manual_seed(0), dtype=dtype)


def in_tiles(model: DualFormer, clips: Tensor) -> tuple[Tensor, list[Tensor]]:
    with torch.no_grad():
        return model.forward_intermediates(clips)


@pytest.mark.parametrize("tokens", [1, 20, 3136])
@pytest.mark.parametrize(
    ("changes", "size", "batch"),
    [
        ({}, (4, 24, 24), 1),  # windows and cells fit
        ({}, (4, 24, 24), 3),
        ({}, (5, 19, 26), 2),  # and here hardly any
        ({"position": "relative"}, (4, 20, 24), 2),
        ({"position": "absolute"}, (3, 9, 30), 1),
        ({"position": "none"}, (1, 1, 1), 2),
    ],
)
def test_tiles_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tokens: int, changes: dict[str, Any], size: Size3, batch: int
) -> None:
    model, clips = exact(small_config(**changes)), video(*size, batch=batch)
    expected, maps = model.forward_intermediates(clips)  # gradients are wanted: the plain graph
    monkeypatch.setattr(tiles, "TOKENS_PER_TILE", tokens)
    ran: list[SubBlock] = []
    mlp = tiles._mlp
    monkeypatch.setattr(tiles, "_mlp", lambda half, x: (ran.append(half), mlp(half, x))[1])
    before = clips.clone()
    final, maps_in_tiles = in_tiles(model, clips)
    assert len(set(ran)) == 6  # two halves of three blocks
    torch.testing.assert_close(final, expected.detach(), atol=1e-11, rtol=1e-11)
    for one, other in zip(maps_in_tiles, maps, strict=True):
        torch.testing.assert_close(one, other.detach(), atol=1e-11, rtol=1e-11)
    assert torch.equal(clips, before)  # nothing of the caller's is written over


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("frames", [16, 26])
def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, threads: int, frames: int) -> None:
    """Maps of 8 and 13 frames, of which each thread encodes some, and sees those beside them."""
    model, clips = exact(small_config()), video(frames, 22, 24, batch=1)
    expected, maps = model.forward_intermediates(clips)
    encoded: list[int] = []
    encode = PositionEncoding.encoding

    def watched(encoding: PositionEncoding, x: Tensor) -> Tensor:
        encoded.append(torch.get_num_threads())
        return encode(encoding, x)

    monkeypatch.setattr(PositionEncoding, "encoding", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        final, maps_in_tiles = in_tiles(model, clips)
    finally:
        torch.set_num_threads(before)
    assert encoded == [1] * 2 * min(threads, frames // 2 // 4)  # of two stages
    torch.testing.assert_close(final, expected.detach(), atol=1e-11, rtol=1e-11)
    for one, other in zip(maps_in_tiles, maps, strict=True):
        torch.testing.assert_close(one, other.detach(), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("place", ["contiguous", "behind another number", "every other row"])
def test_patches_are_copied_row_by_row(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, width: int, place: str
) -> None:
    """Where rows are numbers of their own and where not: the same bits as pixel by pixel, of pixels in any order."""
    embedding, pixels = PatchEmbedding(3, 16, (2, 4, width)).to(dtype).eval(), video(4, 16, 12, dtype=dtype)
    if place == "behind another number":
        pixels = torch.cat([torch.zeros(1, dtype=dtype), pixels.flatten()])[1:].view(pixels.shape)
    elif place == "every other row":
        pixels = video(4, 32, 12, dtype=dtype)[:, :, :, ::2]
    with torch.no_grad():
        rows = tiles.project_patches(embedding, pixels)
        monkeypatch.setattr(tiles, "_ROWS", {})
        assert torch.equal(rows, tiles.project_patches(embedding, pixels))
    expected = embedding.norm(embedding.proj(pixels).permute(0, 2, 3, 4, 1))
    torch.testing.assert_close(rows, expected, atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0)


def convolutional_config(**changes: Any) -> Config:
    """A stem, C halves alone and beside attention, full and depth-wise ones."""
    stages = (
        Stage(channels=16, depth=1, patch=(2, 4, 4), embedding="convolutions", kinds="C"),
        Stage(channels=16, depth=2, patch=(1, 1, 1), kinds="CG", scales=(FINE, COARSE), convolution="depthwise"),
        Stage(channels=32, depth=1, patch=(1, 2, 2), embedding="convolutions", kinds="LC", window=(2, 3, 2)),
        Stage(channels=32, depth=2, patch=(1, 1, 1), kinds="L", window=(2, 3, 2)),
    )
    return Config(stages=stages, clip=(4, 24, 24), num_classes=5, head_dim=8).replace(**changes)


def watch_calls(patch: pytest.MonkeyPatch, kind: type, name: str, ran: list[nn.Module], *, most: int) -> None:
    """Lists the modules whose method is called, and that it gets at most so many clips."""
    method = getattr(kind, name)

    def watched(module: nn.Module, x: Tensor) -> Tensor:
        ran.append(module)
        assert len(x) <= most
        return method(module, x)

    patch.setattr(kind, name, watched)


def test_tiles_of_few_channels_are_longer_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = exact(small_config()).float(), video(4, 24, 24).float()
    monkeypatch.setattr(tiles, "TOKENS_PER_TILE", 20)
    monkeypatch.setattr(tiles, "_CHANNELS_OF_BFLOAT16", 32)  # twice those of the first stage
    rows: list[int] = []
    mlp = tiles._mlp
    monkeypatch.setattr(tiles, "_mlp", lambda half, x: (rows.append(x.shape[:-1].numel()), mlp(half, x))[1])
    expected, _ = in_tiles(model, clips)
    assert max(rows) <= 20
    count = len(rows)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = in_tiles(model, clips)
    assert 20 < max(rows) <= 40
    assert len(rows) - count < count
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("tokens", [1, 20, 3136])
@pytest.mark.parametrize(("size", "batch"), [((4, 24, 24), 1), ((5, 19, 26), 3)])
def test_convolutions_among_tiles_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tokens: int, folded: bool, size: Size3, batch: int
) -> None:
    model, clips = exact(convolutional_config()), video(*size, batch=batch)
    expected, maps = model.forward_intermediates(clips)  # gradients are wanted: the plain graph
    if folded:
        model.fold()
    monkeypatch.setattr(tiles, "TOKENS_PER_TILE", tokens)
    ran: list[nn.Module] = []
    watch_calls(monkeypatch, ConvolutionalStem, "convolve", ran, most=1 if tokens == 1 else batch)
    watch_calls(monkeypatch, ConvolutionSubBlock, "forward", ran, most=1 if tokens == 1 else batch)
    mlp = tiles._mlp
    monkeypatch.setattr(tiles, "_mlp", lambda half, x: (ran.append(half), mlp(half, x))[1])
    before = clips.clone()
    final, maps_in_tiles = in_tiles(model, clips)
    assert len(set(ran)) == 11  # two stems, four C halves, two G and three L
    assert torch.equal(clips, before)
    torch.testing.assert_close(final, expected.detach(), atol=1e-11, rtol=1e-11)
    for one, other in zip(maps_in_tiles, maps, strict=True):
        torch.testing.assert_close(one, other.detach(), atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_stems_and_c_halves_take_large_maps_one_clip_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("dualformer_nano_conv", seed=0).eval().fold()
    clips = video(16, 112, 112, batch=3, dtype=torch.float32)
    made: list[int] = []
    plain = nn.Conv3d.forward

    def convolve(conv: nn.Conv3d, x: Tensor) -> Tensor:
        out = plain(conv, x)
        made.append(out.numel())
        return out

    monkeypatch.setattr(nn.Conv3d, "forward", convolve)
    together = model.forward_intermediates(clips, [0], intermediates_only=True, stop_early=True)[0]
    largest = max(made)
    made.clear()
    alone = model.forward_intermediates(clips[1:2], [0], intermediates_only=True, stop_early=True)[0]
    assert largest == max(made) == 24 * 16 * 56 * 56
    assert torch.equal(together[1:2], alone)


@torch.no_grad()
def test_large_maps_take_their_clips_one_by_one() -> None:
    model = create_model("dualformer_nano", seed=0).eval()
    clips = video(16, 112, 112, batch=3, dtype=torch.float32)
    ran: list[torch.Size] = []
    attention = model.get_submodule("stages.0.blocks.0.1.attn.attention")
    attend = attention.forward
    attention.forward = lambda q, *rest: (ran.append(q.shape), attend(q, *rest))[1]
    together = model.forward_intermediates(clips, [0], intermediates_only=True)[0]
    assert [shape[0] for shape in ran] == [1] * 6  # two tiles of 3136 queries a clip
    assert torch.equal(together[1:2], model.forward_intermediates(clips[1:2], [0], intermediates_only=True)[0])


@pytest.mark.parametrize(
    ("threads", "wanted"),
    [
        (1, [3136, 3136, 3136, 3136, 1568, 1568, 392, 392, 128, 128]),
        (2, [3136, 3136, 3136, 3136, 784, 784, 784, 784, 392, 196, 196, 128, 128]),
        (9, [3136, 3136, 3136, 3136, 1568, 1568, 392, 392, 128, 128]),
    ],
)
def test_tiles_are_of_some_thousand_tokens_or_one_for_each_thread(
    monkeypatch: pytest.MonkeyPatch, threads: int, wanted: list[int]
) -> None:
    monkeypatch.setattr(tiles, "thread_count", lambda: threads if threads <= MOST_THREADS else 1)
    model = create_model("dualformer_nano", seed=0).eval()
    rows: list[int] = []
    mlp = tiles._mlp
    monkeypatch.setattr(
        tiles, "_mlp", lambda half, tokens: (rows.append(tokens.numel() // tokens.shape[-1]), mlp(half, tokens))[1]
    )
    in_tiles(model, video(16, 112, 112, dtype=torch.float32))
    assert rows == wanted


@given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple), most=st.integers(1, 200))
def test_pieces_cover_a_box_once(shape: tuple[int, ...], most: int) -> None:
    box = torch.arange(math.prod(shape)).view(shape)
    parts = [box[piece] for piece in tiles.pieces(shape, most)]
    assert torch.equal(torch.cat([part.flatten() for part in parts]), box.flatten())
    assert all(1 <= part.numel() <= most and part.is_contiguous() for part in parts)


def test_what_is_watched_or_trained_runs_as_it_stands() -> None:
    model = exact(small_config())
    stage, x = model.stages[0], torch.zeros(1, 2, 12, 12, 16)
    with torch.no_grad():
        assert tiles.usable(stage, x)
        assert not tiles.usable(stage, x.to("meta"))
        hook = stage.get_submodule("blocks.0.1.mlp.fc1").register_forward_hook(lambda *_: None)
        assert not tiles.usable(stage, x)
        hook.remove()
        assert tiles.usable(stage, x)
        assert not tiles.usable(stage.train(), x)
    assert not tiles.usable(stage.eval(), x)


@torch.no_grad()
def test_hooks_see_whole_maps() -> None:
    model = exact(small_config())
    shapes: dict[str, torch.Size] = {}
    for name in ("stages.0.blocks.0.0.norm1", "stages.0.blocks.0.1.mlp.fc1"):

        def see(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor, name: str = name) -> None:
            shapes[name] = out.shape

        model.get_submodule(name).register_forward_hook(see)
    model(video(4, 24, 24, batch=2))
    assert list(shapes.values()) == [(2, 2, 12, 12, 16), (2, 2, 12, 12, 64)]


def test_training_decides_nothing_by_values() -> None:
    """On the meta device values do not exist: whatever runs there never waits for a GPU."""
    with torch.device("meta"):
        model = DualFormer(small_config(drop_path=0.2), seed=0).train()
        model(torch.empty(2, 3, 5, 19, 26)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "clip"), [("dualformer_nano", (16, 112, 112)), ("dualformer_tiny", (8, 64, 64)), ("nano", (2, 50, 70))]
)
def test_the_plain_network_gives_the_same(name: str, clip: Size3) -> None:
    model = create_model("dualformer_nano" if name == "nano" else name, clip=clip, num_classes=5, seed=0).eval()
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor += 0.3 if key.endswith("running_var") else torch.randn_like(tensor) * 0.05
    reference, clips = PlainDualFormer.of(model), video(*clip, batch=2, dtype=torch.float32)
    with torch.no_grad():
        ours, expected = model(clips), reference(clips)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_the_plain_network_refuses_what_it_does_not_cover() -> None:
    with pytest.raises(ValueError, match="no position tables"):
        PlainDualFormer(small_config(position="absolute"))
    with pytest.raises(ValueError, match="has patches, and blocks of two halves with attention"):
        PlainDualFormer.of(create_model("dualformer_nano_conv", seed=0))
    one_half = small_config().stages[0]
    with pytest.raises(ValueError, match="has patches, and blocks of two halves with attention"):
        PlainDualFormer(small_config(stages=(replace(one_half, kinds="L"),)))
    reference = PlainDualFormer(small_config())
    with pytest.raises(ValueError, match="cut for cells"):
        reference(torch.zeros(1, 3, 4, 48, 48))
