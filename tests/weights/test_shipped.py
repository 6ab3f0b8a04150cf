"""The weights that come with the package."""

import pytest
import torch

from dualformer.datasets.rendered import ALL, Difficulty, RenderedClips, Scene
from dualformer.video.transforms import normalize
from dualformer.weights.locate import resolve_weights
from dualformer.weights.safetensors_file import load_weights


@pytest.mark.parametrize(("name", "right"), [("rendered", 0.95), ("rendered-nano", 0.95)])
def test_the_shipped_weights_are_small_and_recognise_motion_in_new_clips(name: str, right: float):
    path = resolve_weights(name)
    assert path.stat().st_size < 6e6
    model, card = load_weights(name)
    assert card.labels == ALL and card.licence == "Apache-2.0"
    assert sum(parameter.numel() for parameter in model.parameters()) < 3e6
    scene = Scene(classes=ALL, difficulty=Difficulty.at(0.5), wrap=True)
    clips = RenderedClips(scene, 64, seed=12345, frames=16)
    items = [clips[i] for i in range(64)]
    with torch.inference_mode():
        logits = model(normalize(torch.stack([item["clip"] for item in items]), card.preprocessing))
    labels = torch.stack([item["label"] for item in items])
    assert (logits.argmax(dim=1) == labels).float().mean() > right
