"""Released weights, converted, give the numbers that the released network gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dualformer.weights.release import convert_release


@pytest.mark.parametrize(("name", "frames", "seed"), [("mini32", 32, 1), ("mini16", 16, 2)])
def test_golden_values(shared: Path, name: str, frames: int, seed: int) -> None:
    model, config, _ = convert_release(shared / "golden" / f"{name}.pth", preset="dualformer_nano")
    assert config.clip == (frames, 224, 224)
    video = np.random.RandomState(seed).standard_normal((1, 3, frames, 224, 224)).astype(np.float32)
    with torch.no_grad():
        features, maps = model.forward_intermediates(torch.from_numpy(video))
        ours = {
            "logits": model.forward_head(features),
            "features": features,
            "stage4": maps[3],
            "stage1_slice": maps[0][:, :, ::4, ::14, ::14],
            "stage2_slice": maps[1][:, :, ::4, ::7, ::7],
            "stage3_slice": maps[2][:, :, ::4, ::7, ::7],
        }
    golden = load_file(shared / "golden" / f"{name}.safetensors")
    assert set(golden) == set(ours)
    for key, values in golden.items():
        assert ours[key].shape == values.shape, key
        assert float((ours[key] - values).abs().max()) < 1e-4, key
