"""The probe: attention as written out, the same for the same seed, and right where the features tell."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dualformer.encoders import attentive_probe
from dualformer.encoders.attentive_probe import AttentiveProbe, LabelledFeatures, ask_probe, count_right, train_probe
from dualformer.encoders.feature_store import StoredFeatures


def test_it_is_attention_of_several_heads_by_one_query() -> None:
    torch.manual_seed(0)
    probe = AttentiveProbe(12, 5, grid=(2, 3, 3), heads=3)
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.copy_(torch.randn_like(parameter))
    features = torch.randn(4, 2, 3, 3, 12)
    tokens = (probe.norm(features) + probe.time + probe.place).reshape(4, 18, 12)
    keys, values = probe.key(tokens), probe.value(tokens)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        weights = (keys[..., part] @ probe.query[part] / 2).softmax(dim=1)
        heads.append(torch.einsum("bn,bnd->bd", weights, values[..., part]))
    expected = probe.out(torch.cat(heads, dim=1))
    found = probe(features)
    assert torch.allclose(found.pooled, expected, atol=1e-4)
    assert torch.allclose(found.logits, probe.head(expected), atol=1e-4)


def test_heads_divide_any_width() -> None:
    assert [AttentiveProbe(width, 2, grid=(1, 1, 1)).heads for width in (16, 768, 1408, 65)] == [1, 12, 22, 1]


def videos_of(folder: Path, count: int, *, seed: int) -> list[LabelledFeatures]:
    """Of two classes: the third feature is high early in one, late in the other; all else is noise."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        label = number % 2
        features = torch.randn(2, 4, 2, 2, 8, generator=generator)
        features[:, 3 * label, :, :, 2] += 4
        path = folder / f"{seed}-{number}.safetensors"
        save_file({"features": features.half(), "spans": torch.tensor([[0.0, 1.0], [1.0, 2.0]])}, path)
        found.append(LabelledFeatures(features=StoredFeatures(path), label=label))
    return found


def test_it_learns_what_is_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, unknown = videos_of(tmp_path, 24, seed=0), videos_of(tmp_path, 40, seed=1)
    monkeypatch.setattr(attentive_probe, "_STEPS", 250)
    before = torch.random.get_rng_state()
    probe, again = (train_probe(known, width=8, grid=(4, 2, 2), clips=2, num_classes=2, seed=3) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert count_right(probe, unknown) >= 36
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in probe.state_dict().items())
    monkeypatch.setattr(attentive_probe, "_IN_MEMORY", 0)
    from_disk = train_probe(known, width=8, grid=(4, 2, 2), clips=2, num_classes=2, seed=3)
    assert torch.equal(from_disk.query, probe.query)
    other = train_probe(known, width=8, grid=(4, 2, 2), clips=2, num_classes=2, seed=4)
    assert not torch.equal(other.query, probe.query)
    said = ask_probe(probe, unknown[0].features)
    assert said.logits.shape == (2, 2) and said.pooled.shape == (2, 8) and not probe.training
