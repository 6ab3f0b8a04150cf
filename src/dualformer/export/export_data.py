"""Which clips an export is checked on, quantised on and judged on, from what the user names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualformer.datasets.samples import VAL_FRACTION, VideoList
from dualformer.datasets.splits import RowFilter, open_splits, open_videos
from dualformer.evaluation.label_matching import match_classes
from dualformer.export.calibration_clips import Clips, clips_of_files, clips_of_videos, drawn_videos, rendered_clips
from dualformer.weights.card import Card


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """``how`` tells where it comes from."""

    clips: Clips
    """Both sides are run on these."""
    calibration: Clips | None = None
    """Ranges of int8 are found on these."""
    to_judge: VideoList | None = None
    """int8 is judged on these."""
    how: str


def open_material(
    card: Card,
    *,
    int8: bool,
    data: str | None = None,
    on: RowFilter | None = None,
    bad: Collection[Path] = (),
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    label_map: Mapping[str, str] | None = None,
    videos: Sequence[Path] = (),
    clips: int = 8,
    calibration_clips: int = 128,
    accuracy_videos: int = 500,
    workers: int = 0,
) -> Material:
    """Clips of ``videos``, or else of ``data``, or else rendered ones; for ``int8`` more of ``data``.

    Of ``data``, clips to calibrate on are from the part to train on, the others from the part to validate on; ``on``
    says which that is, and without it the split is that of a training with the same ``val_fraction`` and ``seed``.
    Errors: those of `open_splits`, `open_videos` and `match_classes`; ``VideoError``; ``ValueError`` for int8 without
    ``data``.
    """
    pre = card.preprocessing
    train = val = None
    how = ""
    if int8:
        if data is None:
            raise ValueError("int8 needs data: ranges are found on it")
        splits = open_splits(
            data, val_on=on, bad=bad, val_fraction=val_fraction, seed=seed, multi_label=card.multi_label
        )
        train, val, how = splits.train, splits.val, splits.how
    elif data is not None:
        val = open_videos(data, on=on, bad=bad, multi_label=card.multi_label)
        how = val.source
    if int8 and val is not None and accuracy_videos:
        # Now, and not after minutes of quantising.
        match_classes(val.classes, card.class_names, source=val.source, label_map=label_map)
    if videos:
        shown = clips_of_files(videos, pre)
    elif val is not None:
        shown = clips_of_videos(val, pre, most=clips, seed=seed, workers=workers)
    else:
        shown = rendered_clips(pre, count=clips)
    return Material(
        clips=shown,
        calibration=clips_of_videos(train, pre, most=calibration_clips, seed=seed, workers=workers) if train else None,
        to_judge=drawn_videos(val, most=accuracy_videos, seed=seed) if int8 and val and accuracy_videos else None,
        how=how or shown.source,
    )
