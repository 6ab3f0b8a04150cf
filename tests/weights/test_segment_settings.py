"""Settings of timelines in the card of weights: cards with and without them, and what keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.export_card import ExportCard
from dualformer.weights.resize_clip import resize_clip
from dualformer.weights.safetensors_file import load_weights, read_card, save_weights, store_timeline_settings
from dualformer.weights.segment_settings import SegmentSettings

FOUND = SegmentSettings(hop=0.25, window=1.0, threshold=0.35, shortest=0.0, background=("nothing",))


@pytest.fixture
def model() -> DualFormer:
    return create_model("dualformer_nano", clip=(8, 32, 32), num_classes=2, seed=0)


@pytest.fixture
def card(model: DualFormer) -> Card:
    pre = Preprocessing(frames=8, stride=2, resize=32, crop=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Card(
        config=model.config,
        labels=("wave", "nothing"),
        preprocessing=pre,
        provenance="a test",
        licence="MIT",
        timeline=FOUND,
    )


def test_cards_survive_json_and_say_nothing_of_timelines_where_there_is_nothing(card: Card) -> None:
    assert Card.from_json(card.to_json()) == card
    old = replace(card, timeline=None)
    assert "timeline" not in json.loads(old.to_json())
    assert Card.from_json(old.to_json()) == old
    assert (old.segment_settings, card.segment_settings) == (SegmentSettings(), FOUND)


def test_files_keep_them(tmp_path: Path, model: DualFormer, card: Card) -> None:
    save_weights(tmp_path / "w.safetensors", model, card)
    assert read_card(tmp_path / "w.safetensors").timeline == FOUND
    again, found = load_weights(tmp_path / "w.safetensors")
    again.reset_classifier(3)
    save_weights(tmp_path / "other.safetensors", again, found, labels=("a", "b", "c"))
    assert read_card(tmp_path / "other.safetensors").timeline is None


def test_another_picture_keeps_them_and_another_duration_does_not(model: DualFormer, card: Card) -> None:
    _, larger, notes = resize_clip(model, card, (8, 64, 64))
    assert larger.timeline == FOUND and not any("timelines" in note for note in notes)
    for clip, stride in (((16, 32, 32), 2), ((8, 32, 32), 4)):
        _, longer, notes = resize_clip(model, card, clip, stride=stride)
        assert longer.timeline is None and any("timelines" in note for note in notes)


def test_exported_models_keep_them(card: Card) -> None:
    exported = ExportCard(card=card, format="onnx", precision="fp32")
    assert ExportCard.from_json(exported.to_json()).card.timeline == FOUND


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"hop": 0}, "hop must be positive"),
        ({"window": -1}, "window must be positive"),
        ({"threshold": 1.5}, "threshold must be a probability"),
        ({"shortest": -1}, "shortest must not be negative"),
        ({"shortest": "long"}, "timeline: shortest must be a number, not 'long'"),
        ({"threshold": None}, "timeline: threshold must be a number"),
        ({"hop": True}, "timeline: hop must be a number"),
        ({"background": "nothing"}, "timeline: background must be a list"),
        ({"background": ["sleep"]}, "'sleep' is none of the classes"),
        ({"speed": 1}, "timeline: unknown keys speed"),
    ],
)
def test_settings_that_are_none_are_refused(card: Card, wrong: dict[str, Any], reason: str) -> None:
    data = json.loads(card.to_json())
    data["timeline"] |= wrong
    with pytest.raises(WeightsError, match=reason):
        Card.from_json(json.dumps(data))


def test_given_settings_come_before_others() -> None:
    assert FOUND.but() == FOUND.but(hop=None, background=None) == FOUND
    assert FOUND.but(hop=0.5, background=(), threshold=0.0) == replace(FOUND, hop=0.5, background=(), threshold=0.0)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_settings_are_written_into_a_file(
    tmp_path: Path, model: DualFormer, card: Card, dtype: torch.dtype | None
) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, model, replace(card, timeline=None), dtype=dtype)
    before = load_file(path)
    assert store_timeline_settings(path, FOUND) == read_card(path) == card
    after = load_file(path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)
    store_timeline_settings(path, None)
    assert read_card(path).timeline is None
    with pytest.raises(ValueError, match="'sleep' is none of the classes"):
        store_timeline_settings(path, SegmentSettings(background=("sleep",)))


def test_a_folder_says_the_same_in_both_files(tmp_path: Path, model: DualFormer, card: Card) -> None:
    old = replace(card, timeline=None)
    save_weights(tmp_path / "model.safetensors", model, old)
    (tmp_path / "config.json").write_text(old.to_json())
    store_timeline_settings(tmp_path, FOUND)
    assert load_weights(tmp_path)[1].timeline == FOUND


def test_what_is_no_weights_file_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        store_timeline_settings(tmp_path / "absent.safetensors", FOUND)
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(WeightsError):
        store_timeline_settings(tmp_path / "text.safetensors", FOUND)
    assert (tmp_path / "text.safetensors").read_text() == "text"
