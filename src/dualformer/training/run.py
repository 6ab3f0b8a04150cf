"""A run from its settings: source, model and loop put together, every decision printed and written down."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lightning_fabric import Fabric

from dualformer.datasets.benchmarks.names import short_name
from dualformer.datasets.mirror import read_flip_map
from dualformer.datasets.open import write_split
from dualformer.errors import DualFormerError
from dualformer.model.config import Config
from dualformer.model.network import DualFormer
from dualformer.model.presets import list_models, preset_config
from dualformer.training.config import TrainConfig
from dualformer.training.loop import LAST, Loop, LoopConfig, TrainResult
from dualformer.training.objective import ClipObjective, MotionObjective
from dualformer.training.options.augment import Flip
from dualformer.training.precision import choose_precision
from dualformer.training.report import Reporter
from dualformer.training.sources import Source, open_source
from dualformer.training.state import CHECKPOINT
from dualformer.video.augmentation import Augmentation
from dualformer.video.backend import decoder
from dualformer.video.preprocessing import KINETICS_MEAN, KINETICS_STD, Preprocessing
from dualformer.weights.atomic import atomic_write
from dualformer.weights.locate import resolve
from dualformer.weights.native import Card, read_card
from dualformer.weights.recut import video_config
from dualformer.weights.resample import of_images, start_from

# On import it has itself announce what is said here in other words; warnings and errors still come.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

CONFIG = "config.json"
SPLIT = "split.csv"
FLIP_MAP = "flip_map.json"
"""The run's own copy of what --flip-map says."""
NETWORK = "network.json"
"""The network of a run that trains a variant of a preset."""

Variant = Callable[[Config], Config]
"""Another network for the same clips and classes."""


def train(config: TrainConfig, *, reporter: Reporter | None = None, variant: Variant | None = None) -> TrainResult:
    """Trains as ``config`` says and leaves everything in ``config.out``.

    ``variant`` makes the network from the one that ``config`` names: ``lambda network: network.replace(…)``. The run
    keeps it, and is resumed without.

    Errors: ``ValueError`` and ``FileNotFoundError`` for settings that cannot work, before anything is written;
    ``DualFormerError`` for data that cannot be read, weights that do not fit, a full disk, a loss that is not a number.
    Ctrl-C saves and raises `Interrupted`.
    """
    reporter = reporter or Reporter()
    out = Path(config.out)
    if config.resume:
        config = _settings_of_run(out, config)
    elif (out / CHECKPOINT).is_file():
        raise ValueError(f"{out} already holds a run; go on with it by --resume, or choose another --out")
    source = open_source(config)
    config = config.replace(shuffle=source.shuffle)
    card = _starting_card(config)
    network, preprocessing = plan_network(config, classes=len(source.classes), variant=variant, card=card)
    flip = "off" if config.overfit else config.flip_for(source.classes)
    config = _closed(config, network, preprocessing, flip=flip)
    augmentation = config.augmentation(source.classes)
    precision = choose_precision(config.precision, Fabric(accelerator=config.accelerator, devices=1).device)
    config = config.replace(precision=precision.name)
    fabric_precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if precision.name == "bfloat16" else "32-true"
    fabric = Fabric(accelerator=config.accelerator, devices=1, precision=fabric_precision)

    rate = f" at {preprocessing.fps:g} frames per second" if preprocessing.fps else ""
    reporter.say(f"data: {source.description}")
    varied = f", varied ({NETWORK})" if _varied(config, variant) else ""
    reporter.say(
        f"model: {config.model or 'as in the starting weights'}{varied}, starting from "
        f"{config.start or 'random weights'}; clips of {preprocessing.frames} frames, stride {preprocessing.stride}"
        f"{rate}, {preprocessing.crop}x{preprocessing.crop} pixels"
    )
    reporter.say(f"augmentation (mirroring by --flip {flip}): {augmentation.describe()}")
    reporter.say(f"computing on {fabric.device} in {precision.name}: {precision.reason}")
    model = DualFormer(network, seed=config.seed)
    model.set_grad_checkpointing(config.grad_checkpointing)
    if config.start and not config.resume:
        for note in start_from(model, config.start, labels=source.classes):
            reporter.say(f"from {config.start}: {note}")
    loop = _loop(config, source, model, preprocessing, augmentation, fabric=fabric, reporter=reporter)
    if config.resume:
        loop.resume()
        if (then := json.loads((out / CONFIG).read_text()).get("decoder", decoder())) != decoder():
            reporter.say(f"videos were decoded by {then} so far, and are by {decoder()} now: pixels may differ")
        reporter.say(f"resumed at step {loop.progress.step} of {loop.steps}")
    else:
        out.mkdir(parents=True, exist_ok=True)
        _keep_network(out / NETWORK, network if variant else None)
        _keep_flip_map(out / FLIP_MAP, config, source.classes)
        config.save(out / CONFIG, decoder=decoder())
        if source.splits and not source.splits.overlapping:
            write_split(out / SPLIT, source.splits)
    reporter.say(
        f"results go to {out}: {loop.steps} steps of {config.batch_size * config.accumulate} clips, "
        f"{loop.steps_per_epoch} an epoch; "
        f"learning rate {config.lr:g} (backbone × {loop.config.backbone_lr:g}), {loop.warmup} steps of warm-up, then "
        "cosine"
    )
    return loop.run()


