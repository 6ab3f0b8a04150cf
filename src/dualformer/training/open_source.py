"""Opens the source of a run's clips: rendered ones, those of files, or windows of recordings for a temporal head."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dualformer.datasets.row_filter import parse_row_filter
from dualformer.datasets.samples import DatasetError, check_class_names, ordered_classes
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.segment_list import PREFIX, read_recordings
from dualformer.datasets.segments.window_clips import WindowClips, WindowViews, count_places, measure_recordings
from dualformer.datasets.shards.read_shards import find_shards
from dualformer.datasets.split_names import names_of
from dualformer.datasets.splits import read_bad_videos
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


_TRAIN, _VAL, _TEST = names_of("train"), names_of("val"), names_of("test")
"""What files of segments call their parts."""


def open_source(config: TrainConfig) -> Source:
    """Opens the source that ``config.data`` names: of windows of recordings if ``config.head`` is temporal.

    Errors: as `open_splits`, or as `read_segments`; ``ValueError`` for data that does not say what happens when.
    """
    if config.head == "temporal":
        train, val, how = _recordings(config)
        classes = ordered_classes(segment.label for video in train for segment in video.segments)
        if not config.resume:
            check_class_names(classes, str(config.data))
        return window_source(config, train, val, classes, how=how)
    if config.data in RENDERED_DATA:
        return rendered_source(config)
    return file_source(config, open_files(config))


def _recordings(config: TrainConfig) -> tuple[list[AnnotatedVideo], list[AnnotatedVideo], str]:
    """Returns the recordings of a file of segments to train on, those to validate on, and how that was told."""
    for name in ("group", "folds"):
        if getattr(config, name):
            raise ValueError(f"`head=temporal` divides its data by whole recordings: leave `{name}` out")
    if config.background not in (None, BACKGROUND):
        raise ValueError(f"`head=temporal` calls what is unmarked {BACKGROUND}: leave `background` out")
    if find_shards(config.data):
        raise ValueError("`head=temporal` learns from whole recordings, which shards do not list: give their segments")
    path = Path(config.data.removeprefix(PREFIX)).expanduser()
    if config.data in RENDERED_DATA or not path.exists():
        raise ValueError(
            f"`head=temporal` learns what happens when, and {config.data} does not say it: give a file of segments "
            "(path,start,end,label, or another format), or leave `head` out"
        )
    bad = read_bad_videos(config.manifest) if config.manifest else ()
    videos, left_out = read_recordings(path, bad=bad, frames_per_second=config.frames_per_second)
    there = {video.split for video in videos}
    parts = [part for names in (_TRAIN, _VAL, _TEST) if (part := [name for name in names if name in there])]
    named = [*parts, [], []] if len(parts) > 1 else [[], *parts, []]  # where validation stands for train, test is val
    if parts and parts[0][0] in _TRAIN and len(parts) == 1:
        named = [parts[0], []]
    chosen = {
        "train": _splits_asked(config.train_on, "train_on") or named[0],
        "val": _splits_asked(config.val_on, "val_on") or named[1],
    }
    train = [video for video in videos if not chosen["train"] or video.split in chosen["train"]]
    val = [video for video in videos if video.split in chosen["val"]]
    if chosen["val"]:
        train = [video for video in train if video.split not in chosen["val"]]
        how = f"split by {config.data}"
    else:
        count = max(1, round(config.val_fraction * len(train)))
        order = np.random.default_rng([config.seed, len(train)]).permutation(len(train)).tolist()
        drawn = set(order[:count])
        val = [video for number, video in enumerate(train) if number in drawn]
        train = [video for number, video in enumerate(train) if number not in drawn]
        how = f"val is {config.val_fraction:.0%} of the recordings (seed {config.seed})"
    if left_out:
        how += f"; {counted(left_out.count, 'bad file')} of {config.manifest} left out{left_out.notes}"
    if not any(video.segments for video in train) or not val:
        what = "validate" if any(video.segments for video in train) else "train"
        raise DatasetError(f"{config.data}: no recording with segments to {what} on: add some, or name other splits")
    return train, val, how


def _splits_asked(rows: str | None, name: str) -> list[str]:
    """Returns the splits that a filter of rows names; none where there is none."""
    where = parse_row_filter(rows) if rows else {}
    if set(where) - {"split"}:
        raise ValueError(f"`head=temporal` chooses whole recordings by their split: say `{name}=split=train`")
    return list(where.get("split", ()))


def window_source(
    config: TrainConfig,
    train: Sequence[AnnotatedVideo],
    val: Sequence[AnnotatedVideo],
    classes: Sequence[str],
    *,
    how: str = "",
) -> Source:
    """Returns windows anywhere in the recordings ``train``, as many an epoch as these have segments, and windows that
    cover ``val``; ``how`` these were told apart, in words.

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
        f"windows an epoch, and those that cover {counted(len(val), 'recording')} to validate on"
        f"{'; ' if how else ''}{how}",
        counts=counts,
        val_counts=val_counts,
        seconds=seconds,
        fingerprint=_hash(train, val, classes),
        videos=tuple(video.path for video in train),
        warnings=_overlap_warnings(config, (*train, *val)),
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


def _overlap_warnings(config: TrainConfig, videos: Sequence[AnnotatedVideo]) -> tuple[str, ...]:
    """Warns where segments of several labels overlap, of which one label a moment learns one."""
    total = sum(segment.end - segment.start for video in videos for segment in video.segments)
    twice = total - _covered_seconds(videos)
    if config.multi_label or twice <= _UNMARKED * total:
        return ()
    return (
        f"warning: {twice / total:.0%} of what is marked overlaps, and a moment has the label that is marked the "
        "longest: `multi_label=True` learns all of them",
    )


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
