"""Validation during a run: the views of evaluation where that costs little, read once, and the same for old runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import Noise
from PIL import Image
from torch import Tensor

from dualformer.datasets.splits import open_videos
from dualformer.evaluation.evaluate import evaluate
from dualformer.training import prepare as prepare_module
from dualformer.training.distributed import Processes, ProcessGroup, open_fabric
from dualformer.training.prepare import Prepared, prepare
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.training.validation import ValidationBatches
from dualformer.video.clip_reader import Views
from dualformer.weights.safetensors_file import load_weights


def lines_on_validation(prepared: Prepared) -> list[str]:
    return [line for line in prepared.lines if line.startswith("validation:")]


@pytest.mark.parametrize("workers", [0, 1])
def test_few_videos_are_validated_as_evaluate_does(settings: TrainConfig, workers: int) -> None:
    """The clips of 2 frames lie in different places of the 16."""
    few = settings.replace(frames=2, stride=1, workers=workers)
    prepared = prepare(few)
    assert prepared.config.val_views == "4x1"
    assert lines_on_validation(prepared) == ["validation: views 4x1 of 4 videos, as `dualformer evaluate` takes 4x1"]
    train(few, reporter=SilentReporter())
    model, card = load_weights(Path(few.out) / "last.safetensors")
    figures = evaluate(model, card, open_videos(Path(few.data) / "val")).figures
    last = read_metrics(Path(few.out))[-1]
    assert figures["top1"] == last["val_top1"]
    assert figures["cross_entropy"] == pytest.approx(last["val_loss"], abs=1e-5)
    plain = evaluate(model, card, open_videos(Path(few.data) / "val"), views="1x1").figures
    assert abs(plain["cross_entropy"] - last["val_loss"]) > 1e-4


def test_many_videos_have_one_view_and_a_line_says_so(settings: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "FEW_TO_SELECT", 4)
    prepared = prepare(settings)
    assert prepared.config.val_views == "1x1"
    assert lines_on_validation(prepared) == [
        "validation: views 1x1 of 4 videos; `dualformer evaluate` takes 4x1 unless told otherwise, so its figure will "
        "differ"
    ]


def test_views_that_were_said_are_taken(settings: TrainConfig) -> None:
    prepared = prepare(settings.replace(val_views="2x3"))
    assert prepared.config.val_views == "2x3" and not lines_on_validation(prepared)
    clips = prepared.source.clips(prepared.preprocessing, prepared.augmentation, prepared.mirrored, Views(2, 3))
    assert clips.val[0]["views"].shape == (6, 4, 32, 32, 3)
    with pytest.raises(ValueError, match="views are written clips x crops"):
        train(settings.replace(val_views="many"), reporter=SilentReporter())
    assert not Path(settings.out).exists()


def test_rendered_clips_and_images_have_one_view(settings: TrainConfig, tmp_path: Path) -> None:
    rendered = settings.replace(data="rendered", rendered_clips=8)
    assert prepare(rendered).config.val_views == "1x1" and not lines_on_validation(prepare(rendered))
    with pytest.raises(ValueError, match="`val_views=2x1`: with `data=rendered` a validation video is one clip"):
        train(rendered.replace(val_views="2x1"), reporter=SilentReporter())
    for number in range(8):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number, 0, 0)).save(path)
    images = prepare(settings.replace(data=str(tmp_path / "pictures"), frames=1, batch_size=2, val_fraction=0.5))
    assert images.config.val_views == "1x1" and not lines_on_validation(images)


def test_an_old_run_goes_on_with_its_one_view(settings: TrainConfig, tmp_path: Path) -> None:
    settings = settings.replace(frames=2, stride=1)
    whole, old = (settings.replace(val_views="1x1", out=str(tmp_path / name)) for name in ("whole", "old"))
    train(whole, reporter=SilentReporter())
    train(old.replace(max_steps=2), reporter=SilentReporter())
    path = tmp_path / "old" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: content[name] for name in content if name not in ("val_views", "patience")}))
    train(TrainConfig(out=old.out, resume=True), reporter=SilentReporter())
    figures = [[(e["val_loss"], e["val_top1"]) for e in read_metrics(Path(run.out))] for run in (whole, old)]
    assert figures[0] == figures[1] and len(figures[0]) == 2


class Counted(Noise):
    """Counts how often a clip is read; two views each."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.reads = 0

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        self.reads += 1
        item = super().__getitem__(key)
        return {"views": item["views"].repeat(2, 1, 1, 1, 1), "label": item["label"], "index": item["index"]}


@pytest.mark.parametrize("keep", [True, False])
def test_batches_that_are_kept_are_read_once(keep: bool) -> None:
    clips, ranks = Counted(7), ProcessGroup(open_fabric(Processes(1, 1), accelerator="cpu", strategy="auto"))
    settings = TrainConfig(data="noise", batch_size=5, workers=0, val_views="2x1")
    batches = ValidationBatches(clips, settings, ranks=ranks, keep=keep)
    first, second = (list[dict[str, Any]](batches) for _ in range(2))
    assert clips.reads == (7 if keep else 14)
    assert [len(batch["label"]) for batch in first] == [2, 2, 2, 1]  # at most five views
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


@pytest.mark.parametrize(("cache_gb", "keeps"), [(2.0, True), (0.0003, True), (0.00019, False), (0.0, False)])
def test_views_are_kept_where_they_take_a_quarter_of_the_memory(
    settings: TrainConfig, cache_gb: float, keeps: bool
) -> None:
    """4 videos of 4 frames of 32x32 pixels take 49 kB a view."""
    prepared = prepare(settings.replace(cache_gb=cache_gb, val_views="1x1"))
    clips = prepared.source.clips(prepared.preprocessing, prepared.augmentation, prepared.mirrored, Views(1, 1))
    assert clips.keep_val == keeps
