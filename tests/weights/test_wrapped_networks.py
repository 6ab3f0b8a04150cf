"""Networks in the wrappers of training code are saved and read; what is none is refused with the remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dualformer.cli.main import main
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import transfer
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.release import convert_release, release_state
from dualformer.weights.safetensors_file import METADATA_KEY, load_pretrained, load_weights, save_weights
from dualformer.weights.wrapped_network import unwrap_network


def made(name: str = "dualformer_nano") -> DualFormer:
    return create_model(name, clip=(4, 32, 32), num_classes=3, seed=0).eval()


def compiled_stage(model: DualFormer) -> DualFormer:
    model.stages[0] = torch.compile(model.stages[0])  # type: ignore[assignment]  # it is not called here
    return model


WRAPPERS: dict[str, Callable[[DualFormer], Any]] = {
    "itself": lambda model: model,
    "DataParallel": nn.DataParallel,
    "compiled": torch.compile,
    "compiled in DataParallel": lambda model: nn.DataParallel(cast(nn.Module, torch.compile(model))),
    "DataParallel compiled": lambda model: torch.compile(nn.DataParallel(model)),
    "a compiled stage": compiled_stage,
    "averaged": torch.optim.swa_utils.AveragedModel,
}


@pytest.fixture(scope="module")
def card() -> Card:
    return Card(
        config=made().config,
        labels=("a", "b", "c"),
        preprocessing=transfer(frames=4, size=32),
        provenance="a test",
        licence="mit",
    )


def assert_same(model: DualFormer, other: DualFormer) -> None:
    state, others = model.state_dict(), other.state_dict()
    assert list(state) == list(others)
    assert all(torch.equal(tensor, others[key]) for key, tensor in state.items())


@pytest.mark.parametrize("how", WRAPPERS)
def test_a_wrapped_network_is_saved_as_the_one_inside(tmp_path: Path, card: Card, how: str) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, WRAPPERS[how](made()), card)
    assert_same(load_weights(path)[0], made())
    other = WRAPPERS[how](create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=1))
    load_pretrained(other, path, labels=card.labels)
    save_weights(path, other, card)
    assert_same(load_weights(path)[0], made())


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.module."]
)
def test_names_of_wrappers_in_files_are_read(tmp_path: Path, card: Card, prefix: str) -> None:
    """In a weights file of an earlier version, a plain state dict, and a released checkpoint."""
    state = {prefix + key: tensor for key, tensor in made().state_dict().items()}
    save_file(state, tmp_path / "w.safetensors", metadata={"format": "pt", METADATA_KEY: card.to_json()})
    assert_same(load_weights(tmp_path / "w.safetensors")[0], made())
    torch.save(state, tmp_path / "own.pth")
    model, config, _ = convert_release(tmp_path / "own.pth", clip=(4, 32, 32))
    assert config.replace(drop_path=0.0) == made().config.replace(drop_path=0.0)
    assert_same(model, made())
    whole = create_model("dualformer_nano", clip=(8, 64, 64), num_classes=3, seed=0)
    released = {prefix + key: tensor for key, tensor in release_state(whole).items()}
    torch.save({"state_dict": released, "n": 1}, tmp_path / "release.pth")
    assert_same(convert_release(tmp_path / "release.pth")[0], whole)


@pytest.mark.parametrize("name", ["dualformer_nano", "dualformer_nano_conv"])
@pytest.mark.parametrize("entry", [None, "state_dict", "model_state_dict", "model"])
def test_a_plain_state_dict_becomes_weights_that_a_training_starts_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, entry: str | None
) -> None:
    """What `train` says of it leads to `convert`, which reads it."""
    path, out = tmp_path / "own.pth", tmp_path / "own.safetensors"
    state = made(name).state_dict()
    torch.save({entry: state, "epoch": 3} if entry else state, path)
    if entry is None:
        assert main(["info", str(path)]) == 1
        assert "turn it into a weights file with `dualformer convert`" in capsys.readouterr().err
    assert main(["convert", str(path), str(out), "--preprocessing", "transfer", "--clip", "4x32x32"]) == 0
    assert f"widths, depths and scales of {name}" in capsys.readouterr().out
    model, card = load_weights(out)
    assert_same(model, made(name))
    assert card.labels == ("0", "1", "2")
    other = create_model(name, clip=(4, 32, 32), num_classes=3, seed=1)
    load_pretrained(other, out)
    assert_same(other, made(name))


def test_what_is_no_network_of_ours_is_refused_with_the_remedy(tmp_path: Path, card: Card) -> None:
    with pytest.raises(ValueError, match="Sequential is no DualFormer, nor a wrapper with one as its module"):
        save_weights(tmp_path / "w.safetensors", nn.Sequential(made()), card)
    assert unwrap_network(nn.DataParallel(made())).config == card.config
    torch.save(
        {f"x.{key}": tensor[..., :1] for key, tensor in made().state_dict().items() if tensor.dim()}, tmp_path / "o.pth"
    )
    with pytest.raises(WeightsError, match=r"those of no preset.*write it with its card by `save_weights"):
        convert_release(tmp_path / "o.pth")
    run = tmp_path / "runs" / "a" / "checkpoints" / "step-0000001.pt"
    run.parent.mkdir(parents=True)
    torch.save({"tensors": {}, "progress": {}, "fingerprint": "{}", "random": []}, run)
    with pytest.raises(WeightsError, match=r"what a training run goes on from; its weights are best\.safetensors"):
        convert_release(run)
