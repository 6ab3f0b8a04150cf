"""The same trainer on images: a network of one frame, from an image folder, from videos, and from memory."""

from pathlib import Path

import pytest
import torch

from dualformer.cli.main import main
from dualformer.datasets.rendered import PLACES, Scene, write_dataset
from dualformer.inference.recognizer import Recognizer
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.weights.safetensors_file import load_weights
from small_runs import RecordingReporter


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the nine places, 24 pictures to train on and 8 to validate on each."""
    folder = tmp_path_factory.mktemp("rendered") / "pictures"
    scene = Scene(size=64, frames=1, classes=("top-left", "centre", "bottom-right"))
    write_dataset(folder, scene, clips_per_class={"train": 24, "val": 8}, seed=3)
    return folder


def settings_for(data: Path | str, out: Path, **changes) -> TrainConfig:
    settings = TrainConfig(
        data=str(data),
        out=str(out),
        model="dualformer_nano",
        frames=1,
        size=64,
        epochs=1,
        batch_size=12,
        flip="off",
        min_area=1.0,
        drop_path=0.0,
        dropout=0.0,
        workers=0,
        precision="float32",
    )
    return settings.replace(**changes)


def test_a_network_of_one_frame_learns_from_an_image_folder(pictures: Path, tmp_path: Path) -> None:
    lines = RecordingReporter()
    result = train(settings_for(pictures, tmp_path / "run", epochs=3, batch_size=8), reporter=lines)
    assert any("3 classes, 72 images to train on (24 a class), 24 to validate on" in line for line in lines.lines)
    assert any("clips of 1 frame," in line for line in lines.lines)
    losses = [epoch["train_loss"] for epoch in read_metrics(result.out)]
    assert losses[-1] < 0.6 * losses[0]
    assert result.best_top1 > 0.75
    model, card = load_weights(result.weights)
    assert model.config.clip == (1, 64, 64)
    assert model.config.stages[0].patch == (1, 4, 4)
    assert card.preprocessing.frames == 1
    # What it learnt is what prediction gives.
    recognizer = Recognizer.load(result.weights, device="cpu", views="1x1")
    files = sorted((pictures / "val").glob("*/*.png"))
    right = sum(recognizer(path).label == path.parent.name for path in files)
    assert right / len(files) == pytest.approx(result.best_top1)


def test_an_image_run_resumes_to_the_same_bits(pictures: Path, tmp_path: Path) -> None:
    whole = train(settings_for(pictures, tmp_path / "a"), reporter=SilentReporter())
    for steps in (2, None):
        config = settings_for(pictures, tmp_path / "b", resume=steps is None, max_steps=steps)
        train(config, reporter=SilentReporter())
    one, other = (load_weights(out / "last.safetensors")[0] for out in (whole.out, tmp_path / "b"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_network_of_one_frame_trains_on_videos(videos: Path, tmp_path: Path) -> None:
    lines = RecordingReporter()
    result = train(settings_for(videos, tmp_path / "run", size=32, batch_size=4), reporter=lines)
    assert any("12 videos to train on" in line for line in lines.lines)
    assert len(read_metrics(result.out)) == 1
    assert Recognizer.load(result.weights, device="cpu").preprocessing.frames == 1


def test_rendered_pictures_in_memory_bring_their_truth(tmp_path: Path) -> None:
    lines = RecordingReporter()
    config = settings_for("rendered", tmp_path / "run", size=32, rendered_clips=16, batch_size=8)
    result = train(config, reporter=lines)
    assert any("rendered pictures: 9 classes, 16 new clips an epoch" in line for line in lines.lines)
    _, card = load_weights(result.weights)
    assert card.labels == PLACES


def test_a_network_of_videos_labels_images(pictures: Path, videos: Path, tmp_path: Path, capsys) -> None:
    """A clip of an image stands still: what a video of the same frame again and again would give."""
    result = train(
        settings_for(videos, tmp_path / "run", frames=4, stride=2, size=32, batch_size=4), reporter=SilentReporter()
    )
    picture = next((pictures / "val" / "centre").iterdir())
    recognizer = Recognizer.load(result.weights, device="cpu")
    one = recognizer(picture).probabilities
    from dualformer.video.pyav_reader import PyAVReader

    with PyAVReader(picture) as reader:
        frames = reader.read([0] * 40)
    assert recognizer(frames).probabilities == pytest.approx(one, abs=1e-6)
    weights = str(result.weights)
    assert main(["predict", str(pictures / "val"), "--weights", weights, "--device", "cpu", "--views", "1x1"]) == 0
    assert "24 labelled, 0 failed" in capsys.readouterr().out


def test_evaluating_an_image_folder(pictures: Path, tmp_path: Path, capsys) -> None:
    result = train(settings_for(pictures, tmp_path / "run"), reporter=SilentReporter())
    arguments = ["--data", str(pictures), "--workers", "0", "--device", "cpu", "--views", "1x1"]
    assert main(["evaluate", str(result.weights), *arguments]) == 0
    said = capsys.readouterr().out
    assert "on 24 images of folder" in said
    assert f"{result.best_top1:.1%}" in said
