"""Proposes what a run is not told: start, clip, steps, rates and regularisation, by the number and length of videos.

The rules come from what was measured (docs/experiments.md) and from the paper:

* From weights. From the rendered weights nano needed 1,600 clips of 320 rendered videos (quickstart); of 95 videos of
  people (UT-Interaction) Nano Conv, whose weights did not yet know people, still learnt after 4,500 clips, and gestures
  (EgoGestAR) lost nothing by more. So: 6,000 clips; never fewer than the paper's 16 epochs, and never more than 100.
* From random weights. Motion learnt from scratch begins with a plateau of thousands of clips; the weights that come
  with the package got to 79 % with 22,400 clips. So: 24,000 clips, in 30 epochs (the paper's) to 200.
* Batches of 16, and at least four of them an epoch.
* The paper's learning rate of 1e-3, the backbone at a tenth of it; at all of it from the rendered weights, which are
  far from real videos.
* A clip shows all of a video where videos last alike, as fast and slow gestures are then the same to the network (66 in
  place of 41 % on another batch), else three quarters of a video of usual length: of three gestures of 4.4 s, 58 % were
  right by clips of 1.3 s, and 96 % by clips of 3.2 s.
* RandAugment 7x2 below 2,000 videos: on another batch of gestures 79 in place of 66 %, and a lower loss on people.
  The last two fifths of the epochs go without: on people and on gestures the loss was then lower than with it all the
  time. No dropout and no drop path: with them a fold of people was fitted less, and was less right.
* Fewer than 100 validation videos do not choose the epoch. Where the last weights count, ten validations are enough.
* Below 2,000 videos the network is Nano Conv, which has no such plateau, and starts from the rendered weights; from
  random ones it sees 12,000 clips, as after 5,760 of UT-Interaction it was still underfitting.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from dualformer.datasets.samples import first_few
from dualformer.model.config import Config
from dualformer.model.presets import preset_config
from dualformer.scoring.intervals import half_width
from dualformer.training.settings.data_settings import RENDERED_DATA
from dualformer.training.settings.network_settings import RANDOM
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import RENDERED_EPOCHS, Source, VideoShape
from dualformer.video.augmentation import Augmentation
from dualformer.weights.locate import SHIPPED

FEW_VIDEOS = 2000
"""Below, Nano Conv starts from the rendered weights, and clips are regularised for few videos."""
FEW_TO_VALIDATE = 400
"""Validation videos below which an accuracy is uncertain by more than five points."""
FEW_TO_SELECT = 100
"""Validation videos below which they do not choose the epoch: its accuracy is uncertain by ten points and more."""
UNEVEN = 3
"""Videos of the largest class over those of the smallest from which on that is worth a warning."""

_NANO, _NANO_CONV, _SHIPPED = "dualformer_nano", "dualformer_nano_conv", "rendered"
_FROM_WEIGHTS = (6_000, 16, 100)  # clips, fewest epochs, most epochs
_FROM_RANDOM = (24_000, 30, 200)
_CONVOLUTIONS_FROM_RANDOM = (12_000, 30, 100)
_BATCH = 16
#: What the paper sets, and what fits few videos: 8 % of a frame leave the actor out, and from a hundred clips a small
#: network learns too little rather than too much.
_REGULARISATION: dict[str, tuple[float, float]] = {
    "min_area": (Augmentation.area[0], 0.5),
    "drop_path": (0.1, 0.0),
    "dropout": (Config.dropout, 0.0),
    "label_smoothing": (0.0, 0.1),
}
_RANDAUGMENT, _PLAIN_FROM = "7x2", 0.6
#: Smallest crop of a padded picture, whose long side already is all that the square shows.
_PADDED_AREA = 0.75
#: The part of a video of usual length that a clip shows, and the most seconds that it shows.
_SHOWN, _MOST_SECONDS = 0.75, 5.0
#: The part of its picture that a square of a tenth of the videos may leave out.
_MOST_LOST = 0.3
_OVERFIT_EPOCHS = 100
#: How often a run is validated whose last weights count.
_VALIDATIONS = 10


def propose(
    config: TrainConfig, source: Source, *, ranks: int = 1, inflated: bool = False
) -> tuple[TrainConfig, list[str]]:
    """Returns ``config`` with start, epochs, batch size and learning rate, and lines on the data and the reasons.

    ``ranks`` processes take a batch each. ``inflated``: the starting weights are of a network of images, which says
    nothing of the spacing of a clip's frames.
    """
    lines: list[str] = []
    if source.counts:
        lines = [*_about_classes(source.counts, source.val_counts, config), *_about_validation(source.val_size, config)]
    videos, proposed = source.size, list[str]()

    def propose_setting(what: str, why: str) -> None:
        proposed.append(f"  {what}   ({why})")

    if config.start is None:
        rendered, why = _may_start_rendered(config, videos, source.counts)
        config = config.replace(start=_SHIPPED if rendered else RANDOM)
        propose_setting(f"`start={config.start}`", why)
    few = source.counts is not None and config.frames != 1 and videos < FEW_VIDEOS
    if config.start == RANDOM and config.model is None and few:
        config = config.replace(model=_NANO_CONV)
        propose_setting(f"`model={_NANO_CONV}`", "convolutions learn from few videos")
    if config.backbone_lr is None and config.start in SHIPPED and config.data not in RENDERED_DATA:
        config = config.replace(backbone_lr=1.0)
        propose_setting("`backbone_lr=1`", "the rendered weights are far from other videos")
    if config.batch_size is None:
        batch, why = _batch_size(config, videos, ranks)
        config = config.replace(batch_size=batch)
        propose_setting(f"`batch_size={batch}`", why)
    if config.epochs is None:
        epochs, why = _epochs(config, videos, ranks)
        config = config.replace(epochs=epochs)
        propose_setting(f"`epochs={epochs}`", why)
    own_clips = config.start in (RANDOM, *SHIPPED)
    if config.fps and not config.stride and (own_clips or inflated) and config.data not in RENDERED_DATA:
        config = config.replace(stride=1)
        propose_setting("`stride=1`", f"frames of a clip are 1/{config.fps:g} s apart, as `fps` says")
    if source.measure and (own_clips or inflated):
        measure = cache(source.measure)
        padding = _crop_mode(config, measure) if few and own_clips else ({}, "")
        for changes, why in (_spacing(config, measure), padding):
            if changes:
                config = config.replace(**changes)
                propose_setting(" ".join(f"`{name}={value}`" for name, value in changes.items()), why)
    regularised = few and not config.overfit
    learns_places = config.teaches and not config.learns_clips
    for name, (usual, for_few) in _REGULARISATION.items():
        instead = {"min_area": config.scale_jitter, "label_smoothing": config.multi_label or learns_places}
        if name == "min_area" and config.crop_mode == "pad":
            for_few = _PADDED_AREA
        if getattr(config, name) is None and not instead.get(name):
            config = config.replace(**{name: for_few if regularised else usual})
            if regularised:
                propose_setting(f"`{name}={for_few:g}`", "for few videos")
    if regularised and config.randaugment is None and not learns_places:
        config = config.replace(randaugment=_RANDAUGMENT, randaugment_until=config.randaugment_until or _PLAIN_FROM)
        propose_setting(
            f"`randaugment={_RANDAUGMENT}` `randaugment_until={config.randaugment_until:g}`", "for few videos"
        )
    if config.select is None:
        luck = 0 < source.val_size < FEW_TO_SELECT
        config = config.replace(select="last" if luck or config.folds else "best")
        if config.folds:
            propose_setting("`select=last`", "a fold that chose the epoch would no longer be unseen")
        elif luck:
            propose_setting("`select=last`", f"the best epoch by {source.val_size} videos is luck")
    if config.val_every is None:
        seldom = config.select == "last" and not (config.overfit or config.patience or config.confusion_every)
        every = math.ceil((config.epochs or 1) / _VALIDATIONS) if seldom else 1
        config = config.replace(val_every=every)
        if every > 1:
            propose_setting(f"`val_every={every}`", "the last weights count anyway")
    if config.lr is None:
        config = config.replace(lr=1e-3)
        propose_setting("`lr=0.001`", "the paper's")
    if proposed:
        lines += ["proposed, as it was not said:", *proposed]
    return config, lines


def _may_start_rendered(config: TrainConfig, videos: int, counts: Mapping[str, int] | None) -> tuple[bool, str]:
    if counts is None:
        return False, "the rendered weights have seen such videos already"
    if why := config.why_not_shipped():
        return False, why
    if videos >= FEW_VIDEOS:
        return False, f"{videos} videos are enough to learn motion from, if slowly; `start=rendered` is quicker"
    return True, f"{videos} videos are too few to learn motion from; `start=random` does without"


def _spacing(config: TrainConfig, measure: Callable[[], Sequence[VideoShape]]) -> tuple[dict[str, Any], str]:
    """Returns the spacing of a clip's frames that shows most of a video, by videos' frames and seconds, and the reason.

    In frames a second, or in frames of the file where those have no rate. Nothing for images and where no video tells.
    """
    frames = config.frames or preset_config(config.model or _NANO).clip[0]
    if config.fps or config.stride or frames == 1:
        return {}, ""
    shapes = [shape for shape in measure() if shape.frames > 1]
    if not shapes:
        return {}, ""
    if any(shape.seconds is None for shape in shapes):
        usual = statistics.median(shape.frames for shape in shapes)
        stride = max(1, round(_SHOWN * usual / frames))
        return {"stride": stride}, f"a clip shows {frames * stride} frames of videos of {usual:.0f}"
    seconds = sorted(shape.seconds for shape in shapes if shape.seconds is not None)
    usual, long = statistics.median(seconds), seconds[-1 - len(seconds) // 10]
    own = statistics.median(shape.frames / shape.seconds for shape in shapes if shape.seconds)
    alike = usual <= _MOST_SECONDS and long <= 2 * usual
    whole = config.sampling == "segments" or (
        alike and config.sampling is None and not (config.teaches and not config.learns_clips)
    )
    rate = float(f"{min(own, frames / (usual if whole else min(_MOST_SECONDS, _SHOWN * usual))):.2g}")
    if whole:
        why = f"a clip shows all of a video, of usually {usual:.1f} s"
        return {"sampling": "segments", "fps": rate, "stride": 1}, why
    return {"fps": rate, "stride": 1}, f"a clip shows {frames / rate:.1f} s of videos of {usual:.1f} s"


def _crop_mode(config: TrainConfig, measure: Callable[[], Sequence[VideoShape]]) -> tuple[dict[str, Any], str]:
    """Returns padding where squares would leave much of a picture out, and the reason; else nothing."""
    if (
        config.crop_mode
        or config.scale_jitter
        or (config.teacher_scores and not config.learns_clips)
        or not (shapes := measure())
    ):
        return {}, ""
    lost = sorted(1 - min(shape.aspect, 1 / shape.aspect) for shape in shapes)[-1 - len(shapes) // 10]
    if lost < _MOST_LOST:
        return {}, ""
    return {"crop_mode": "pad"}, f"squares would leave {lost:.0%} of a wide or tall picture out"


def _batch_size(config: TrainConfig, videos: int, ranks: int) -> tuple[int, str]:
    """Returns a multiple of `repeats`, and with mixing of twice that, as each clip has a partner, and the reason."""
    unit = config.repeats * (2 if config.mixup or config.cutmix else 1)
    if config.overfit:
        return max(unit, math.ceil(min(videos, config.overfit) / ranks)), "all of them at once"
    most = videos * config.repeats // (4 * ranks * config.accumulate)
    batch = max(unit, min(_BATCH, most) // unit * unit)
    return batch, "usual" if batch >= _BATCH else "at least four steps an epoch"


def _epochs(config: TrainConfig, videos: int, ranks: int) -> tuple[int, str]:
    if config.overfit:
        return _OVERFIT_EPOCHS, "to memorise"
    if config.data in RENDERED_DATA:
        why = "no clip is seen twice; 20 epochs of 3,200 clips made the weights that come with the package"
        return RENDERED_EPOCHS, why
    clips, fewest, most = _FROM_WEIGHTS
    if config.start == RANDOM:
        clips, fewest, most = _CONVOLUTIONS_FROM_RANDOM if config.model == _NANO_CONV else _FROM_RANDOM
    batch = (config.batch_size or _BATCH) * config.accumulate * ranks
    of_an_epoch = max(1, videos * config.repeats // batch * batch)  # without the last few that fill no batch
    epochs = min(most, max(fewest, math.ceil(clips / of_an_epoch)))
    begin = "from random weights" if config.start == RANDOM else "from weights"
    return epochs, f"{epochs * of_an_epoch:,} clips; {begin} about {clips:,} are wanted, in {fewest} to {most} epochs"


def _about_classes(counts: Mapping[str, int], val_counts: Mapping[str, int] | None, config: TrainConfig) -> list[str]:
    """Returns lines on the number of videos of each class, with warnings."""
    smallest, largest = (choose(counts, key=lambda name: counts[name]) for choose in (min, max))
    if len(counts) <= 12:
        lines = ["videos to train on: " + ", ".join(f"{name} {count}" for name, count in counts.items())]
    else:
        few, many = f"{counts[smallest]} of {smallest!r} (fewest)", f"{counts[largest]} of {largest!r} (most)"
        lines = [f"videos to train on: {few} to {many}"]
    if config.overfit:
        return lines
    if counts[largest] > UNEVEN * counts[smallest]:
        figure = "average precision by class" if config.multi_label else "mean class accuracy"
        remedy = "" if config.class_weights else "; `class_weights=balanced` makes them count more"
        lines.append(
            f"warning: {largest!r} has {counts[largest]} videos and {smallest!r} {counts[smallest]}: small classes may "
            f"be left unlearnt: {figure}, which `dualformer evaluate` prints, tells{remedy}"
        )
    if single := [name for name, count in counts.items() if count < 2]:
        lines.append(
            f"warning: only one video to train on for {first_few(single)}: add some, or leave such classes out"
        )
    if unvalidated := [name for name, count in (val_counts or {}).items() if not count]:
        lines.append(f"warning: no validation video for {first_few(unvalidated)}: how well that goes will not be seen")
    return lines


def _about_validation(val_videos: int, config: TrainConfig) -> list[str]:
    if config.overfit or not 0 < val_videos < FEW_TO_VALIDATE:
        return []
    if config.multi_label:
        return [
            f"{val_videos} validation videos, and fewer of each class: average precision swings with every one of "
            "them, and small differences between runs mean nothing"
        ]
    return [
        f"{val_videos} validation videos tell an accuracy to about ± {100 * half_width(val_videos):.0f} points (95 %): "
        "smaller differences between runs mean nothing"
    ]
