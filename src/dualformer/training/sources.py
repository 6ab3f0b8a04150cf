"""Sources of training and validation clips: labelled files, or an endless stream of rendered videos."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dualformer.datasets.clip_datasets import TrainingClips, ViewClips
from dualformer.datasets.groups import group_pattern, name_same_recordings, suspected_groups
from dualformer.datasets.rendered import ALL, PLACES, Difficulty, RenderedClips, Scene
from dualformer.datasets.rendered_people.bodies import PARTS
from dualformer.datasets.rendered_people.clips import PeopleClips
from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
from dualformer.datasets.rendered_people.scene import PeopleScene
from dualformer.datasets.row_filter import parse_row_filter
from dualformer.datasets.samples import ArchivedSample, VideoList, check_class_names, first_few, name_of
from dualformer.datasets.shards.shard_order import LANES, ShardOrder, needed_cache_bytes, remote_shards
from dualformer.datasets.shards.shard_prefetch import PrefetchedShards
from dualformer.datasets.shards.storage import ShardCache
from dualformer.datasets.splits import Splits, open_splits, read_bad_videos
from dualformer.plurals import counted
from dualformer.training.settings.data_settings import RENDERED, RENDERED_HANDS, RENDERED_PEOPLE
from dualformer.training.settings.train_config import TrainConfig
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import Views
from dualformer.video.container import VideoError
from dualformer.video.file_slices import is_frame_folder
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.video_segment import Footage

Clips = Dataset[dict[str, Any]]
AnyDifficulty = TypeVar("AnyDifficulty", Difficulty, PeopleDifficulty)


@dataclass(frozen=True, kw_only=True)
class RunClips:
    """The clips that a run is trained and validated on."""

    train: Clips
    """Indexed by (epoch, number): ``clip`` T H W 3 uint8 and ``label``."""
    val: Clips
    """Indexed by number: ``views`` V T H W 3 uint8 and ``label``."""
    keep_val: bool = False
    """Whether they are few enough to stay in memory, once read."""
    size: int
    """Clips of an epoch, but for repeats."""
    order: Callable[[int], NDArray[np.int64]] | None = None
    """The order of an epoch's clips, as `EpochSampler` takes it."""
    shards: PrefetchedShards | None = None
    """What the training clips lie in, where shards are fetched whole."""
    name: Callable[[int], str] | None = None
    """The video that the ``index`` of a training clip stands for."""


class VideoShape(NamedTuple):
    """How long and how wide a video is."""

    frames: int
    seconds: float | None
    """None of frames without a rate."""
    aspect: float
    """Width over height."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Classes, and data sets of clips of them."""

    classes: tuple[str, ...]
    clips: Callable[[Preprocessing, Augmentation, tuple[int, ...] | None, Views], RunClips]
    """Makes the data sets of these labels of mirrored clips, as `TrainingClips` takes them, and validation views."""
    size: int
    """Clips of an epoch; of files, how many there are."""
    val_size: int
    several_views: bool = False
    """Whether more views of the validation videos tell more: not of images and rendered clips."""
    description: str
    counts: Mapping[str, int] | None = None
    """Of files, videos of each class to train on."""
    val_counts: Mapping[str, int] | None = None
    fingerprint: str
    """Equal for equal classes and clips."""
    videos: tuple[Footage, ...] = ()
    """Of files: those to train on."""
    splits: Splits | None = None
    """Of files: which are trained and validated on. Shards keep that themselves."""
    shuffle: Literal["samples", "shards"] | None = None
    """How an epoch goes through shards."""
    measure: Callable[[], list[VideoShape]] | None = None
    """Of files: measures some of those to train on."""
    warnings: tuple[str, ...] = ()
    """What is wrong with how train and val were told apart."""
    seconds: Mapping[str, float] | None = None
    """Of recordings whose every moment is learnt: for how long each class is seen."""
    has_steps: bool = False
    """Clips bring what is true at each of their steps in time."""
    has_truth: bool = False
    """Clips bring the renderer's ``moving`` and ``velocity`` along."""
    maps: Mapping[str, int] = field(default_factory=dict)
    """What else they bring of every cell by name, T h w, and of how many classes that is; class 0 is nothing."""


