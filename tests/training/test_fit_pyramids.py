"""Pyramids of the standard layout learn from those of the exact one: agreement, what changes, what does not decode."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualformer.model.config import Scale
from dualformer.model.network import DualFormer
from dualformer.model.presets import preset_config
from dualformer.training.fit_pyramids import Agreement, agreement, fit_pyramids
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.layouts import to_standard

PRE = kinetics(frames=1, stride=1, size=64)


@pytest.fixture(scope="module")
def exact() -> DualFormer:
    """A random network of images whose pyramids say much: what their attention adds is as large as the tokens."""
    config = preset_config("dualformer_nano", clip=(1, 64, 64), num_classes=5)
    stages = (
        replace(stage, scales=tuple(Scale(grid=scale.grid, function="full") for scale in stage.scales[:1]))
        for stage in config.stages
    )
    model = DualFormer(config.replace(stages=tuple(stages)), seed=1).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("1.attn.kv.weight", "1.attn.proj.weight")):
            parameter.data.mul_(10)
    return model


@pytest.fixture(scope="module")
def card(exact: DualFormer) -> Card:
    return Card(config=exact.config, labels=tuple("abcde"), preprocessing=PRE, provenance="a test", licence="")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Blocks of random colours."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(20):
        blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


def test_the_agreement_rises_and_pyramids_alone_change(exact: DualFormer, card: Card, pictures: list[Path]) -> None:
    standard, _, _ = to_standard(exact, card)
    begun = {key: tensor.clone() for key, tensor in standard.state_dict().items()}
    taught = {key: tensor.clone() for key, tensor in exact.state_dict().items()}
    before, after = fit_pyramids(standard, exact, PRE, pictures, fit_steps=40, batch_size=8)
    assert before.files == after.files == 4  # a fifth of them, however many views each has
    assert after.cosine > before.cosine + 0.1
    assert all(torch.equal(tensor, taught[key]) for key, tensor in exact.state_dict().items())
    changed = {key for key, tensor in standard.state_dict().items() if not torch.equal(tensor, begun[key])}
    assert changed and all(
        ".pyramid." in key or key.endswith(("1.attn.kv.weight", "1.attn.kv.bias")) for key in changed
    )
    assert not standard.training and all(parameter.requires_grad for parameter in standard.parameters())


def test_the_same_call_gives_the_same_network(exact: DualFormer, card: Card, pictures: list[Path]) -> None:
    fitted = [to_standard(exact, card)[0] for _ in range(2)]
    for model in fitted:
        fit_pyramids(model, exact, PRE, pictures, fit_steps=2, batch_size=4)
    one, other = (model.state_dict() for model in fitted)
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_a_network_agrees_with_itself(exact: DualFormer) -> None:
    seen = torch.randint(0, 256, (3, 1, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = agreement(exact, exact, seen, PRE)
    assert found.same_label == 1 and found.cosine == pytest.approx(1)
    assert str(Agreement(files=3, cosine=0.5, same_label=None)) == "cosine of the features 0.500"


def test_files_that_do_not_decode_are_told_and_left_out(
    exact: DualFormer, card: Card, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    lines: list[str] = []
    standard, _, _ = to_standard(exact, card)
    fit_pyramids(
        standard, exact, PRE, [*pictures[:5], tmp_path / "broken.png"], fit_steps=2, batch_size=5, log=lines.append
    )
    assert len(lines) == 1 and lines[0].startswith(f"left out: {tmp_path / 'broken.png'}")


def test_what_cannot_be_fitted(exact: DualFormer, card: Card, pictures: list[Path]) -> None:
    standard, _, _ = to_standard(exact, card)
    with pytest.raises(ValueError, match="`fit_steps` and `batch_size` must be at least 1"):
        fit_pyramids(standard, exact, PRE, pictures, fit_steps=0)
    with pytest.raises(ValueError, match="no pictures and videos"):
        fit_pyramids(standard, exact, PRE, [])
    with pytest.raises(ValueError, match="between networks of images"):
        fit_pyramids(standard, exact, kinetics(frames=4, size=64), pictures)
