"""Exports of a network with a temporal head: they give the answer for the clip, and timelines go by clips."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_exports import PRE, card_of, noise, small_network

from dualformer.export.export_data import Clips
from dualformer.export.export_weights import SUFFIXES, export_weights
from dualformer.inference.recognizer import Recognizer
from dualformer.model.network import DualFormer
from dualformer.video.transforms import normalize
from dualformer.weights.exported.export_card import ExportFormat


def temporal_network() -> DualFormer:
    """The small network with a first stage that is twice as fine in time, and a head that is no longer zero."""
    config = small_network().config
    first, second = config.stages
    stages = (replace(first, patch=(1, 4, 4)), replace(second, patch=(2, 2, 2)))
    model = DualFormer(config.replace(stages=stages, head="temporal"), seed=3)
    model.state_dict()["head.weight"].mul_(30)
    model.state_dict()["temporal.conv.weight"].normal_(generator=torch.Generator().manual_seed(0))
    return model.eval()


@pytest.mark.parametrize("kind", ["torch", "onnx", "openvino"])
def test_exports_answer_for_the_clip(tmp_path: Path, kind: ExportFormat) -> None:
    for module in {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino", "nncf")}.get(kind, ()):
        pytest.importorskip(module, reason="the extra [export] is not installed")
    model = temporal_network()
    out = tmp_path / f"network{SUFFIXES[kind]}"
    export_weights(model, card_of(model), out, format=kind, clips=Clips(views=noise(4), source="noise"))
    exported, own = Recognizer.load(out, device="cpu"), Recognizer(model, card_of(model), device="cpu")
    views = noise(3, seed=5)
    with torch.no_grad():
        expected = model(normalize(views, PRE)).softmax(dim=1)
    assert torch.allclose(torch.from_numpy(exported.predict_views(views)), expected, atol=1e-4)
    assert own.answers_steps and not exported.answers_steps
    assert own.predict_steps(views).shape == (3, 4, 6)
    with pytest.raises(ValueError, match="load the weights that it was made from"):
        exported.predict_steps(views)
