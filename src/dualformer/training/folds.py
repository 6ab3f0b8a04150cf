"""Cross-validation: one run for each fold, and their mean. Every video is validated on once, by weights without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualformer.datasets.samples import DatasetError
from dualformer.errors import DualFormerError
from dualformer.files import lock_for_writing, write_csv
from dualformer.scoring.intervals import mean_over_seeds, wilson_interval
from dualformer.training.checkpoint import has_begun
from dualformer.training.distributed import processes
from dualformer.training.open_source import open_source
from dualformer.training.prepare import resumed_settings
from dualformer.training.reporter import Reporter
from dualformer.training.run_folder import CONFIG, TrainResult, find_data, write_new_place
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train

TABLE = "folds.csv"


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """The runs of all folds."""

    out: Path
    runs: tuple[TrainResult, ...]

    @property
    def figures(self) -> tuple[float, ...]:
        """Each fold's validation accuracy, 0 to 1, or mean average precision where videos may have several labels."""
        return tuple(run.best_top1 if run.best_map is None else run.best_map for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Returns the mean over folds, half of its 95 % interval, and each fold's figures, for JSON."""
        mean, spread = mean_over_seeds(self.figures)
        rows = [dict(zip(_COLUMNS, row, strict=True)) for row in self._rows()]
        return {"out": str(self.out), "mean": mean, "half_interval": spread, "folds": rows}

    def summary(self) -> list[str]:
        """Returns the table of the folds, in lines of Markdown, and what they say together."""
        name = "top-1" if self.runs[0].best_map is None else "mean average precision"
        lines = [f"| fold | validation videos | {name} |", "|---|---|---|"]
        lines += [f"| {fold} | {videos} | {figure:.1%} |" for fold, videos, figure, *_ in self._rows()]
        mean, spread = mean_over_seeds(self.figures)
        half = f" ± {100 * spread:.1f} points (95 %, by the spread of the folds)" if spread is not None else ""
        lines.append(f"mean of {len(self.runs)} folds: {mean:.1%}{half}")
        if self.runs[0].best_map is None:
            videos = sum(run.val_clips for run in self.runs)
            right = sum(round(run.best_top1 * run.val_clips) for run in self.runs)
            low, high = wilson_interval(right, videos)
            share = f"{right / videos:.1%}, 95 % interval {low:.1%} to {high:.1%}"
            lines.append(f"{right} of {videos} videos right, each by weights that have not seen it ({share})")
        return lines

    def write(self) -> None:
        """Writes ``folds.csv`` into the folder."""
        write_csv(self.out / TABLE, _COLUMNS, [[str(value) for value in row] for row in self._rows()])

    def _rows(self) -> list[tuple[Any, ...]]:
        return [
            (fold, run.val_clips, figure, run.best_epoch, run.epochs, str(run.weights))
            for fold, (run, figure) in enumerate(zip(self.runs, self.figures, strict=True), 1)
        ]


_COLUMNS = ["fold", "videos", "accuracy", "epoch", "epochs", "weights"]


def cross_validate(config: TrainConfig, *, reporter: Reporter | None = None) -> CrossValidation:
    """Trains once for each of ``config.folds``, into ``fold-1``, ``fold-2``, … of ``config.out``.

    ``config.resume`` goes on with what is in ``config.out``: folds that are done stay, the one that was stopped goes
    on. Errors: as `train`; ``ValueError`` for several devices, and where there is nothing to go on with.
    """
    with lock_for_writing(Path(config.out), folder=True):
        return _cross_validate(config, reporter or Reporter())


def _cross_validate(config: TrainConfig, reporter: Reporter) -> CrossValidation:
    out = Path(config.out)
    if config.resume:
        saved = TrainConfig.load(out / CONFIG)
        config = resumed_settings(find_data(saved, out), config)
        if (config.data, config.manifest) != (saved.data, saved.manifest):
            write_new_place(out, config)
    elif (out / CONFIG).exists():
        raise ValueError(f"{out} already holds a run; go on with it by `resume=True`, or choose another `out`")
    if processes(config.devices, config.nodes, accelerator=config.accelerator).world > 1:
        raise ValueError("`folds` trains on one device: give `devices=1`, or train each `fold` by a call of its own")
    if not config.resume:
        _open_all(config)
    runs: list[TrainResult] = []
    for fold in range(1, config.folds + 1):
        of_fold = _run_of(out, fold)
        reporter.log(f"fold {fold} of {config.folds}: {of_fold}")
        settings = config.replace(fold=fold, out=str(of_fold), resume=has_begun(of_fold))
        if fold == 1 and not config.resume:
            config.save(out / CONFIG)
        try:
            runs.append(train(settings, reporter=reporter))
        finally:
            if fold == 1 and not config.resume and not (of_fold / CONFIG).exists():
                (out / CONFIG).unlink(missing_ok=True)  # there is nothing to go on with
    found = CrossValidation(out=out, runs=tuple(runs))
    found.write()
    return found


def _open_all(config: TrainConfig) -> None:
    """Raises what the data of any fold would raise, before hours of training the others."""
    for fold in range(1, config.folds + 1):
        try:
            open_source(config.replace(fold=fold))
        except DatasetError as error:
            if fold == 1:
                raise
            raise DatasetError(f"fold {fold} of {config.folds}: {error}") from error


def _run_of(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold}"


def find_runs(folder: Path) -> tuple[Path, ...]:
    """Returns the runs of a cross-validation in ``folder``, in the order of the folds, and none of another folder.
    Raises ``DualFormerError`` for one that is not done."""
    if not ((folder / CONFIG).is_file() and _run_of(folder, 1).is_dir()):  # weights of others have a config.json, too
        return ()
    config = TrainConfig.load(folder / CONFIG)
    if not config.folds or config.fold is not None:
        return ()
    if not (folder / TABLE).is_file():
        raise DualFormerError(f"{folder}: not all folds are trained: go on with `resume=True` and `out={folder}`")
    return tuple(_run_of(folder, fold) for fold in range(1, config.folds + 1))


def is_cross_validation(config: TrainConfig) -> bool:
    """Returns whether these settings, or those of the run that they resume, ask for all folds."""
    path = Path(config.out) / CONFIG
    if config.resume and path.is_file():
        config = TrainConfig.load(path)
    return config.folds > 0 and config.fold is None
