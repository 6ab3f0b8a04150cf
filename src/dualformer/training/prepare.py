"""Prepares a run before anything is written: opens its data, plans its network and fills in all open settings."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dualformer.cores import available_cores
from dualformer.datasets.flip_map import describe_mirrored_labels
from dualformer.errors import DualFormerError
from dualformer.model.config import Config, Stage
from dualformer.model.presets import list_models, preset_config
from dualformer.plurals import counted
from dualformer.training.checkpoint import has_begun
from dualformer.training.distributed import Processes, processes
from dualformer.training.losses import BALANCED
from dualformer.training.open_source import open_source
from dualformer.training.optimizer import Schedule
from dualformer.training.propose import FEW_TO_SELECT, propose
from dualformer.training.read_teacher_scores import read_scores_card
from dualformer.training.run_folder import CLASS_WEIGHTS, CONFIG, FLIP_MAP, LAST, NETWORK, find_data
from dualformer.training.settings.augmentation_settings import Flip
from dualformer.training.settings.data_settings import RENDERED_DATA
from dualformer.training.settings.network_settings import RANDOM
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import Source
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import Views
from dualformer.video.preprocessing import DEFAULT_VIEWS, KINETICS_MEAN, KINETICS_STD, Preprocessing
from dualformer.weights.card import Card
from dualformer.weights.layouts import is_exact, standard_config
from dualformer.weights.locate import resolve_weights
from dualformer.weights.resample import is_image_network
from dualformer.weights.resize_clip import video_config
from dualformer.weights.safetensors_file import read_card

_DROP_RATES = ("drop_path", "dropout")

Variant = Callable[[Config], Config]
"""Another network for the same clips and classes."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that may begin."""

    config: TrainConfig
    """With nothing left open but the precision, which the device decides."""
    source: Source
    network: Config
    preprocessing: Preprocessing
    augmentation: Augmentation
    mirrored: tuple[int, ...] | None
    """For each class the label of its mirrored clips, as `TrainingClips` takes it."""
    processes: Processes
    schedule: Schedule
    varied: bool
    """Whether the network is a variant of what the config says."""
    lines: tuple[str, ...]
    """Lines to report about it."""


def prepare(config: TrainConfig, variant: Variant | None = None, *, planned: bool = False) -> Prepared:
    """Opens the data and fills in what ``config`` leaves open, by the data, the starting weights and the machine.

    A run that is resumed has its own settings. One that is only ``planned`` may have a folder that holds a run. Errors:
    as `train` says of settings that cannot work.
    """
    config, where = _resumed(config) if config.resume else _begun(config, planned=planned)
    if config.folds and config.fold is None:
        raise ValueError(f"`folds={config.folds}` is as many runs: name the `fold` of this one")
    config.check_files()
    if config.teacher_scores and config.data not in RENDERED_DATA:
        read_scores_card(config)
    card = starting_card(config)
    # The memory for decoded videos is that of all processes of a machine.
    try:
        source = open_source(config.replace(cache_gb=config.cache_gb / where.devices))
    except FileNotFoundError as error:
        if not config.resume or error.errno is not None:
            raise
        moved = "if the videos of the run have moved, resume it with their new `data`"
        raise FileNotFoundError(f"{error}; {moved}") from error
    config = config.replace(shuffle=source.shuffle, head="temporal" if source.has_steps else "pooled")
    if source.has_steps:
        config = config.replace(sampling="stride")
    config, card, proposed = _proposed(config, card, source, ranks=where.world)
    network, preprocessing = plan_network(config, classes=len(source.classes), variant=variant, card=card)
    varied = (Path(config.out) / NETWORK).is_file() if config.resume else variant is not None
    flip = "off" if config.overfit else config.flip_for(source.classes)
    config = _filled_in(config, network, preprocessing, flip=flip, where=where)
    views, validation = _validation_views(config, source)
    config = config.replace(val_views=str(views))
    if config.data in RENDERED_DATA:  # how hard its clips are follows the epochs
        source = open_source(config)
    assert config.epochs is not None
    augmentation = config.augmentation(source.classes, epochs=config.epochs)
    mirrored = config.mirrored_labels(source.classes)
    # What does not go together is refused before other processes are started.
    schedule = Schedule.of(config, source.size, world=where.world)
    if config.freeze_stages > len(network.stages):
        raise ValueError(f"`freeze_stages={config.freeze_stages}`: the network has {len(network.stages)} stages")
    how = [augmentation.describe(describe_mirrored_labels(mirrored) if mirrored else ""), *config.describe_mixing()]
    return Prepared(
        config=config,
        source=source,
        network=network,
        preprocessing=preprocessing,
        augmentation=augmentation,
        mirrored=mirrored,
        processes=where,
        schedule=schedule,
        varied=varied,
        lines=(
            f"data: {source.description}",
            *source.warnings,
            *proposed,
            *validation,
            _describe_model(config, preprocessing, varied=varied),
            f"augmentation (mirroring by `flip={flip}`): {'; '.join(how)}",
        ),
    )