def preset_of(config: Config) -> str | None:
    """The preset that gives this config but for classes and drop rates; None if it is nobody's."""
    for name in list_models():
        preset = preset_config(
            name, clip=config.clip, num_classes=config.num_classes, drop_path=config.drop_path, dropout=config.dropout
        )
        if preset == config:
            return name
    return None


def plan_network(
    config: TrainConfig, *, classes: int, variant: Variant | None = None, card: Card | None = None
) -> tuple[Config, Preprocessing]:
    """The network and the preprocessing of a run, before anything is read or written but what ``config`` starts from.

    ``card`` is that of the starting weights, where it is known already. Errors: ``ValueError`` for a preset or a size
    that there is not, and for a ``variant`` with other clips or classes.
    """
    network, preprocessing = _network(config, card or _starting_card(config), classes)
    own = Path(config.out) / NETWORK
    if config.resume and own.is_file():
        try:
            network = Config.from_dict(json.loads(own.read_text()))
        except (ValueError, TypeError, AttributeError) as error:
            raise DualFormerError(f"{own}: not the config of a network ({error}); start anew elsewhere") from error
    elif variant:
        base, network = network, variant(network)
        if (network.clip, network.num_classes) != (base.clip, base.num_classes):
            raise ValueError("a variant keeps the clip and the number of classes of the network that it is made from")
    return network, preprocessing


def _settings_of_run(out: Path, asked: TrainConfig) -> TrainConfig:
    """The settings that the run in ``out`` was started with, but for those that do not change its result."""
    if not (out / CONFIG).is_file():
        raise FileNotFoundError(f"{out}: no run to resume (there is no {CONFIG}); start it without --resume")
    then = TrainConfig.load(out / CONFIG)
    if then.flip == "swap":
        then = then.replace(flip_map=str(out / FLIP_MAP))
    return then.replace(
        resume=True,
        data=asked.data or then.data,
        out=asked.out,
        workers=asked.workers,
        cache_gb=asked.cache_gb,
        shard_cache=asked.shard_cache,
        shard_cache_gb=asked.shard_cache_gb,
        shuffle=then.shuffle or "samples",  # files may have become shards
        max_steps=asked.max_steps,
        save_minutes=asked.save_minutes,
    )


def _starting_card(config: TrainConfig) -> Card | None:
    """What the starting weights say of themselves. A run that is resumed has its own, and does without the others."""
    last = Path(config.out) / LAST
    if config.resume and last.is_file():
        return read_card(last)
    return read_card(resolve(config.start)) if config.start else None