def open_files(config: TrainConfig) -> Splits:
    """Opens labelled files of a folder, a CSV or a benchmark. Errors: as `open_splits`."""
    bad = read_bad_videos(config.manifest) if config.manifest else ()
    splits = open_splits(
        config.data,
        train_on=parse_row_filter(config.train_on) if config.train_on else None,
        val_on=parse_row_filter(config.val_on) if config.val_on else None,
        val_fraction=config.val_fraction,
        seed=config.seed,
        bad=bad,
        cache=ShardCache.parse(config.shard_cache, config.shard_cache_gb),
        multi_label=config.multi_label,
        group=config.group,
        fold=config.fold or 0,
        folds=config.folds,
        background=config.background,
        background_share=config.background_share,
        frames_per_second=config.frames_per_second,
    )
    if not config.resume:
        check_class_names(splits.train.classes, str(config.data))
    return splits


def file_source(config: TrainConfig, splits: Splits) -> Source:
    """Returns the source of the labelled files that `open_files` has opened."""
    shuffle, reading = _how_to_read(config, splits.train)
    if config.overfit:
        chosen = _spread(splits.train, config.overfit)
        same = f"the same {len(chosen)} {chosen.kind} to train and validate on"
        splits = replace(splits, train=chosen, val=chosen, description=same, overlapping=True)

    def clips(
        pre: Preprocessing, augmentation: Augmentation, mirrored: tuple[int, ...] | None, views: Views
    ) -> RunClips:
        cache = int(config.cache_gb * 1e9)
        of_val = len(splits.val) * views.count * pre.frames * pre.crop**2 * 3
        keep_val = of_val <= cache // 4
        cache -= of_val if keep_val else 0
        return RunClips(
            train=TrainingClips(
                splits.train, pre, seed=config.seed, augmentation=augmentation, mirrored=mirrored, cache_bytes=cache
            ),
            val=ViewClips(splits.val, pre, clips=views.clips, crops=views.crops),
            keep_val=keep_val,
            size=len(splits.train),
            order=ShardOrder.of(splits.train, config.seed) if shuffle == "shards" else None,
            shards=PrefetchedShards.of(splits.train, by_shard=shuffle == "shards"),
            name=lambda index: str(splits.train.samples[index].path),
        )

    counts = list(splits.train.counts().values())
    spread = f"{min(counts)} to {max(counts)}" if min(counts) != max(counts) else f"{counts[0]}"
    left_out = (
        f"; {counted(splits.left_out.count, 'bad file')} of {config.manifest} left out" if splits.left_out else ""
    )
    return Source(
        classes=splits.train.classes,
        clips=clips,
        size=len(splits.train),
        val_size=len(splits.val),
        several_views=splits.val.kind != "images",
        counts=splits.train.counts(),
        val_counts=splits.val.counts(),
        description=f"{config.data}: {len(splits.train.classes)} classes, "
        f"{len(splits.train)} {splits.train.kind} to train on ({spread} a class), {len(splits.val)} to validate on; "
        f"{splits.description}{left_out}; manifest {splits.train.manifest_hash} (equal for equal data){reading}",
        fingerprint=_hash(splits) + (" by shards" if shuffle == "shards" else ""),
        videos=tuple(sample.file for sample in splits.train.samples),
        splits=None if shuffle else splits,
        shuffle=shuffle,
        measure=lambda: _measure(splits.train),
        warnings=(*_split_warnings(splits, config), *_manifest_warnings(splits)),
    )


def _measure(videos: VideoList) -> list[VideoShape]:
    """Measures some of the videos, evenly chosen; those that cannot be read are left out here, and told later."""
    found: list[VideoShape] = []
    for index in np.unique(np.linspace(0, len(videos) - 1, _MEASURED).round().astype(int)):
        sample = videos.samples[index]
        with suppress(VideoError), open_video(sample.file, threads=1, fps=sample.fps) as reader:
            rated = not is_frame_folder(sample.recording) or sample.fps
            _, frame = next(iter(reader.frames(np.zeros(1, dtype=np.int64))))
            count, seconds = len(reader), float(reader.times[-1])
            lasts = seconds * count / max(1, count - 1) if rated else None
            found.append(VideoShape(count, lasts, frame.shape[1] / frame.shape[0]))
    return found


