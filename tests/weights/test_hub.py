"""Weights as a folder, and the hub, which is never reached: its client is replaced or told to stay offline."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub.errors import HfHubHTTPError

from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.hub import load_from_folder, push_to_hub, save_to_folder
from dualformer.weights.locate import resolve_weights
from dualformer.weights.safetensors_file import load_model, load_weights


@pytest.fixture(scope="module")
def model() -> DualFormer:
    return create_model("dualformer_nano", clip=(4, 32, 32), num_classes=2, seed=0).eval()


@pytest.fixture(scope="module")
def card(model: DualFormer) -> Card:
    pre = kinetics(frames=4, size=32)
    return Card(
        config=model.config,
        labels=("yes", "no"),
        preprocessing=pre,
        provenance="a test",
        licence="Apache-2.0",
        metrics={"top1": 0.25},
    )


@pytest.fixture
def folder(tmp_path: Path, model: DualFormer, card: Card) -> Path:
    save_to_folder(tmp_path / "nano-yes-no", model, card)
    return tmp_path / "nano-yes-no"


def test_round_trip(folder: Path, model: DualFormer, card: Card) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded, its_card = load_from_folder(folder)
    assert its_card == card
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert load_weights(folder)[1] == card
    assert resolve_weights(folder) == folder / "model.safetensors"
    with pytest.raises(FileNotFoundError):
        load_from_folder(folder / "none")


def test_the_page(folder: Path, model: DualFormer, card: Card) -> None:
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "apache-2.0",
        "pipeline_tag": "video-classification",
        "library_name": "dualformer",
        "tags": ["video-classification", "dualformer"],
    }
    for expected in ("# nano-yes-no", "Classes: 2 (yes, no)", "4 frames, one in 2", "(123.675, 116.28, 103.53)"):
        assert expected in text
    assert "- top1: 0.25" in text
    assert 'Recognizer.load("nano-yes-no")' in text
    save_to_folder(folder, model, replace(card, licence="ask: first"), title="me/nano")
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "other"
    assert yaml.safe_load(front)["license_name"] == "ask: first"
    assert "# me/nano" in text


def test_a_folder_that_contradicts_itself(folder: Path) -> None:
    data = json.loads((folder / "config.json").read_text())
    data["labels"] = ["no", "yes"]
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(WeightsError, match=r"disagrees with model\.safetensors on labels; delete it"):
        load_weights(folder)
    load_weights(folder / "model.safetensors")
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="the card is not valid"):
        load_weights(folder)
    (folder / "config.json").unlink()
    load_weights(folder)


def test_weights_from_the_hub(folder: Path, model: DualFormer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []

    def snapshot_download(repo_id: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo_id, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    loaded = load_model("someone/nano-v1.0")
    assert torch.equal(loaded.norm.weight, model.norm.weight)
    assert asked == [("someone/nano-v1.0", ["model.safetensors", "config.json"])]
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"someone/nano: there is no model\.safetensors in it"):
        load_model("someone/nano")


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_model("someone/not-there")
    message = str(caught.value)
    assert message.startswith("someone/not-there: no such file here, and it could not be had from the hub (")
    assert "check the name and the connection" in message
    assert "fetch model.safetensors and config.json of https://huggingface.co/someone/not-there elsewhere" in message
    assert "\n" not in message


class FakeApi:
    """Keeps what it is asked to do."""

    calls: list[tuple[str, dict[str, Any]]]
    error: Exception | None = None

    def __init__(self, token: str | None = None) -> None:
        type(self).calls = [("login", {"token": token})]

    def create_repo(self, repo_id: str, **options: Any) -> str:
        if self.error:
            raise self.error
        self.calls.append(("create", {"repo_id": repo_id, **options}))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload", options))


def test_pushing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    assert push_to_hub(folder, "me/nano", private=True, token="t", message="m") == "https://huggingface.co/me/nano"
    assert FakeApi.calls == [
        ("login", {"token": "t"}),
        ("create", {"repo_id": "me/nano", "private": True, "exist_ok": True}),
        (
            "upload",
            {
                "repo_id": "me/nano",
                "folder_path": folder,
                "allow_patterns": ["model.safetensors", "config.json", "README.md"],
                "commit_message": "m",
            },
        ),
    ]


def test_broken_folders_are_not_pushed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    FakeApi.calls = []
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(WeightsError, match="a text file"):
        push_to_hub(folder, "me/nano")
    assert FakeApi.calls == []


@pytest.mark.parametrize("kind", [OSError, ValueError, HfHubHTTPError.__bases__[0]])
def test_a_refusal_of_the_hub_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    class Refusing(FakeApi):
        error = kind("401 Unauthorized\nlog in")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(WeightsError) as caught:
        push_to_hub(folder, "me/nano")
    assert str(caught.value).startswith("me/nano: could not be uploaded (401 Unauthorized); check the name")
