"""Trains a network by the settings of a run, on one device or several."""

import contextlib
import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning_fabric import Fabric

from dualformer.errors import DualFormerError
from dualformer.files import lock_for_writing
from dualformer.plurals import counted
from dualformer.training.build import build_loop, goes_on
from dualformer.training.callbacks import Callback, ConfusionCallback, TensorBoardCallback
from dualformer.training.distributed import ProcessGroup, is_first, open_fabric
from dualformer.training.loop import Loop
from dualformer.training.prepare import Variant, prepare
from dualformer.training.reporter import Reporter, SilentReporter
from dualformer.training.run_folder import CONFIG, TrainResult, write_new_place
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import Source
from dualformer.video.backend import decoder


def train(
    config: TrainConfig | None = None,
    *,
    reporter: Reporter | None = None,
    variant: Variant | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> TrainResult:
    """Trains as ``config`` says and leaves everything in ``config.out``. Without one, ``settings`` are those of a
    `TrainConfig`: ``train(data="videos", epochs=10)``.

    ``variant`` makes the network from the one that ``config`` names: ``lambda network: network.replace(…)``. The run
    keeps it, and is resumed without. ``callbacks`` are told of steps and epochs.

    With several devices every process runs the same program and calls this: it starts those that are missing by
    running the program again. All of them get the result or the error; the first alone prints and writes
    (`distributed.is_first`).

    Of ``config.folds`` it takes the ``config.fold`` that is named; `folds.cross_validate` goes through all of them.
    Errors: ``ValueError`` and ``FileNotFoundError`` for settings that cannot work, before anything is written;
    ``DualFormerError`` for data that cannot be read, weights that do not fit, a full disk, a loss that is not a number;
    `InUseError` while another run writes to the folder. Ctrl-C saves and raises `TrainingInterrupted`.
    """
    if config is None:
        config = TrainConfig(**checked_settings(settings))
    elif settings:
        raise ValueError(f"settings go into the config, not beside it: {', '.join(settings)}")
    # The processes of a run are one holder.
    with lock_for_writing(Path(config.out), folder=True) if is_first() else contextlib.nullcontext():
        return _train(config, reporter, variant, callbacks)


def checked_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the settings. Raises ``ValueError`` for one that there is not, with what it may be called."""
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, cutoff=0.5)
            raise ValueError(
                f"train has no setting {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")
            )
    return settings


def _train(
    config: TrainConfig, reporter: Reporter | None, variant: Variant | None, callbacks: Sequence[Callback]
) -> TrainResult:
    prepared = prepare(config, variant)
    config = prepared.config
    fabric = open_fabric(prepared.processes, accelerator=config.accelerator, strategy=config.strategy)
    try:
        loop = build_loop(prepared, fabric, (reporter or Reporter()) if is_first() else SilentReporter())
        try:
            result = _run(loop, prepared.source, callbacks)
        finally:
            loop.close()
        ProcessGroup(fabric).barrier()
        return result
    except (RuntimeError, dist.DistError) as error:
        if isinstance(error, DualFormerError) or not _lost_another(error, fabric):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DualFormerError(
            f"{config.out}: another process of the run has gone ({reason}); see what it said, and go on with "
            "`resume=True`"
        ) from error


def _run(loop: Loop, source: Source, callbacks: Sequence[Callback]) -> TrainResult:
    """Resumes the run if there is a checkpoint, logs how long it is, and trains."""
    settings, out, schedule, log = loop.settings, loop.out, loop.schedule, loop.reporter.log
    if goes_on(settings):
        loop.resume()
        saved = json.loads((out / CONFIG).read_text(encoding="utf-8"))
        if (then := saved.get("decoder", decoder())) != decoder():
            log(f"videos were decoded by {then} so far, and are by {decoder()} now: pixels may differ")
        if (saved["data"], saved.get("manifest")) != (settings.data, settings.manifest):
            log(f"the data were {saved['data']}, and are {settings.data} from now on")
            loop.ranks.run_on_first(lambda: write_new_place(out, settings, source))
        log(f"resumed at step {loop.progress.step} of {schedule.steps}")
    elif settings.resume:
        log(f"{out} has no checkpoint yet: the run begins")
    loop.add_callbacks(lambda: [*_callbacks(settings, source.classes), *callbacks])
    average = f", averaged with a decay of {settings.ema:g}" if settings.ema is not None else ""
    log(
        f"results go to {out}: {counted(schedule.steps, 'step')} of {counted(schedule.clips_per_step, 'clip')}, "
        f"{schedule.steps_per_epoch} an epoch; learning rate {schedule.describe_lr()} "
        f"(backbone × {settings.backbone_lr:g}), {schedule.describe()}{average}"
    )
    return loop.run()


def _callbacks(settings: TrainConfig, classes: tuple[str, ...]) -> list[Callback]:
    out, callbacks = Path(settings.out), list[Callback]()
    if settings.tensorboard:
        callbacks.append(TensorBoardCallback(out))
    if settings.confusion_every:
        callbacks.append(ConfusionCallback(out, classes, settings.confusion_every))
    return callbacks


def _lost_another(error: RuntimeError, fabric: Fabric) -> bool:
    """Returns whether PyTorch reports with this error that another process has ended."""
    said = str(error).lower()
    return fabric.world_size > 1 and (
        isinstance(error, dist.DistError) or "gloo" in said or "closed by peer" in said or "reset by peer" in said
    )
