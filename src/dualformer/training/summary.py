"""What a finished run has to say: how good it is, how sure that is, and what to do next."""

from __future__ import annotations

from dualformer.datasets.benchmarks.find_benchmark import parse_benchmark
from dualformer.datasets.shards.read_shards import find_shards
from dualformer.scoring.intervals import wilson_interval
from dualformer.training.propose import FEW_TO_JUDGE
from dualformer.training.recipes import Recipe
from dualformer.training.reporter import CURVES, clock
from dualformer.training.run_folder import TrainResult
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import CONFIG, SPLIT


def summarize(result: TrainResult, *, recipe: Recipe | None = None) -> list[str]:
    """Lines for the end of a run, by its recipe if it had one."""
    config = TrainConfig.load(result.out / CONFIG)
    lines = [f"done in {clock(result.seconds)}: {_best(result)}; {result.clips_per_second:.1f} clips/s"]
    if config.overfit:
        lines.append(
            "the videos are those that it was trained on: memorised is near 100 %, and nothing else was tested"
        )
    elif result.val_clips < FEW_TO_JUDGE and result.epochs > 1:
        lines.append(
            f"the best of {result.epochs} epochs, chosen by {result.val_clips} videos, looks better than it is: expect "
            "less of other videos, and keep some apart that choose nothing"
        )
    if recipe and recipe.expected != "–":
        lines.append(f"the recipe {recipe.name} gave {recipe.expected} % with its own data and views {recipe.views}")
    lines.append(f"weights: {result.weights}   curves: {result.out / CURVES}")
    if where := _to_judge_by(result, config):
        views = f" --views {recipe.views}" if recipe else ""
        lines.append(f"next: dualformer evaluate {result.weights} {where}{views}")
    lines.append(f"next: dualformer predict VIDEO --weights {result.weights}")
    return lines


def _best(result: TrainResult) -> str:
    """What the best epoch got."""
    epoch = f"in epoch {result.best_epoch} of {result.epochs}"
    if result.best_map is not None:
        return f"mean average precision {result.best_map:.1%} on {result.val_clips} validation videos {epoch}"
    low, high = wilson_interval(round(result.best_top1 * result.val_clips), result.val_clips)
    interval = f"95 % interval {low:.1%} to {high:.1%}"
    return f"{result.best_top1:.1%} of {result.val_clips} validation videos right {epoch} ({interval})"


def _to_judge_by(result: TrainResult, config: TrainConfig) -> str:
    """Options of `dualformer evaluate` for what the run was validated on; empty where there are none."""
    chosen = config.train_on or config.val_on or config.manifest
    if parse_benchmark(config.data) and not chosen:
        return f"--data {config.data}"
    # Not the folder or file itself: where val was drawn from it, it holds the training videos too.
    if (result.out / SPLIT).is_file():
        return f"--data {result.out / SPLIT} --on split=val"
    return f"--data {config.data}" if find_shards(config.data) else ""
