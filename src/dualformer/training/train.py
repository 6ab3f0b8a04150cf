"""A run from its settings: source, model and loop put together, every decision printed and written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch.distributed as dist
from lightning_fabric import Fabric

from dualformer.datasets.benchmarks.find_benchmark import short_name
from dualformer.datasets.flip_map import read_flip_map
from dualformer.datasets.splits import write_split
from dualformer.errors import DualFormerError
from dualformer.files import write_text
from dualformer.model.compiling import compile_network
from dualformer.model.network import DualFormer
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.class_weights import BALANCED, read_class_weights, write_class_weights
from dualformer.training.distributed import ProcessGroup, is_first, open_fabric
from dualformer.training.loop import Loop, LoopConfig, TrainResult
from dualformer.training.nonfinite import nonfinite_tensor
from dualformer.training.objective import make_objective
from dualformer.training.precision import choose_precision
from dualformer.training.prepare import (
    CLASS_WEIGHTS,
    CONFIG,
    FLIP_MAP,
    NETWORK,
    Prepared,
    Variant,
    from_weights,
    plan_network,
    prepare,
    preset_of,
)
from dualformer.training.reporter import Callback, Reporter, SilentReporter
from dualformer.training.settings.mixing_settings import MixingSettings
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.tensorboard import TensorBoardCallback
from dualformer.training.training_pictures import ConfusionCallback
from dualformer.video.backend import decoder
from dualformer.weights.resample import start_from
from dualformer.weights.safetensors_file import Card

__all__ = ["CONFIG", "SPLIT", "Prepared", "Variant", "plan_network", "prepare", "preset_of", "train"]

SPLIT = "split.csv"


def train(config: TrainConfig, *, reporter: Reporter | None = None, variant: Variant | None = None) -> TrainResult:
    """Trains as ``config`` says and leaves everything in ``config.out``.

    ``variant`` makes the network from the one that ``config`` names: ``lambda network: network.replace(…)``. The run
    keeps it, and is resumed without.

    With several devices every process runs the same program and calls this: it starts those that are missing by
    running the program again. All of them get the result or the error; the first alone prints and writes
    (`parallel.is_first`).

    Errors: ``ValueError`` and ``FileNotFoundError`` for settings that cannot work, before anything is written;
    ``DualFormerError`` for data that cannot be read, weights that do not fit, a full disk, a loss that is not a number.
    Ctrl-C saves and raises `TrainingInterrupted`.
    """
    prepared = prepare(config, variant)
    config = prepared.config
    fabric = open_fabric(prepared.processes, accelerator=config.accelerator, strategy=config.strategy)
    try:
        result = _train(prepared, fabric, (reporter or Reporter()) if is_first() else SilentReporter())
        ProcessGroup(fabric).wait()
        return result
    except (RuntimeError, dist.DistError) as error:
        if isinstance(error, DualFormerError) or not _lost_another(error, fabric):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DualFormerError(
            f"{config.out}: another process of the run has gone ({reason}); see what it said, and go on with "
            "`resume=True`"
        ) from error


def _train(prepared: Prepared, fabric: Fabric, reporter: Reporter) -> TrainResult:
    config, source, out = prepared.config, prepared.source, Path(prepared.config.out)
    precision = ProcessGroup(fabric).from_first(lambda: choose_precision(config.precision, fabric.device))
    config = config.replace(precision=precision.name)
    for line in prepared.lines:
        reporter.say(line)
    several = f", {prepared.processes} ({_shared(fabric)})" if prepared.processes.world > 1 else ""
    reporter.say(f"computing on {fabric.device.type}{several} in {precision.name}: {precision.reason}")
    model = DualFormer(prepared.network, seed=config.seed)
    model.set_grad_checkpointing(config.grad_checkpointing)
    if config.compile != "no":
        model = compile_network(model, config.compile, device=fabric.device)
    goes_on = config.resume and has_checkpoint(out)
    start = from_weights(config)
    if start and not goes_on:
        for note in start_from(model, start, labels=source.classes):
            reporter.say(f"from {start}: {note}")
        if broken := nonfinite_tensor(model.state_dict()):
            raise DualFormerError(f"{start}: it holds values that are no numbers (in {broken}); start from others")
    loop = _loop(prepared, config, model, fabric=fabric, reporter=reporter)
    try:
        return _run(loop, prepared, config, goes_on=goes_on, reporter=reporter)
    finally:
        loop.close()


def _run(loop: Loop, prepared: Prepared, config: TrainConfig, *, goes_on: bool, reporter: Reporter) -> TrainResult:
    out = loop.out
    if goes_on:
        loop.resume()
        if (then := json.loads((out / CONFIG).read_text()).get("decoder", decoder())) != decoder():
            reporter.say(f"videos were decoded by {then} so far, and are by {decoder()} now: pixels may differ")
        reporter.say(f"resumed at step {loop.progress.step} of {loop.steps}")
    elif config.resume:
        reporter.say(f"{out} has no checkpoint yet: the run begins")
    loop.watch(lambda: _watchers(config, prepared.source.classes))
    average = f", averaged with a decay of {config.ema:g}" if config.ema is not None else ""
    reporter.say(
        f"results go to {out}: {loop.steps} steps of {prepared.clips_per_step} clips, {loop.steps_per_epoch} an epoch; "
        f"learning rate {prepared.rate} (backbone × {config.backbone_lr:g}), {loop.warmup} steps of warm-up, then "
        f"cosine{average}"
    )
    return loop.run()


def _loop(prepared: Prepared, config: TrainConfig, model: DualFormer, *, fabric: Fabric, reporter: Reporter) -> Loop:
    source, preprocessing = prepared.source, prepared.preprocessing
    assert config.epochs is not None and config.batch_size is not None and config.precision != "auto"
    assert config.workers is not None and config.backbone_lr is not None and config.warmup_epochs is not None
    out, start = Path(config.out), from_weights(config)
    objective = make_objective(
        config,
        source.has_truth,
        model,
        preprocessing,
        classes=source.classes,
        counts=source.counts,
        videos=source.size,
    )
    objective.place(fabric.device)
    for line in objective.lines:
        reporter.say(line)
    return Loop(
        objective,
        objective.feed(source.train(preprocessing, prepared.augmentation, prepared.mirrored)),
        source.val(preprocessing),
        train_size=source.size,
        augmentation=config,
        card=Card(
            config=model.config,
            labels=source.classes,
            preprocessing=preprocessing,
            provenance=f"trained by dualformer on {short_name(config.data)}"
            f"{f', starting from {Path(start).name}' if start else ''}",
            licence=config.licence,
            multi_label=config.multi_label,
        ),
        config=LoopConfig(
            epochs=config.epochs,
            batch_size=config.batch_size,
            accumulate=config.accumulate,
            lr=prepared.lr,
            backbone_lr=config.backbone_lr,
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
            warmup_epochs=config.warmup_epochs,
            clip_grad=config.clip_grad,
            ema=config.ema,
            freeze=config.freeze,
            freeze_stages=config.freeze_stages,
            precision=config.precision,
            seed=config.seed,
            workers=config.workers,
            max_steps=config.max_steps,
            save_minutes=config.save_minutes,
            keep=config.keep,
        ),
        out=out,
        fabric=fabric,
        reporter=reporter,
        fingerprint={
            "data": source.fingerprint,
            "model": model.config.to_dict(),
            "augmentation": {
                **prepared.augmentation.to_dict(),
                "mirrored": prepared.mirrored,
                **{field.name: getattr(config, field.name) for field in fields(MixingSettings)},
            },
            **objective.fingerprint,
        },
        order=source.order,
        name=source.name,
        describe=_describer(prepared, config),
    )


def _watchers(config: TrainConfig, classes: tuple[str, ...]) -> list[Callback]:
    out, watchers = Path(config.out), list[Callback]()
    if config.tensorboard:
        watchers.append(TensorBoardCallback(out))
    if config.confusion_every:
        watchers.append(ConfusionCallback(out, classes, config.confusion_every))
    return watchers


def _describer(prepared: Prepared, config: TrainConfig) -> Callable[[], None]:
    """Writes the run's settings into its folder, and again should that be taken away: all is at hand from now on."""
    out, source = Path(config.out), prepared.source
    network = json.dumps(prepared.network.to_dict(), indent=2) + "\n" if prepared.varied else None
    flips = None
    if config.flip_map is not None:
        flips = json.dumps(read_flip_map(config.flip_map, source.classes), indent=2, ensure_ascii=False) + "\n"
    weights = None
    if config.class_weights not in (None, BALANCED):
        weights = write_class_weights(read_class_weights(config.class_weights, source.classes))

    def describe() -> None:
        for path, text in ((out / NETWORK, network), (out / FLIP_MAP, flips), (out / CLASS_WEIGHTS, weights)):
            if text is None:
                path.unlink(missing_ok=True)  # another run's
            else:
                write_text(path, text)
        config.replace(resume=False).save(out / CONFIG, decoder=decoder())
        if source.splits and not source.splits.overlapping:
            write_split(out / SPLIT, source.splits)

    return describe


def _shared(fabric: Fabric) -> str:
    return "weights cut into shares" if type(fabric.strategy).__name__ == "ModelParallelStrategy" else "DDP"


def _lost_another(error: RuntimeError, fabric: Fabric) -> bool:
    """Whether this is how PyTorch says that another process has ended."""
    said = str(error).lower()
    return fabric.world_size > 1 and (
        isinstance(error, dist.DistError) or "gloo" in said or "closed by peer" in said or "reset by peer" in said
    )
