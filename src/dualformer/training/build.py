"""Builds network, objective, clips and loop of a run that was prepared, for training and for dry runs."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from dualformer.datasets.benchmarks.find_benchmark import short_name
from dualformer.datasets.video_digests import pack_digests, unpack_digests, video_digests
from dualformer.errors import DualFormerError
from dualformer.model.compiling import compile_network
from dualformer.model.network import DualFormer
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.distributed import ProcessGroup, is_first
from dualformer.training.loop import Loop
from dualformer.training.objective import ClipObjective, make_objective
from dualformer.training.precision import choose_precision
from dualformer.training.prepare import Prepared, from_weights, starting_card
from dualformer.training.reporter import Reporter
from dualformer.training.run_folder import settings_writer
from dualformer.training.settings.mixing_settings import MixingSettings
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import RunClips
from dualformer.training.train_step import nonfinite_tensor
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import Views
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import load_pretrained
from dualformer.weights.segment_settings import SegmentSettings


def build_parts(
    prepared: Prepared, fabric: Fabric, *, log: Callable[[str], None]
) -> tuple[TrainConfig, ClipObjective, RunClips]:
    """Chooses the precision, makes the network with its starting weights, the objective and the clips.

    Returns the settings with the precision, the objective and the clips. ``log`` gets a line on each decision. A run
    that goes on from a checkpoint does without starting weights. Errors: as `load_pretrained` and `make_objective`;
    ``DualFormerError`` for starting weights that are not finite.
    """
    settings, source = prepared.config, prepared.source
    precision = ProcessGroup(fabric).broadcast(lambda: choose_precision(settings.precision, fabric.device))
    settings = settings.replace(precision=precision.name)
    for line in prepared.lines:
        log(line)
    cut = type(fabric.strategy).__name__ == "ModelParallelStrategy"
    strategy = "weights cut into shares" if cut else "DDP"
    several = f", {prepared.processes} ({strategy})" if fabric.world_size > 1 else ""
    log(f"computing on {fabric.device.type}{several} in {precision.name}: {precision.reason}")
    model = DualFormer(prepared.network, seed=settings.seed)
    model.set_grad_checkpointing(settings.grad_checkpointing)
    if settings.compile != "no":
        model = compile_network(model, settings.compile, device=fabric.device)
    start = from_weights(settings)
    if start and not goes_on(settings):
        for note in load_pretrained(model, start, labels=source.classes):
            log(f"from {start}: {note}")
        if broken := nonfinite_tensor(model.state_dict()):
            raise DualFormerError(f"{start}: it holds values that are no numbers (in {broken}); start from others")
    objective = make_objective(
        settings,
        source.has_truth,
        model,
        prepared.preprocessing,
        classes=source.classes,
        counts=source.seconds or source.counts,
        videos=sum(source.seconds.values()) if source.seconds else source.size,
        maps=source.maps,
        answers_steps=source.has_steps,
    )
    objective.place(fabric.device)
    for line in objective.lines:
        log(line)
    assert settings.val_views
    views = Views.parse(settings.val_views)
    clips = source.clips(prepared.preprocessing, prepared.augmentation, prepared.mirrored, views)
    clips = replace(clips, train=objective.wrap_clips(clips.train))
    return settings, objective, clips


def build_loop(prepared: Prepared, fabric: Fabric, reporter: Reporter) -> Loop:
    """Returns the loop of a run, with its folder and what a checkpoint must agree with. Errors: as `build_parts`."""
    settings, objective, clips = build_parts(prepared, fabric, log=reporter.log)
    source, network = prepared.source, objective.model.config
    start = from_weights(settings)
    starting = f", starting from {Path(start).name}" if start else ""
    return Loop(
        objective,
        clips,
        settings,
        card=Card(
            config=network,
            labels=source.classes,
            preprocessing=prepared.preprocessing,
            provenance=f"trained by dualformer on {short_name(settings.data)}{starting}",
            licence=settings.licence,
            multi_label=settings.multi_label,
            trained_on=_trained_on(prepared) if is_first() else "",
            timeline=_timeline_settings(settings, source.classes),
        ),
        fabric=fabric,
        reporter=reporter,
        fingerprint={
            "data": source.fingerprint,
            "model": network.to_dict(),
            "augmentation": augmentation_fingerprint(prepared.augmentation, settings, mirrored=prepared.mirrored),
            **objective.fingerprint,
        },
        describe=settings_writer(settings, source, prepared.network if prepared.varied else None),
    )


def augmentation_fingerprint(
    augmentation: Augmentation, mixing: MixingSettings, *, mirrored: Sequence[int] | None = None
) -> dict[str, Any]:
    """Returns the settings of augmentation and mixing for the fingerprint of checkpoints."""
    mixed = {field.name: getattr(mixing, field.name) for field in fields(MixingSettings)}
    return {**augmentation.to_dict(), "mirrored": mirrored, **mixed}


def _timeline_settings(settings: TrainConfig, classes: Sequence[str]) -> SegmentSettings | None:
    """Returns the settings of timelines that the run knows: what is unmarked means that nothing happens."""
    name = settings.background
    return SegmentSettings(background=(name,)) if name and name in classes else None


def _trained_on(prepared: Prepared) -> str:
    """Returns packed digests of the run's videos to train on, and of those that its starting weights know of."""
    card = starting_card(prepared.config)
    before = unpack_digests(card.trained_on) if card else ()
    return pack_digests([*video_digests(prepared.source.videos), *before])


def goes_on(settings: TrainConfig) -> bool:
    """Returns whether the run goes on from a checkpoint."""
    return settings.resume and has_checkpoint(Path(settings.out))
