"""Weights know the videos that they were trained on, wherever these are evaluated, and name none of them."""

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest

from dualformer.datasets.shards.write_shards import write_shards
from dualformer.datasets.splits import open_all_splits, open_videos
from dualformer.datasets.video_digests import unpack_digests
from dualformer.evaluation.evaluate import evaluate
from dualformer.evaluation.evaluation_text import figures_text
from dualformer.training.reporter import SilentReporter
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.export_card import ExportCard
from dualformer.weights.safetensors_file import load_weights, read_card


@pytest.fixture(scope="module")
def weights(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run over the twelve videos in ``train``, moved away from its folder."""
    folder = tmp_path_factory.mktemp("trained")
    config = TrainConfig(data=str(videos), out=str(folder / "run"), start="random", frames=4, size=32, epochs=1)
    train(
        config.replace(model="dualformer_nano", batch_size=4, flip="off", workers=0, precision="float32"),
        reporter=SilentReporter(),
    )
    return Path(shutil.move(folder / "run" / "best.safetensors", folder / "moved.safetensors"))


def note_on(weights: Path, data: Path, on: dict[str, tuple[str, ...]] | None = None) -> tuple[int | None, str]:
    """The figure and the first line of the text."""
    model, card = load_weights(weights)
    found = evaluate(model, card, open_videos(data, on=on), views="1x1")
    return found.figures.get("trained_on"), figures_text(found)[0]


def test_videos_trained_on_are_counted_in_folders_lists_and_shards(weights: Path, videos: Path, tmp_path: Path) -> None:
    all_of_them = tmp_path / "all"
    for number, path in enumerate(sorted(videos.rglob("*.mp4"))):
        (all_of_them / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, all_of_them / path.parent.name / f"{number}.mp4")
    note = "note: 12 of these 16 videos were trained on: the figure says how well they are remembered"
    assert note_on(weights, all_of_them) == (12, note)
    listed = tmp_path / "list.csv"
    with listed.open("w", newline="") as file:
        rows = [(path, path.parent.name, path.parent.parent.name) for path in sorted(videos.rglob("*.mp4"))]
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    assert note_on(weights, listed) == (12, note)
    write_shards(open_all_splits(videos)[0], tmp_path / "shards", made_from="files", size=10**6)
    shards = tmp_path / "shards"
    note = "note: all 12 videos were trained on: the figure says how well they are remembered"
    assert note_on(weights, shards, {"split": ("train",)}) == (12, note)
    assert note_on(weights, shards, {"split": ("val",)}) == (0, "")


def test_old_weights_say_nothing(weights: Path, videos: Path) -> None:
    model, card = load_weights(weights)
    found = evaluate(model, dataclasses.replace(card, trained_on=""), open_videos(videos), views="1x1")
    assert "trained_on" not in found.figures
    assert figures_text(found)[0] == ""


def test_weights_hold_no_name_of_a_video(weights: Path, videos: Path) -> None:
    text = read_card(weights).to_json()
    assert str(videos) not in text
    assert not any(path.stem in text for path in videos.rglob("*.mp4"))


def test_exported_models_know_them_too(weights: Path) -> None:
    card = read_card(weights)
    exported = ExportCard(card=card, format="onnx", precision="fp32")
    assert ExportCard.from_json(exported.to_json()).card == card and card.trained_on


def test_a_record_that_was_edited_is_refused(weights: Path) -> None:
    with pytest.raises(WeightsError, match="the card is not valid"):
        Card.from_json(read_card(weights).to_json().replace('"trained_on": "', '"trained_on": "ä'))


def test_a_resumed_run_and_one_from_these_weights_know_all_videos(
    weights: Path, settings: TrainConfig, videos: Path, tmp_path: Path
) -> None:
    known = read_card(weights).trained_on
    assert len(unpack_digests(known)) == 12
    train(settings.replace(max_steps=1), reporter=SilentReporter())
    train(settings.replace(resume=True), reporter=SilentReporter())
    assert read_card(Path(settings.out) / "last.safetensors").trained_on == known
    # The four other videos, on top of those that the starting weights know.
    few = settings.replace(data=str(videos / "val"), start=str(weights), val_fraction=0.5, batch_size=2, epochs=1)
    few = few.replace(out=str(tmp_path / "few"))
    train(few.replace(max_steps=1, epochs=2), reporter=SilentReporter())
    first = read_card(tmp_path / "few" / "last.safetensors").trained_on
    assert unpack_digests(first) > unpack_digests(known) and len(unpack_digests(first)) == 14
    train(TrainConfig(out=str(tmp_path / "few"), resume=True), reporter=SilentReporter())
    assert read_card(tmp_path / "few" / "last.safetensors").trained_on == first