def preset_of(config: Config) -> str | None:
    """Returns the preset that gives this config but for classes and drop rates; None if there is none."""
    for name in list_models():
        preset = preset_config(
            name,
            clip=config.clip,
            num_classes=config.num_classes,
            drop_path=config.drop_path,
            dropout=config.dropout,
            head=config.head,
        )
        if preset == config:
            return name
    return None


def plan_network(
    config: TrainConfig, *, classes: int, variant: Variant | None = None, card: Card | None = None
) -> tuple[Config, Preprocessing]:
    """Returns the network and the preprocessing of a run: what was asked for, else the starting weights', else the
    preset's.

    ``card`` is that of the starting weights, where it is known already. Errors: ``ValueError`` for a preset or a size
    that there is not, and for a ``variant`` with other clips or classes.
    """
    card, exact = _in_layout(config, card or starting_card(config))
    name = None if exact else config.model or (preset_of(card.config) if card else "dualformer_nano")
    own = card.config.clip if card else preset_config(name or "dualformer_nano").clip
    clip = (config.frames or own[0], config.size or own[1], config.size or own[2])
    if clip[1] != clip[2]:
        raise ValueError(f"the starting weights take clips of {own[1]}x{own[2]} pixels; say a square `size`")
    said = {"drop_path": 0.0, "dropout": 0.0} if config.overfit else {n: getattr(config, n) for n in _DROP_RATES}
    rates = {name: rate for name, rate in said.items() if rate is not None}
    if name:
        eps = card.config.norm_eps if card else Config.norm_eps
        head = config.head or (card.config.head if card else Config.head)
        network = preset_config(name, clip=clip, num_classes=classes, norm_eps=eps, head=head, **rates)
    else:
        assert card is not None
        cut = video_config(card.config, clip) if _inflated(card, clip[0]) else card.config
        network = cut.replace(clip=clip, num_classes=classes, head=config.head or cut.head, **rates)
    base = card.preprocessing if card else None
    own_stride = card.preprocessing.stride if card and not _inflated(card, clip[0]) else 2
    preprocessing = Preprocessing(
        frames=clip[0],
        stride=config.stride or own_stride,
        fps=config.fps or (base.fps if base else None),
        resize=clip[1],
        crop=clip[1],
        mean=base.mean if base else KINETICS_MEAN,
        std=base.std if base else KINETICS_STD,
        sampling=config.sampling or (base.sampling if base else "stride"),
        crop_mode=config.crop_mode or (base.crop_mode if base else "center"),
    )
    saved = Path(config.out) / NETWORK
    if config.resume and saved.is_file():
        try:
            network = Config.from_dict(json.loads(saved.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise DualFormerError(f"{saved}: not the config of a network ({error}); start anew elsewhere") from error
    elif variant:
        network = variant(network)
        if (network.clip, network.num_classes) != (clip, classes):
            raise ValueError("a variant keeps the clip and the number of classes of the network that it is made from")
    return network, preprocessing


def _in_layout(config: TrainConfig, card: Card | None) -> tuple[Card | None, bool]:
    """Returns the card of the starting weights in the layout of the run, and whether that is Twins-SVT's own."""
    if card is None or not is_exact(card.config):
        if config.layout == "exact":
            raise ValueError("`layout=exact` is for starting weights of Twins-SVT, and for what comes of them")
        return card, False
    if config.layout == "standard" or (config.layout is None and config.model):
        return replace(card, config=standard_config(card.config)), False
    if config.model:
        own = preset_config(config.model).stages
        if _skeleton(own) != _skeleton(card.config.stages):
            raise ValueError(
                f"`model={config.model}` has other channels and blocks than {config.start}: {_skeleton(own)}, not "
                f"{_skeleton(card.config.stages)}"
            )
    return card, True


def _inflated(card: Card, frames: int) -> bool:
    """Returns whether clips of so many frames make a network of videos of the starting weights' one of images."""
    return is_image_network(card.config) and frames > 1


def _skeleton(stages: tuple[Stage, ...]) -> str:
    return ", ".join(f"{stage.channels}x{stage.depth}" for stage in stages)


def starting_card(config: TrainConfig) -> Card | None:
    """Returns the card of the starting weights, of a resumed run that of the weights which it has made so far."""
    last = Path(config.out) / LAST
    if config.resume and last.is_file():
        return read_card(last)
    start = from_weights(config)
    return read_card(resolve_weights(start)) if start else None


def from_weights(config: TrainConfig) -> str | None:
    """Returns the starting weights, if there are any; "rendered" are those of the preset that is asked for."""
    if config.start == "rendered" and config.model == "dualformer_nano":
        return "rendered-nano"
    return None if config.start == RANDOM else config.start


def _begun(config: TrainConfig, *, planned: bool) -> tuple[TrainConfig, Processes]:
    """Returns the settings of a new run, with its processes."""
    if not planned and has_begun(Path(config.out)):
        raise ValueError(f"{config.out} already holds a run; go on with it by `resume=True`, or choose another `out`")
    where = processes(config.devices, config.nodes, accelerator=config.accelerator)
    return config.replace(devices=where.devices, nodes=where.nodes), where


def _resumed(asked: TrainConfig) -> tuple[TrainConfig, Processes]:
    """Returns the settings that the run in ``out`` was started with, but for those that do not change its result.

    Its batches are dealt to as many processes as are asked for. Errors: ``ValueError`` where that leaves a rest.
    """
    out = Path(asked.out)
    if not (out / CONFIG).is_file():
        raise FileNotFoundError(f"{out}: no run to resume (there is no {CONFIG}); start it without `resume=True`")
    then = find_data(TrainConfig.load(out / CONFIG), out)
    if then.flip == "swap":
        then = then.replace(flip_map=str(out / FLIP_MAP))
    if then.class_weights not in (None, BALANCED):
        then = then.replace(class_weights=str(out / CLASS_WEIGHTS))
    if not isinstance(then.devices, int) or then.nodes is None or then.batch_size is None:
        raise ValueError(f"{out / CONFIG} is not the config of a training run of this version; start anew elsewhere")
    before = Processes(then.devices, then.nodes)
    now = processes(asked.devices, asked.nodes, accelerator=then.accelerator, otherwise=before)
    clips = then.batch_size * before.world
    if now.world == before.world:
        _refuse_others(then, asked, ["batch_size"])
    if clips % now.world:
        raise ValueError(f"{out}: its batches of {clips} clips cannot be dealt evenly to the {now} of `devices`")
    strategy = then.strategy if asked.strategy == "auto" and now.world > 1 else asked.strategy
    settings = resumed_settings(then, asked).replace(
        shuffle=then.shuffle or "samples",  # files may have become shards
        devices=now.devices,
        nodes=now.nodes,
        strategy=strategy,
        batch_size=clips // now.world,
    )
    return settings, now


_CHANGED = ("out", "workers", "cache_gb", "shard_cache", "shard_cache_gb", "max_steps", "save_minutes", "keep")
_CHANGED_IF_SAID = ("data", "manifest", "teacher", "teacher_scores", "tensorboard", "confusion_every")
_DEALT = ("batch_size", "devices", "nodes", "strategy", "accelerator")
"""Settings that follow the processes of a run that is resumed."""
_KEPT_BESIDE = ("flip_map", "class_weights", "licence")
"""Settings of files that a run has copied, or of words that are in its weights."""


def resumed_settings(then: TrainConfig, asked: TrainConfig) -> TrainConfig:
    """Returns the settings of a run with what a call that resumes it may change, as its result stays the same.

    Raises ``ValueError`` for another setting that is asked for and that the run does not have.
    """
    free = {"resume", *_CHANGED, *_CHANGED_IF_SAID, *_DEALT, *_KEPT_BESIDE}
    _refuse_others(then, asked, (field.name for field in fields(TrainConfig) if field.name not in free))
    return then.replace(
        resume=True,
        # Data and teachers may have moved; that they are the same ones, their digests tell.
        **{name: getattr(asked, name) or getattr(then, name) for name in _CHANGED_IF_SAID},
        **{name: getattr(asked, name) for name in _CHANGED},
    )


def _refuse_others(then: TrainConfig, asked: TrainConfig, names: Iterable[str]) -> None:
    """Raises ``ValueError`` for one of these settings that is asked for and that the run does not have."""
    standard = TrainConfig(data=then.data)
    for name in () if then.overfit else names:  # which has changed most of them itself
        value, own = getattr(asked, name), getattr(then, name)
        if value not in (getattr(standard, name), own):
            others = then.folds and then.fold is None
            by = "" if others else f" by `start={Path(asked.out) / LAST}`"
            raise ValueError(
                f"`{name}={value}`: a run is resumed with the settings that it began with, and this one has {own}; "
                f"leave it out, or begin another run in another `out`{by}"
            )


def _proposed(
    config: TrainConfig, card: Card | None, source: Source, *, ranks: int
) -> tuple[TrainConfig, Card | None, list[str]]:
    """Returns a new run's settings with what the number of videos suggests, the card of the starting weights, and lines
    on the reasons; the settings of a resumed run as they are. ``card``: that of the weights that were asked for."""
    if config.resume:
        return config, card, []
    inflated = card is not None and _inflated(card, config.frames or 1)
    proposed, lines = propose(config, source, ranks=ranks, inflated=inflated)
    return proposed, card if proposed.start == config.start else starting_card(proposed), lines


def _validation_views(config: TrainConfig, source: Source) -> tuple[Views, list[str]]:
    """Returns the views of a validation video, and a line on them where they were not said."""
    if config.val_views:
        return Views.parse(config.val_views), []
    if config.resume or not source.several_views:  # runs had one view before there was this setting
        return Views(1, 1), []
    usual = f"`dualformer evaluate` takes {DEFAULT_VIEWS}"
    if source.val_size < FEW_TO_SELECT:
        return Views.parse(DEFAULT_VIEWS), [
            f"validation: views {DEFAULT_VIEWS} of {source.val_size} videos, as {usual}"
        ]
    many = f"validation: views 1x1 of {source.val_size} videos"
    return Views(1, 1), [f"{many}; {usual} unless told otherwise, so its figure will differ"]


def _describe_model(config: TrainConfig, pre: Preprocessing, *, varied: bool) -> str:
    """Returns the line on network, starting weights and clips."""
    rate = f" at {pre.fps:g} frames per second" if pre.fps else ""
    frozen = f"; the first {config.freeze_stages} stages are frozen" if config.freeze_stages else ""
    if config.freeze == "backbone":
        frozen = "; all but the classifier is frozen"
    return (
        f"model: {config.model or 'as in the starting weights'}{f', {config.layout} layout' if config.layout else ''}"
        f"{f', varied ({NETWORK})' if varied else ''}, starting "
        f"from {'random weights' if config.start == RANDOM else config.start}{frozen}; clips of "
        f"{counted(pre.frames, 'frame')}, stride {pre.stride}{rate}, {pre.crop}x{pre.crop} pixels"
        f"{', spread over short videos' if pre.sampling == 'segments' else ''}"
        f"{', the whole picture, padded' if pre.crop_mode == 'pad' else ''}"
        f"{'; a temporal head answers at every moment' if config.head == 'temporal' else ''}"
    )


def _filled_in(
    config: TrainConfig, network: Config, preprocessing: Preprocessing, *, flip: Flip, where: Processes
) -> TrainConfig:
    """Returns ``config`` with all open settings filled in."""
    batch_size, epochs = config.batch_size, config.epochs
    assert batch_size is not None and epochs is not None
    config = config.replace(
        model=config.model or preset_of(network),
        frames=preprocessing.frames,
        stride=preprocessing.stride,
        fps=preprocessing.fps,
        size=preprocessing.crop,
        sampling=preprocessing.sampling,
        crop_mode=preprocessing.crop_mode,
        flip=flip,
        flip_map=config.flip_map if flip == "swap" else None,
    )
    if config.overfit and not config.resume:
        most = max(1, config.overfit // where.world)
        config = config.without_augmentation().replace(drop_path=0.0, dropout=0.0, batch_size=min(batch_size, most))
    if config.backbone_lr is None:
        config = config.replace(backbone_lr=0.1 if from_weights(config) else 1.0)
    if config.warmup_epochs is None:
        config = config.replace(warmup_epochs=epochs / 12)
    if config.workers is None:
        config = config.replace(workers=max(1, min(8, available_cores() // where.devices - 1)))
    return config