def _split_warnings(splits: Splits, config: TrainConfig) -> tuple[str, ...]:
    """Warns where names tell of recordings: in several files, or on both sides of a split that was drawn."""
    warnings: list[str] = []
    together = replace(splits.train, samples=(*splits.train.samples, *splits.val.samples), missing=())
    if (same := name_same_recordings(together)) and not config.overfit:
        warnings.append(
            f"warning: {counted(len(same), 'name is', 'names are')} of several files ({first_few(same)}), which are "
            "taken for one recording: a split that is drawn keeps it on one side; leave one file of each"
        )
    if together.kind == "segments":
        sides = [{sample.origin for sample in part.samples} for part in (splits.train, splits.val)]
        if (both := sorted(sides[0] & sides[1])) and not config.overfit:
            shown = first_few(name_of(path) for path in both)
            warnings.append(
                f"warning: {counted(len(both), 'video has', 'videos have')} segments in train and in val ({shown}): "
                "the accuracy then promises too much for other videos"
            )
        return tuple(warnings)
    found = suspected_groups(together)
    common = sorted(set(found[: len(splits.train)]) & set(found[len(splits.train) :]) - {""})
    if common and not config.overfit:
        by = f" by `group={config.group}`" if config.group else ""
        warnings.append(
            f"warning: names look like recordings or people, and {len(common)} of them ({first_few(common)}) are in "
            f"train and in val{by}: the accuracy then promises too much for videos of others; "
            f"`group={group_pattern(found)}` keeps each on one side"
        )
    return tuple(warnings)


def _manifest_warnings(splits: Splits) -> tuple[str, ...]:
    return (splits.left_out.warning,) if splits.left_out and splits.left_out.strange else ()


def _how_to_read(config: TrainConfig, videos: VideoList) -> tuple[Literal["samples", "shards"] | None, str]:
    """Returns how an epoch goes through shards (None: the data are no shards), and that in words."""
    packed = any(isinstance(sample, ArchivedSample) for sample in videos.samples)
    remote = remote_shards(videos)
    if config.shuffle == "shards" and not packed:
        raise ValueError(f"`shuffle=shards` is for shards, and {config.data} is none: see dualformer shards --help")
    if config.shard_cache and not remote:
        raise ValueError(f"`shard_cache` is for shards at a URL, and {config.data} is here already: leave it out")
    if not packed:
        return None, ""
    shuffle = config.shuffle or ("shards" if config.shard_cache else "samples")
    if config.shard_cache and config.shard_cache_gb * 1e9 < (needed := needed_cache_bytes(videos, shuffle)):
        remedy = " or say `shuffle=shards`" if shuffle == "samples" else ""
        raise ValueError(
            f"`shard_cache_gb={config.shard_cache_gb:g}` makes every epoch fetch shards again and again: allow "
            f"{needed / 1e9:.1f}{remedy}"
        )
    mixed = "all videos mixed" if shuffle == "samples" else f"{LANES} shards at a time"
    where = f", shards kept in {config.shard_cache}" if config.shard_cache else ", video by video" if remote else ""
    return shuffle, f"; an epoch is read {mixed}{where}"


def _hardest_at_once(_: float) -> float:
    return 1.0


def _hardest_half_way(part: float) -> float:
    return min(1.0, 0.1 + 1.8 * part)


