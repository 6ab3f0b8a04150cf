"""Opens the source of a run's clips: rendered ones, those of files, or windows of recordings for a temporal head."""

import hashlib
from collections.abc import Sequence

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.window_clips import WindowClips, WindowViews, count_places, measure_recordings
from dualformer.plurals import counted
from dualformer.segment import BACKGROUND
from dualformer.training.settings.data_settings import RENDERED_DATA
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import RunClips, Source, file_source, open_files, rendered_source
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import Views
from dualformer.video.preprocessing import Preprocessing

_UNMARKED = 0.01
"""The share of the recordings' time from which on moments in which nothing is marked are a class."""


def open_source(config: TrainConfig) -> Source:
    """Opens the source that ``config.data`` names, of windows if ``config.head`` is temporal. Errors: as `open_splits`,
    and ``ValueError`` for data without segments where the head needs them."""
    if config.data in RENDERED_DATA:
        _refuse_temporal(config)
        return rendered_source(config)
    splits = open_files(config)
    _refuse_temporal(config)
    return file_source(config, splits)


def _refuse_temporal(config: TrainConfig) -> None:
    if config.head == "temporal":
        raise ValueError(
            f"`head=temporal` learns what happens when, and {config.data} does not say it: give data with segments "
            "(path,start,end,label), or leave `head` out"
        )


def window_source(
    config: TrainConfig, train: Sequence[AnnotatedVideo], val: Sequence[AnnotatedVideo], classes: Sequence[str]
) -> Source:
    """Returns windows anywhere in the recordings ``train``, as many an epoch as these have segments, and windows that
    cover ``val``.

    With one label at a time, `BACKGROUND` is a class where moments are unmarked. Errors: ``ValueError`` for settings
    that a head of moments does not go with, and as `open_video`.
    """
    _check_settings(config)
    train, val = measure_recordings(train), measure_recordings(val)
    seconds, total = _marked_seconds(train, classes), sum(video.seconds or 0.0 for video in train)
    unmarked = max(0.0, total - _covered_seconds(train))
    classes = tuple(classes)
    if not config.multi_label and BACKGROUND not in classes and unmarked > _UNMARKED * total:
        classes, seconds = (*classes, BACKGROUND), seconds | {BACKGROUND: unmarked}
    counts, val_counts = (_count(videos, classes) for videos in (train, val))
    size = count_places(train)

    def clips(pre: Preprocessing, augmentation: Augmentation, mirrored: tuple[int, ...] | None, _: Views) -> RunClips:
        windows = WindowClips(train, pre, classes, seed=config.seed, augmentation=augmentation, mirrored=mirrored)
        views = WindowViews(val, pre, classes)
        return RunClips(
            train=windows,
            val=views,
            keep_val=len(views) * pre.frames * pre.crop**2 * 3 <= config.cache_gb * 1e9 / 4,
            size=size,
            name=lambda index: str(train[index].path),
        )

    marked = sum(map(len, (video.segments for video in train)))
    return Source(
        classes=classes,
        clips=clips,
        size=size,
        val_size=sum(val_counts.values()),
        description=f"{config.data}: {len(classes)} classes at every moment of {counted(len(train), 'recording')} "
        f"({total / 60:.0f} min, {counted(marked, 'segment')}, {unmarked / total:.0%} of the time unmarked); {size} "
        f"windows an epoch, and those that cover {counted(len(val), 'recording')} to validate on",
        counts=counts,
        val_counts=val_counts,
        seconds=seconds,
        fingerprint=_hash(train, val, classes),
        videos=tuple(video.path for video in train),
        has_steps=True,
    )


def _check_settings(config: TrainConfig) -> None:
    for name, given in (
        ("mixup", config.mixup),
        ("cutmix", config.cutmix),
        ("overfit", config.overfit),
        ("teacher", config.teacher),
        ("teacher_scores", config.teacher_scores),
    ):
        if given:
            raise ValueError(f"`head=temporal` learns from the truth of every moment: leave `{name}` out")
    if config.sampling == "segments":
        raise ValueError("`head=temporal` has moments that follow one another evenly: leave `sampling=segments` out")


def _marked_seconds(videos: Sequence[AnnotatedVideo], classes: Sequence[str]) -> dict[str, float]:
    """Returns for how long each class is marked; a thousandth of a second at least, as for moments."""
    found = dict.fromkeys(classes, 0.0)
    for video in videos:
        for segment in video.segments:
            if segment.label in found:
                found[segment.label] += max(1e-3, segment.end - segment.start)
    return found


def _covered_seconds(videos: Sequence[AnnotatedVideo]) -> float:
    """Returns for how long anything is marked."""
    covered = 0.0
    for video in videos:
        until = 0.0
        for segment in sorted(video.segments, key=lambda each: each.start):
            covered += max(0.0, min(segment.end, video.seconds or segment.end) - max(segment.start, until))
            until = max(until, segment.end)
    return covered


def _count(videos: Sequence[AnnotatedVideo], classes: Sequence[str]) -> dict[str, int]:
    """Returns how many segments there are of each class; of the background, how many recordings."""
    labels = [segment.label for video in videos for segment in video.segments]
    return {name: labels.count(name) if name in labels or name != BACKGROUND else len(videos) for name in classes}


def _hash(train: Sequence[AnnotatedVideo], val: Sequence[AnnotatedVideo], classes: Sequence[str]) -> str:
    """Returns a fingerprint of classes, names of recordings and their segments."""
    digest = hashlib.sha256(repr(classes).encode())
    for videos in (train, val):
        for video in videos:
            segments = [(each.label, each.start, each.end) for each in video.segments]
            digest.update(f"{video.path.name}\0{segments}\n".encode("utf-8", "surrogateescape"))
        digest.update(b"--")
    return f"windows {digest.hexdigest()[:16]}"
