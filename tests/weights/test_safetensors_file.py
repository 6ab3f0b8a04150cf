"""Files that know their network: round trips, cards, damaged files, full disks, atomic writing."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualformer.files import FileWriteError, atomic_write
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import kinetics, transfer
from dualformer.weights.card import Card, read_labels
from dualformer.weights.errors import WeightsError
from dualformer.weights.locate import find_local_weights, resolve_weights
from dualformer.weights.safetensors_file import load_model, load_state, load_weights, read_card, save_weights


@pytest.fixture(scope="module")
def model() -> DualFormer:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, drop_path=0.1, seed=0)
    model(torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0)))  # moves the running statistics
    return model.eval()


@pytest.fixture(scope="module")
def card(model: DualFormer) -> Card:
    return Card(
        config=model.config,
        labels=("wave", "clap", "ルン"),
        preprocessing=transfer(frames=4, size=32),
        provenance="made by a test",
        licence="apache-2.0",
        metrics={"top1": 0.5},
    )


@pytest.fixture
def path(tmp_path: Path, model: DualFormer, card: Card) -> Path:
    save_weights(tmp_path / "w.safetensors", model, card)
    return tmp_path / "w.safetensors"


def test_round_trip_bit_for_bit(path: Path, model: DualFormer, card: Card) -> None:
    loaded, its_card = load_weights(path)
    assert its_card == card
    assert read_card(path) == card
    assert loaded.config == model.config
    assert not loaded.training
    state = model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[key]), key
        assert tensor.dtype == state[key].dtype
    clip = torch.randn(1, 3, 5, 40, 33)
    with torch.no_grad():
        assert torch.equal(load_model(path)(clip), model(clip))
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_the_file_is_plain_safetensors(path: Path, model: DualFormer) -> None:
    assert load_file(path).keys() == model.state_dict().keys()
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_a_loaded_model_does_not_depend_on_the_file(path: Path, model: DualFormer) -> None:
    loaded = load_model(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(loaded.norm.weight, model.norm.weight)
    assert torch.equal(loaded.get_parameter("head.weight"), model.get_parameter("head.weight"))


def test_loading_leaves_the_random_state_alone(path: Path) -> None:
    before = torch.get_rng_state()
    load_model(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_storage(tmp_path: Path, path: Path, model: DualFormer, card: Card) -> None:
    small = tmp_path / "small.safetensors"
    save_weights(small, model, card, dtype=torch.float16)
    assert small.stat().st_size < 0.51 * path.stat().st_size
    for key, tensor in load_file(small).items():
        assert tensor.dtype == (torch.int64 if key.endswith("num_batches_tracked") else torch.float16), key
    for key, tensor in load_state(small).items():
        assert tensor.dtype == (torch.int64 if key.endswith("num_batches_tracked") else torch.float32), key
        assert torch.equal(tensor, model.state_dict()[key].half().to(tensor.dtype)), key


def test_values_too_large_for_half_precision(tmp_path: Path, card: Card) -> None:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, drop_path=0.1, seed=0)
    with torch.no_grad():
        model.norm.weight[0] = 1e6
    with pytest.raises(WeightsError, match=r"norm\.weight are too large for torch\.float16; save without dtype"):
        save_weights(tmp_path / "w.safetensors", model, card, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_a_card_of_another_network_is_refused(tmp_path: Path, model: DualFormer, card: Card) -> None:
    with pytest.raises(ValueError, match="the card's config is not the model's"):
        save_weights(tmp_path / "w", model, replace(card, config=card.config.replace(dropout=0.1)))


def test_cards_survive_json(card: Card) -> None:
    assert Card.from_json(card.to_json()) == card
    assert Card.from_json(replace(card, labels=(), metrics={}).to_json()).labels == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format version 2 is unknown"),
        ({"labels": ["a", "b"]}, "2 labels do not fit a classifier of 3 classes"),
        ({"labels": ["a", "b", "b"]}, "'b' occurs twice"),
        ({"labels": [1, 2, 3]}, "labels must be strings"),
        ({"labels": "abc"}, "labels must be a list"),
        ({"colour": "red"}, "unknown keys colour"),
        ({"licence": None}, "licence must be text"),
        ({"metrics": {"top1": "high"}}, "metric top1 must be a finite number"),
        ({"config": {"stages": []}}, "config lacks clip"),
        ({"config": 5}, "config must be an object"),
        ({"preprocessing": {}}, "missing preprocessing keys"),
    ],
)
def test_cards_are_strict(card: Card, change: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        Card.from_json(json.dumps(json.loads(card.to_json()) | change))


@pytest.mark.parametrize(("field", "value"), [("clip", [4, 32]), ("num_classes", "3"), ("stages", [1])])
def test_cards_with_a_wrong_config(card: Card, field: str, value: object) -> None:
    data = json.loads(card.to_json())
    data["config"][field] = value
    with pytest.raises(WeightsError, match="the card is not valid"):
        Card.from_json(json.dumps(data))


@pytest.mark.parametrize("key", ["config", "labels", "preprocessing", "provenance", "licence", "metrics"])
def test_cards_must_be_complete(card: Card, key: str) -> None:
    data = json.loads(card.to_json())
    del data[key]
    with pytest.raises(WeightsError, match=f"missing keys {key}"):
        Card.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_cards_that_are_none(text: str) -> None:
    with pytest.raises(WeightsError, match="the card is not valid"):
        Card.from_json(text)


def test_other_files_are_recognised(tmp_path: Path, path: Path) -> None:
    def says(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            load_weights(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(str(tmp_path / name)), message
        assert "\n" not in message
        return message

    torch.save({"state_dict": {}}, tmp_path / "a.pth")
    assert "dualformer convert" in says("b.pth", (tmp_path / "a.pth").read_bytes())
    assert "empty file" in says("empty.safetensors", b"")
    assert "git lfs pull" in says("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    assert "an HTML page" in says("page.safetensors", b"<!DOCTYPE html>" * 20)
    whole = path.read_bytes()
    assert "damaged or incomplete" in says("cut.safetensors", whole[: len(whole) // 2])
    save_file({"a": torch.zeros(1)}, tmp_path / "plain")
    assert "without a dualformer card" in says("plain.safetensors", (tmp_path / "plain").read_bytes())
    save_file({"a": torch.zeros(1)}, tmp_path / "plain", metadata={"dualformer": "{}"})
    assert "format version None is unknown" in says("future.safetensors", (tmp_path / "plain").read_bytes())


def test_tensors_that_do_not_fit_are_listed(path: Path, card: Card) -> None:
    state = load_file(path)
    state["head.weight"] = torch.zeros(4, 256)
    state["extra"] = torch.zeros(1)
    del state["norm.bias"], state["norm.weight"]
    save_file(state, path, metadata={"dualformer": card.to_json()})
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert "2 missing: norm.weight, norm.bias" in message
    assert "1 unexpected: extra" in message
    assert "1 of another shape: head.weight 4x256 instead of 3x256" in message


def test_long_lists_are_cut_and_counted(path: Path, card: Card, model: DualFormer) -> None:
    save_file({"norm.weight": torch.zeros(256)}, path, metadata={"dualformer": card.to_json()})
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    missing = len(model.state_dict()) - 1
    assert f"{missing} missing: " in str(caught.value)
    assert f" and {missing - 8} more" in str(caught.value)


def test_what_is_no_weights(tmp_path: Path) -> None:
    for wrong in ("nothing", "runs/best.safetensors", "a/b/c", str(tmp_path / "none")):
        with pytest.raises(FileNotFoundError, match="no such weights file or folder"):
            resolve_weights(wrong)
    with pytest.raises(WeightsError, match=r"there is no model\.safetensors in it"):
        resolve_weights(tmp_path)
    assert find_local_weights("owner/name") is None  # and nothing is fetched
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        read_card(tmp_path / "none")


def test_a_full_disk_leaves_the_previous_file(path: Path, model: DualFormer, card: Card) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes need a Unix")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(FileWriteError) as caught:
            save_weights(path, model, replace(card, provenance="later"))
        with pytest.raises(FileWriteError, match="could not be written"):
            atomic_write(path, lambda temporary: torch.save(model.state_dict(), temporary))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == (
        f"{path}: could not be written (file too large); choose another folder, or have the limit on file sizes raised"
    )
    assert path.read_bytes() == before
    assert [child.name for child in path.parent.iterdir()] == [path.name]
    save_weights(path, model, replace(card, provenance="later"))
    assert read_card(path).provenance == "later"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: Path, model: DualFormer, card: Card) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FileWriteError, match="choose a folder that you may write to"):
        save_weights(tmp_path / "w.safetensors", model, card)


def test_a_path_through_a_file(path: Path, model: DualFormer, card: Card) -> None:
    with pytest.raises(FileWriteError, match="a part of it is a file"):
        save_weights(path / "w.safetensors", model, card)


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffwave\r\nclap hands \r\nルン\r\n".encode())
    assert read_labels(path) == ("wave", "clap hands", "ルン")
    for content, message in {
        "a\n\nb\n": "line 2: an empty line",
        "a\nb\na\n": "line 3: 'a' is on line 1 already",
        "": "no labels",
    }.items():
        path.write_text(content)
        with pytest.raises(WeightsError, match=message):
            read_labels(path)
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(WeightsError, match="not UTF-8"):
        read_labels(path)
    with pytest.raises(FileNotFoundError):
        read_labels(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "count"), [("diving48", 48), ("hmdb51", 51), ("kinetics400", 400), ("kinetics600", 600), ("ucf101", 101)]
)
def test_real_label_files(shared: Path, name: str, count: int) -> None:
    assert len(read_labels(shared / "labels" / f"{name}.txt")) == count


def test_a_card_says_whether_there_may_be_several_labels(card: Card) -> None:
    several = replace(card, multi_label=True)
    assert json.loads(several.to_json())["multi_label"] is True
    assert Card.from_json(several.to_json()) == several != card
    # Other files are as they were before there was such a key, so that programs from then read them.
    assert "multi_label" not in json.loads(card.to_json())
    with pytest.raises(WeightsError, match="multi_label must be true or false, not 'yes'"):
        Card.from_json(json.dumps(json.loads(card.to_json()) | {"multi_label": "yes"}))


def test_classes_that_changed_are_loaded_and_saved(tmp_path: Path) -> None:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0)
    pre = kinetics(frames=4, stride=2, size=32)
    card = Card(
        config=model.config,
        labels=("a", "b", "c"),
        preprocessing=pre,
        provenance="a test",
        licence="",
        metrics={"val_top1": 0.5},
    )
    save_weights(tmp_path / "three.safetensors", model, card)
    five = load_model(tmp_path / "three.safetensors", num_classes=5, seed=1)
    again = load_model(tmp_path / "three.safetensors", num_classes=5, seed=1)
    assert five.config.num_classes == 5 and not five.training
    for (name, one), other in zip(five.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
        if not name.startswith("head."):
            assert torch.equal(one, model.state_dict()[name])
    assert load_model(tmp_path / "three.safetensors", num_classes=0).config.num_classes == 0
    assert load_model(tmp_path / "three.safetensors").config.num_classes == 3
    with pytest.raises(ValueError, match="0 or more"):
        load_model(tmp_path / "three.safetensors", num_classes=-1)
    with pytest.raises(ValueError, match=r"the card is of 3 classes, and the network has 5: .* labels="):
        save_weights(tmp_path / "five.safetensors", five, card)
    save_weights(tmp_path / "five.safetensors", five, card, labels=list("vwxyz"))
    loaded, saved = load_weights(tmp_path / "five.safetensors")
    assert (saved.labels, saved.metrics, saved.provenance) == (tuple("vwxyz"), {}, "a test")
    assert torch.equal(loaded.state_dict()["head.weight"], five.state_dict()["head.weight"])
    with pytest.raises(ValueError, match="labels"):
        save_weights(tmp_path / "five.safetensors", five, card, labels=["v", "w"])


def test_pretrained_is_answered_with_what_to_call() -> None:
    with pytest.raises(ValueError, match=r"dualformer\.load_model"):
        create_model("dualformer_nano", pretrained=True)
    assert create_model("dualformer_nano", clip=(4, 32, 32), num_classes=2, pretrained=False).config.num_classes == 2