def rendered_source(config: TrainConfig) -> Source:
    """Makes rendered videos, every one new, from plain to hard over the run, with the truth about what they show;
    for clips of one frame pictures of shapes, with the truth about where the actor is."""
    data = config.data
    if config.frames is None or config.size is None:
        raise ValueError(f"`data={data}` needs to know what to render: give `frames` and `size`")
    length, epochs = config.rendered_clips, config.epochs or RENDERED_EPOCHS
    if data == RENDERED:
        maps: dict[str, int] = {}
        classes, things = (PLACES, "pictures") if config.frames == 1 else (ALL, "videos")
    else:
        scene = _people(config, config.size, config.frames)
        classes, things = scene.classes, "people" if data == RENDERED_PEOPLE else "hands"
        maps = {"part": len(PARTS) + 1, "action": len(scene.action_names) + 1}

    def clips(pre: Preprocessing, augmentation: Augmentation, _: tuple[int, ...] | None, views: Views) -> RunClips:
        if augmentation.flip:
            why = "has classes named right and left" if data == RENDERED else "knows what moves where to"
            raise ValueError(f"`data={data}` {why}: give `flip=off`")
        if views.count > 1:
            raise ValueError(f"`val_views={views}`: with `data={data}` a validation video is one clip: leave it out")
        mixes = config.mixup or config.cutmix or config.repeats > 1
        if mixes or augmentation != Augmentation(flip=0.0, area=augmentation.area):
            raise ValueError(
                f"`data={data}` never shows a clip twice and knows what moves where in it: of the options that change "
                "clips and batches it takes `label_smoothing` only"
            )

        def render(count: int, seed: int, hardest: Callable[[float], float]) -> Clips:
            if data == RENDERED:
                difficulty = Curriculum(count, seed=seed, hardest=hardest, at=Difficulty.at)
                return RenderedClips(_scene(pre), count, seed=seed, frames=pre.frames, difficulty=difficulty)
            difficulty = Curriculum(count, seed=seed, hardest=hardest, at=PeopleDifficulty.at)
            return PeopleClips(_people(config, pre.crop, pre.frames), count, seed=seed, difficulty=difficulty)

        # Another seed than any training clip's: theirs is the run's, and never negative.
        val = render(_VALIDATION_CLIPS, _VALIDATION_SEED, _hardest_at_once)
        train = render(epochs * length, config.seed, _hardest_half_way)
        return RunClips(train=FreshClips(train, length), val=OneView(val, _VALIDATION_CLIPS), size=length)

    if config.seed == _VALIDATION_SEED:
        raise ValueError(f"`seed={_VALIDATION_SEED}` is the validation clips' own; choose another")
    driven = f", driven by {config.motions}" if config.motions else ""
    return Source(
        classes=classes,
        clips=clips,
        size=length,
        val_size=_VALIDATION_CLIPS,
        description=f"rendered {things}: {len(classes)} classes, {length} new clips an epoch, from plain to hard"
        f"{driven}",
        fingerprint=f"{data} {length}{driven}",
        has_truth=True,
        maps=maps,
    )


RENDERED_EPOCHS = 20
"""Where nobody says how many: as for the weights that come with the package."""
_VALIDATION_SEED = 2**31 - 1
_VALIDATION_CLIPS = 320
_MEASURED = 32


@dataclass(frozen=True)
class Curriculum(Generic[AnyDifficulty]):
    """Difficulty of clip ``i`` of ``length``: anything from plain up to ``hardest(i / length)``, as ``at``."""

    length: int
    seed: int
    hardest: Callable[[float], float]
    at: Callable[[float], AnyDifficulty]

    def __call__(self, i: int) -> AnyDifficulty:
        draw = torch.rand((), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + i)).item()
        return self.at(draw * self.hardest(i / self.length))


class FreshClips(Dataset[dict[str, Tensor]]):
    """Clips by (epoch, number), of ``length`` an epoch, for a run that never shows a clip twice."""

    def __init__(self, clips: Clips, length: int) -> None:
        self.clips, self.length = clips, length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, number = key
        return self.clips[epoch * self.length + number]


class OneView(Dataset[dict[str, Tensor]]):
    """Each of ``length`` clips as its only test view."""

    def __init__(self, clips: Clips, length: int) -> None:
        self.clips, self.length = clips, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = self.clips[index]
        return {"views": item["clip"][None], "label": item["label"]}


def _scene(pre: Preprocessing) -> Scene:
    if pre.frames == 1:
        return Scene(size=pre.crop, frames=1, classes=PLACES)
    return Scene(size=pre.crop, frames=pre.frames * pre.stride, classes=ALL, wrap=True)


def _people(config: TrainConfig, size: int, frames: int) -> PeopleScene:
    if config.data == RENDERED_HANDS:
        return PeopleScene(size=size, frames=frames, view="hands")
    return PeopleScene(size=size, frames=frames, motions=config.motions)


def _spread(videos: VideoList, count: int) -> VideoList:
    """Returns ``count`` videos, the classes in turn."""
    by_class: dict[int, list[int]] = {}
    for index, sample in enumerate(videos.samples):
        for label in sample.labels:
            by_class.setdefault(label, []).append(index)
    turns: dict[int, int] = {}
    for members in by_class.values():
        for turn, i in enumerate(members):
            turns[i] = min(turn, turns.get(i, turn))
    order = sorted(turns, key=lambda i: (turns[i], videos.samples[i].label))
    return videos.subset(sorted(order[:count]))


def _hash(splits: Splits) -> str:
    """Returns a fingerprint of classes, file names and labels of both splits."""
    digest = hashlib.sha256(repr(splits.train.classes).encode())
    for videos in (splits.train, splits.val):
        for sample in videos.samples:
            digest.update(f"{sample.name}\0{','.join(map(str, sample.labels))}\n".encode("utf-8", "surrogateescape"))
        digest.update(b"--")
    return digest.hexdigest()[:16]
