"""Compiled in place: the names of weights stay, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualformer.cli.main import main
from dualformer.inference.recognizer import Recognizer
from dualformer.model.compiling import CompileError, compile_network
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.card import Card

CPU = torch.device("cpu")


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes that something is compiled in, by PyTorch's tracer alone: its compiler would take minutes."""
    real, asked = torch.compile, []

    def by_tracer(function: Callable, *, mode: str, **settings: Any) -> Callable:
        asked.append(mode)
        return real(function, backend="eager", **settings)

    monkeypatch.setattr(torch, "compile", by_tracer)
    return asked


def test_it_answers_as_before_and_its_weights_keep_their_names(modes: list[str]) -> None:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0).eval()
    names, video = list(model.state_dict()), torch.randn(2, 3, 4, 32, 32)
    pre = Preprocessing(frames=4, stride=1, resize=32, crop=32, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))
    card = Card(config=model.config, labels=("a", "b", "c"), preprocessing=pre, provenance="", licence="")
    views = torch.randint(256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    plain = Recognizer(model, card)
    expected, features = plain.predict_views(views), plain.embed_views(views)
    with torch.inference_mode():
        before = model(video)
        compiled = Recognizer(model, card, compile_mode="reduce-overhead")
        assert modes == ["reduce-overhead"] * 2  # a sum to try it with, and the network
        assert compiled.model is model and "forward_features" not in vars(model)
        network = compiled.computing
        assert isinstance(network, DualFormer) and "forward_features" in vars(network)
        torch.testing.assert_close(network(video), before, atol=1e-5, rtol=1e-4)
    assert list(network.state_dict()) == names
    np.testing.assert_allclose(compiled.predict_views(views), expected, atol=1e-6)
    np.testing.assert_allclose(compiled.embed_views(views), features, atol=1e-4)
    with torch.no_grad():
        model.norm.bias.add_(1)  # the weights are the same ones, and those of a copy are its own
        torch.testing.assert_close(network(video), model(video), atol=1e-5, rtol=1e-4)
        other = deepcopy(network)
        other.norm.bias.add_(1)
        assert not torch.allclose(other(video), network(video), atol=1e-3)


def test_where_nothing_compiles_it_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_compiler(*values: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no C++ compiler\nand where it was looked for")

    monkeypatch.setattr(torch, "compile", lambda *function, **settings: no_compiler)
    with pytest.raises(CompileError, match=r"does not work here \(no C\+\+ compiler\): leave `compile` out$"):
        compile_network(create_model("dualformer_nano", clip=(4, 32, 32)), device=CPU)
    command = ["train", "--data", "rendered", "--compile", "default", "--out", str(tmp_path / "run")]
    assert main([*command, "--frames", "4", "--size", "32", "--epochs", "1", "--flip", "off"]) == 1
    assert "leave --compile out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
