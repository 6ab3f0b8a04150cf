"""The quickstart: renders videos, trains, evaluates, and writes a report."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualformer.datasets.rendered import HORIZONTAL, Difficulty, Scene, write_dataset
from dualformer.datasets.samples import VideoList
from dualformer.datasets.splits import open_videos
from dualformer.evaluation.evaluate import Control, Evaluation, evaluate
from dualformer.evaluation.evaluation_folder import write_evaluation
from dualformer.explain.explain_video import explain_video
from dualformer.explain.gradcam import CaptumMissingError
from dualformer.files import lock_for_writing, write_text
from dualformer.inference.recognizer import Prediction, Recognizer
from dualformer.quickstart import QuickstartConfig
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.reporter import Reporter, clock
from dualformer.training.run_folder import CONFIG, TrainResult
from dualformer.training.settings.network_settings import RANDOM
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.training.training_pictures import CURVES
from dualformer.weights.locate import resolve_weights
from dualformer.weights.safetensors_file import load_weights, read_card

CONTROLS: tuple[Control, ...] = ("one_frame", "shuffled")


@dataclass(frozen=True, kw_only=True)
class QuickstartResult:
    """Paths of the results, and the figures of ``report/figures.json``."""

    report: Path
    weights: Path
    figures: Mapping[str, Any]
    example: Prediction


def quickstart(config: QuickstartConfig, *, reporter: Reporter | None = None) -> QuickstartResult:
    """Runs all steps. A call that was interrupted goes on where it stopped; a finished one is done anew.

    Errors: ``ValueError`` if ``out`` holds something else, ``DualFormerError`` for work that fails.
    """
    with lock_for_writing(Path(config.out), folder=True):
        return _quickstart(config, reporter or Reporter())


def _quickstart(config: QuickstartConfig, reporter: Reporter) -> QuickstartResult:
    out = Path(config.out)
    report = out / "report"
    seconds: dict[str, float] = {}
    steps = 5 if config.scratch else 4

    with _step(
        reporter, seconds, steps, "render", f"rendering videos of {len(HORIZONTAL)} motions into {out / 'videos'}"
    ):
        _render(config, out / "videos")
    if (report / "figures.json").is_file():  # a finished one, of this very data: it is done anew
        for folder in ("report", "run", "scratch"):
            shutil.rmtree(out / folder, ignore_errors=True)
    with _step(reporter, seconds, steps, "train", f"training from the weights {config.start!r}"):
        trained = _train(config, out / "run", start=config.start, reporter=reporter)
    scratch: TrainResult | None = None
    if config.scratch:
        with _step(reporter, seconds, steps, "scratch", "training as long from random weights, for comparison"):
            scratch = _train(config, out / "scratch", start=None, reporter=reporter)
    test = open_videos(out / "videos" / "test")
    with _step(reporter, seconds, steps, "test", f"testing on {len(test)} videos that were not trained on"):
        evaluation = _evaluate(trained.weights, test)
        controls = {control: _evaluate(trained.weights, test, control=control) for control in CONTROLS}
        scratch_evaluation = _evaluate(scratch.weights, test) if scratch else None
    with _step(reporter, seconds, steps, "report", f"labelling one of them and writing the report to {report}"):
        file = test.samples[0].path
        recognizer = Recognizer.load(trained.weights, views="1x1")
        example = recognizer(file)
        figures = {
            "top1": evaluation.figures["top1"],
            "chance": 1 / len(test.classes),
            "controls": {name: control.figures["top1"] for name, control in controls.items()},
            "from_scratch_top1": scratch_evaluation.figures["top1"] if scratch_evaluation else None,
            "started_from": read_card(resolve_weights(config.start)).provenance,
            "training_clips_per_second": trained.clips_per_second,
            "example": {"file": str(file), "top": example.top(3)},
            "seconds": {name: round(value, 1) for name, value in seconds.items()},
        }
        extra = {key: value for key, value in figures.items() if key not in evaluation.figures}
        written = write_evaluation(report, evaluation, extra=extra, rows=8)
        shutil.copyfile(out / "run" / CURVES, report / CURVES)
        explained = explain_example(recognizer, file, report, reporter)
        write_text(report / "README.md", _report_text(config, figures, evaluation, len(test), explained))
    figures = json.loads(written.figures.read_text(encoding="utf-8"))
    return QuickstartResult(report=report, weights=trained.weights, figures=figures, example=example)


@contextmanager
def _step(reporter: Reporter, seconds: dict[str, float], steps: int, name: str, line: str) -> Iterator[None]:
    reporter.log(f"{len(seconds) + 1}/{steps} {line}")
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start
    reporter.log(f"    {clock(seconds[name])}")


def _render(config: QuickstartConfig, folder: Path) -> None:
    counts = {"train": config.train_videos, "val": config.val_videos, "test": config.test_videos}
    # With `wrap` even a frame whose place in time is known tells nothing of the class.
    scene = Scene(classes=HORIZONTAL, difficulty=Difficulty.at(config.difficulty), wrap=True)
    write_dataset(folder, scene, clips_per_class=counts, seed=config.seed)


def _train(config: QuickstartConfig, folder: Path, *, start: str | None, reporter: Reporter) -> TrainResult:
    settings = TrainConfig(
        data=str(folder.parent / "videos"),
        out=str(folder),
        resume=(folder / CONFIG).is_file() and has_checkpoint(folder),
        start=start or RANDOM,
        frames=16,
        stride=2,
        size=64,
        epochs=config.epochs,
        batch_size=16,
        lr=1e-3,
        backbone_lr=0.3 if start else 1.0,
        drop_path=0.0,
        dropout=0.0,
        flip="off",  # a mirrored "right" is a "left"
        min_area=0.6,
        randaugment="off",
        val_views="1x1",
        seed=config.seed,
    )
    return train(settings, reporter=reporter)


def _evaluate(weights: Path, test: VideoList, *, control: Control = "none") -> Evaluation:
    model, card = load_weights(weights)
    return evaluate(model, card, test, views="1x1", batch_size=16, control=control)


def explain_example(recognizer: Recognizer, file: Path, report: Path, reporter: Reporter) -> Path | None:
    """Writes the clip of ``file`` with Grad-CAM over it into ``report``: returns the GIF, beside which are an MP4 and a
    sheet, or None without captum."""
    try:
        # Of 64 pixels the last stage has 2x2 tokens a frame, and this one 8x8.
        explanation = explain_video(recognizer, file, stage=2)
    except CaptumMissingError as error:
        reporter.log(f"    without Grad-CAM: {error}")
        return None
    return explanation.save(report)["gif"]


def _report_text(
    config: QuickstartConfig, figures: Mapping[str, Any], evaluation: Evaluation, videos: int, explained: Path | None
) -> str:
    """Returns the report's text, in Markdown."""
    rows = {
        f"trained from `{config.start}`": figures["top1"],
        "trained from random weights, as long": figures["from_scratch_top1"],
        "control: each clip is its middle frame, repeated": figures["controls"]["one_frame"],
        "control: each clip's frames are shuffled": figures["controls"]["shuffled"],
        f"guessing among {len(evaluation.classes)} classes": figures["chance"],
    }
    shown = f"what speaks for {figures['example']['top'][0][0]}, by Grad-CAM"
    gradcam = f"![{shown}]({explained.name})\n" if explained else ""
    table = "\n".join(f"| {name} | {value:.1%} |" for name, value in rows.items() if value is not None)
    return f"""# Quickstart report

Top-1 accuracy on {videos} rendered videos that no network was trained on.

| | top-1 |
|---|---|
{table}

The starting weights, {figures["started_from"]}: they have seen motions of these kinds, in other videos.

![training curves](curves.png)
![confusion matrix](confusion.png)
![videos with what was predicted](contact_sheet.png)
{gradcam}
All figures: `figures.json`. Every video: `predictions.csv`. Every class: `per_class.csv`.
"""