def _closed(config: TrainConfig, network: Config, preprocessing: Preprocessing, *, flip: Flip) -> TrainConfig:
    """``config`` with nothing left open."""
    config = config.replace(
        model=config.model or preset_of(network),
        frames=preprocessing.frames,
        stride=preprocessing.stride,
        fps=preprocessing.fps,
        size=preprocessing.crop,
        flip=flip,
        flip_map=config.flip_map if flip == "swap" else None,
    )
    if config.overfit:
        config = config.without_augmentation().replace(
            drop_path=0.0, dropout=0.0, batch_size=min(config.batch_size, config.overfit)
        )
    if config.backbone_lr is None:
        config = config.replace(backbone_lr=0.1 if config.start else 1.0)
    if config.warmup_epochs is None:
        config = config.replace(warmup_epochs=config.epochs / 12)
    if config.workers is None:
        config = config.replace(workers=max(1, min(8, (os.cpu_count() or 1) - 1)))
    return config


def _network(config: TrainConfig, card: Card | None, classes: int) -> tuple[Config, Preprocessing]:
    """The model's config and preprocessing: what was asked for, else the starting weights', else the preset's."""
    name = config.model or (preset_of(card.config) if card else "dualformer_nano")
    own = card.config.clip if card else preset_config(name or "dualformer_nano").clip
    clip = (config.frames or own[0], config.size or own[1], config.size or own[2])
    if clip[1] != clip[2]:
        raise ValueError(f"the starting weights take clips of {own[1]}x{own[2]} pixels; say a square --size")
    drop = (0.0, 0.0) if config.overfit else (config.drop_path, config.dropout)
    if name:
        model = preset_config(name, clip=clip, num_classes=classes, drop_path=drop[0], dropout=drop[1])
    else:
        assert card is not None
        cut = video_config(card.config, clip) if of_images(card.config) and clip[0] > 1 else card.config
        model = cut.replace(clip=clip, num_classes=classes, drop_path=drop[0], dropout=drop[1])
    base = card.preprocessing if card else None
    return model, Preprocessing(
        frames=clip[0],
        stride=config.stride or (base.stride if base else 2),
        fps=config.fps or (base.fps if base else None),
        resize=clip[1],
        crop=clip[1],
        mean=base.mean if base else KINETICS_MEAN,
        std=base.std if base else KINETICS_STD,
    )


def _keep_flip_map(path: Path, config: TrainConfig, classes: tuple[str, ...]) -> None:
    """Writes the map down, or sees that no other run's lies there."""
    if config.flip_map is None:
        path.unlink(missing_ok=True)
        return
    text = json.dumps(read_flip_map(config.flip_map, classes), indent=2, ensure_ascii=False) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _varied(config: TrainConfig, variant: Variant | None) -> bool:
    return (Path(config.out) / NETWORK).is_file() if config.resume else variant is not None


def _keep_network(path: Path, network: Config | None) -> None:
    """Writes the network down, or sees that no other one lies there."""
    if network is None:
        path.unlink(missing_ok=True)
        return
    text = json.dumps(network.to_dict(), indent=2) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text))


def _loop(
    config: TrainConfig,
    source: Source,
    model: DualFormer,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    fabric: Fabric,
    reporter: Reporter,
) -> Loop:
    assert config.workers is not None and config.backbone_lr is not None and config.warmup_epochs is not None
    objective = MotionObjective if source.has_truth else ClipObjective
    start = f", starting from {Path(config.start).name}" if config.start else ""
    return Loop(
        objective(model, preprocessing, label_smoothing=augmentation.label_smoothing),
        source.train(preprocessing, augmentation),
        source.val(preprocessing),
        train_size=source.size,
        augmentation=augmentation,
        card=Card(
            config=model.config,
            labels=source.classes,
            preprocessing=preprocessing,
            provenance=f"trained by dualformer on {short_name(config.data)}{start}",
            licence=config.licence,
        ),
        config=LoopConfig(
            epochs=config.epochs,
            batch_size=config.batch_size,
            accumulate=config.accumulate,
            lr=config.lr,
            backbone_lr=config.backbone_lr,
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
            warmup_epochs=config.warmup_epochs,
            clip_grad=config.clip_grad,
            seed=config.seed,
            workers=config.workers,
            max_steps=config.max_steps,
            save_minutes=config.save_minutes,
        ),
        out=Path(config.out),
        fabric=fabric,
        reporter=reporter,
        fingerprint={"data": source.fingerprint, "model": model.config.to_dict(), "precision": config.precision},
        order=source.order,
    )
