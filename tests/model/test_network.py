"""Any size, padding that changes nothing, randomness where it belongs, errors. The numbers are in test_oracle."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model.attention import (
    Attention,
    WindowAttention,
    fitted_window,
    from_windows,
    into_windows,
    window_mask,
)
from dualformer.model.block import DropPath
from dualformer.model.config import Config, Scale, Size3, Stage, ceil_div, parse_clip
from dualformer.model.kernels import attention as attention_kernel
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models, preset_config
from dualformer.model.pyramid import Pyramid


@pytest.fixture(scope="module")
def nano() -> DualFormer:
    return create_model("dualformer_nano", num_classes=7, seed=0).eval()


def video(*size: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn((batch, 3, *size), generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module) -> nn.Module:
    """float64 and every parameter and statistic away from its special starting value."""
    generator = torch.Generator().manual_seed(1)
    module = module.double().eval()
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.4)
    for name, tensor in module.named_buffers():
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
    return module


@pytest.mark.parametrize("size", [(1, 32, 32), (1, 1, 1), (5, 33, 47), (17, 100, 64), (16, 112, 112), (3, 224, 31)])
def test_any_size_works(nano: DualFormer, size: Size3) -> None:
    with torch.no_grad():
        final, maps = nano.forward_intermediates(video(*size))
        logits = nano.forward_head(final)
    assert [tuple(m.shape[2:]) for m in maps] == list(nano.config.map_sizes(size))
    assert logits.shape == (1, 7)
    assert logits.isfinite().all()


def test_a_batch_equals_its_singles(nano: DualFormer) -> None:
    clips = video(5, 50, 38, batch=3)
    with torch.no_grad():
        together = nano(clips)
        apart = torch.cat([nano(clip[None]) for clip in clips])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 32, 32), (1, 4, 3, 32, 32), (1, 3, 0, 32, 32)])
def test_wrong_videos(nano: DualFormer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a video is B 3 T H W"):
        nano(torch.zeros(shape))


def test_fresh_weights() -> None:
    model = create_model("dualformer_nano", seed=0)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.1), name
            assert not module.bias.any(), name


def test_stochastic_depth() -> None:
    model = create_model("dualformer_tiny", clip=(4, 32, 32), drop_path=0.34, seed=0)
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.34 * i / 17 for i in range(18)])
    drop = DropPath(0.25)
    ones = torch.ones(20_000, 2, 1, 1, 1)
    torch.manual_seed(0)
    dropped = drop(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(dropped[:, 0], dropped[:, 1])  # a whole clip's branch at a time
    assert torch.equal(drop.eval()(ones), ones)


def test_training_is_random_and_evaluation_is_not() -> None:
    model = create_model("dualformer_nano", num_classes=7, drop_path=0.5, seed=0)
    clips = video(2, 32, 32, batch=2)
    with torch.no_grad():
        assert not torch.equal(model(clips), model(clips))
        model.eval()
        assert torch.equal(model(clips), model(clips))


def test_every_parameter_gets_a_gradient() -> None:
    model = create_model("dualformer_nano", num_classes=7, seed=0)
    model(video(16, 112, 112, batch=2)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # Softmax ignores a shift of all scores of a query, so key biases (here beside value biases) may get none.
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


SIZES = [(8, 7, 7), (16, 14, 14), (1, 1, 1), (9, 16, 8), (3, 10, 13), (17, 5, 29)]


@pytest.mark.parametrize("size", SIZES)
def test_windows_and_back(size: Size3) -> None:
    window = fitted_window(size, (8, 7, 7))
    x = torch.arange(2 * math.prod(size) * 3.0).reshape(2, *size, 3)
    windows = into_windows(x, window)
    assert windows.shape == (2, math.prod(ceil_div(size, window)), math.prod(window), 3)
    assert torch.equal(from_windows(windows, window, size), x)


@pytest.mark.parametrize("size", SIZES)
def test_the_mask_marks_real_tokens(size: Size3) -> None:
    window = fitted_window(size, (8, 7, 7))
    assert all(a <= b for a, b in zip(window, (8, 7, 7), strict=True))
    assert ceil_div(size, window) == ceil_div(size, (8, 7, 7))
    mask = window_mask(size, window, torch.device("cpu"))
    real = into_windows(torch.ones(1, *size, 1), window)[0, :, :, 0].bool()
    if mask is None:
        assert real.all()
    else:
        assert torch.equal(mask[:, 0, 0], real)
        assert int(mask.sum()) == math.prod(size)
        assert mask.any(-1).all()  # no window of padding alone, whose softmax would be NaN


def test_the_window_fits_the_map() -> None:
    assert fitted_window((16, 56, 56), (8, 7, 7)) == (8, 7, 7)
    assert fitted_window((4, 3, 9), (8, 7, 7)) == (4, 3, 5)
    assert fitted_window((8, 16, 16), (8, 7, 7)) == (8, 6, 6)


def test_what_fills_the_padding_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = WindowAttention(8, 2, (2, 3, 3))
    randomise(layer)
    x = torch.randn(2, 3, 5, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = layer(x)
        pad = F.pad
        filled: list[int] = []

        def pad_with_junk(tensor: Tensor, widths: tuple[int, ...]) -> Tensor:
            if tensor.dtype == torch.bool:
                return pad(tensor, widths)
            filled.append(1)
            return pad(tensor, widths, value=1e3)

        monkeypatch.setattr(attention_kernel.F, "pad", pad_with_junk)
        assert torch.equal(layer(x), expected)
    assert filled


def test_grids_are_reached() -> None:
    pyramid = Pyramid(4, (16, 56, 56), (Scale(grid=(8, 7, 7)), Scale(grid=(4, 4, 4), factorised=True)))
    with torch.no_grad():
        assert pyramid(torch.zeros(1, 16, 56, 56, 4)).shape == (1, 8 * 7 * 7 + 4 * 4 * 4, 4)


@pytest.mark.parametrize("masked", [False, True])
def test_bfloat16_attention_is_the_same_attention(masked: bool) -> None:
    q, k, v = (torch.randn(3, 2, n, 32, generator=torch.Generator().manual_seed(n)) for n in (5, 9, 9))
    mask = torch.where(torch.arange(9) < 4, 0.0, float("-inf")).expand(3, 1, 1, 9) if masked else None
    exact = Attention()(q, k, v, mask)
    rounded = Attention()(q.bfloat16(), k.bfloat16(), v.bfloat16(), None if mask is None else mask.bfloat16())
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0.03)
    if masked:
        torch.testing.assert_close(exact, Attention()(q, k[:, :, :4], v[:, :, :4]))


def test_a_long_map_does_not_keep_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (torch.randn(1, 1, 64, 8, dtype=torch.bfloat16) for _ in range(3))
    explicit = Attention()(q, k, v)
    monkeypatch.setattr(attention_kernel, "EXPLICIT_SCORES", 64 * 64 - 1)
    monkeypatch.setattr(attention_kernel, "attention_weights", None)  # calling it would fail
    torch.testing.assert_close(Attention()(q, k, v), explicit, atol=0.03, rtol=0.03)


def test_autocast_stays_near_float32(nano: DualFormer) -> None:
    clip = video(4, 64, 64)
    with torch.no_grad():
        exact = nano(clip)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = nano(clip)
    assert float((rounded.float() - exact).abs().max()) < 0.02 * float(exact.abs().max()) + 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 48}, "48 channels do not divide into heads of 32"),
        ({"channels": 0}, "at least 1"),
        ({"kinds": "LX"}, "kinds must be"),
        ({"kinds": "LGL"}, "kinds must be"),
        ({"window": (0, 7, 7)}, "window must be"),
        ({"patch": (2, 0, 4)}, "patch must be"),
    ],
)
def test_wrong_stages(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(stages=(Stage(**{"channels": 32, "depth": 1, "patch": (2, 4, 4), **changes}),), clip=(8, 32, 32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ()}, "at least one stage"),
        ({"num_classes": -1}, "num_classes"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"colour": "red"}, "unknown setting colour"),
        ({"position": "sine"}, "position must be one of peg, absolute, relative, none, not 'sine'"),
    ],
)
def test_wrong_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset_config("dualformer_nano", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": (0, 7, 7)}, "grid must be whole numbers of at least 1"),
        ({"grid": (8, 7, 7), "function": "max"}, "function must be one of depthwise, full, average, not 'max'"),
        ({"grid": (8, 7, 7), "function": "average", "factorised": True}, "factorised=False"),
    ],
)
def test_wrong_scales(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scale(**changes)


def test_a_bias_of_windows_needs_windows() -> None:
    stage = Stage(channels=32, depth=1, patch=(2, 4, 4), kinds="GG")
    with pytest.raises(
        ValueError, match=r"stage 1: position='relative' .* kinds='GG' has none; choose kinds with an L"
    ):
        Config(stages=(stage,), clip=(8, 32, 32), position="relative")


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'tiny'; there are dualformer_nano, dualformer_nano_conv"):
        preset_config("tiny")


@pytest.mark.parametrize("name", list_models())
def test_configs_survive_json(name: str) -> None:
    config = preset_config(name, drop_path=0.1)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_clips_as_text() -> None:
    assert parse_clip("32x224x200") == (32, 224, 200)
    for wrong in ("32x224", "32xax2", ""):
        with pytest.raises(ValueError, match="32x224x224"):
            parse_clip(wrong)
