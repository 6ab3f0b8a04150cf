"""Exports of a network with a temporal head: the answer for the clip and for its steps, and the timeline by these."""

from dataclasses import replace
from pathlib import Path

import numpy as np
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
def test_exports_answer_for_clips_and_their_steps(tmp_path: Path, kind: ExportFormat) -> None:
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
    steps = own.predict_steps(views)
    assert steps.shape == (3, 4, 6) and steps.std(axis=1).max() > 0.1
    np.testing.assert_allclose(exported.predict_steps(views), steps, atol=1e-4)
    film = noise(8, seed=7).flatten(0, 1).numpy()
    ours, theirs = (each.timeline(film, fps=25, threshold=0.2, shortest=0.0) for each in (own, exported))
    assert len(ours.probabilities) > 2 * ours.clips and len(ours.segments) > 3
    np.testing.assert_array_equal(theirs.bounds, ours.bounds)
    np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-4)
    assert [(each.label, each.start) for each in theirs.segments] == [
        (each.label, each.start) for each in ours.segments
    ]
