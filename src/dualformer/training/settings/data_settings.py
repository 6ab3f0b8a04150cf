"""Settings of the data: what a run is trained on, and how it is read."""

from dataclasses import dataclass
from typing import Literal

from dualformer.datasets.samples import BACKGROUND_SHARE, VAL_FRACTION
from dualformer.training.settings.checks import more_than_zero, not_negative

RENDERED = "rendered"
"""What ``data`` calls the endless stream of rendered videos."""
RENDERED_PEOPLE = "rendered-people"
RENDERED_HANDS = "rendered-hands"
RENDERED_DATA = (RENDERED, RENDERED_PEOPLE, RENDERED_HANDS)
"""All endless streams: of shapes, of whole people, of hands close up."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Data of a run."""

    data: str = ""
    """A folder with one subfolder per class (with train/ and val/ above them, or without), a CSV (path,label,… or, of
    segments of long videos, path,start,end,label), segments that another program wrote (its file, or segments:FOLDER of
    several), a benchmark as downloaded (kinetics400:PATH, kinetics600:, kinetics700:, ucf101:, ucf101@2: for split 2,
    hmdb51:, diving48:, ssv2:, list: for files of "path label"), a data set of another program (Parquet, LeRobot, …; its
    columns are named as in columns@label=NAME,video=NAME:PATH), shards (their folder or URL), or "rendered": an endless
    stream of rendered videos, from plain to hard, with the truth about what moves where; likewise "rendered-people",
    and "rendered-hands" as the camera of who moves them sees them. Not needed to resume, unless the data has moved."""
    train_on: str | None = None
    """Rows of a CSV to train on, as in batch=A,C (default: split=train, or all but a validation split). A benchmark has
    the column split, too, and a folder with train/, val/ or test/."""
    val_on: str | None = None
    """Rows of a CSV to validate on, as in batch=B (default: a stratified part of the training rows)."""
    val_fraction: float = VAL_FRACTION
    """Part of each class to validate on where the data has no split of its own."""
    group: str | None = None
    """Who is filmed, where, or in which recording: a column of the CSV, or a regular expression for names of files
    or else of their folders, as in "subject[0-9]+". Videos of one group are all trained on or all validated on. So are
    groups that share a video, by segments of it or by copies; "segment" splits inside videos."""
    background: str | None = None
    """Of segments of videos (a CSV with columns start and end): a class made of what is unmarked between them."""
    background_share: float = BACKGROUND_SHARE
    """Pieces of `background`, as a multiple of the mean number of segments a class."""
    frames_per_second: float | None = None
    """Starts and ends of segments that are whole numbers are frames at this rate (default: seconds, or 1:02.5)."""
    folds: int = 0
    """Cross-validation: deals the training videos (whole groups of them) to this many parts, trains once for each, and
    validates on that part with what was learnt from the others."""
    fold: int | None = None
    """Train for this one of the `folds` only, from 1."""
    manifest: str | None = None
    """Manifest that `dualformer check` wrote: files it calls bad are left out."""
    rendered_clips: int = 3200
    """Clips of an epoch with `data=rendered`, and with the other rendered streams."""
    motions: str | None = None
    """With `data=rendered-people`: an npz file of captured motions (joint positions) that drive half of the actions for
    which it has some."""
    overfit: int = 0
    """Sanity check: train and validate on this many videos, without augmentation; they must be memorised."""
    workers: int | None = None
    """Processes that decode (default: one less than there are cores, at most 8)."""
    cache_gb: float = 2.0
    """Memory for decoded videos, over all workers: small data sets are decoded once."""
    shard_cache: str | None = None
    """With shards at a URL: a local folder to keep them in, fetched whole (default: each video is fetched when it is
    read)."""
    shard_cache_gb: float = 50.0
    """Room that they may take there; the ones used last are kept."""
    shuffle: Literal["samples", "shards"] | None = None
    """Order of an epoch over shards: samples mixes all videos, as with files; shards goes through 16 shards at a time
    (default: shards with `shard_cache`, else samples)."""

    def check_data(self) -> None:
        more_than_zero(self, "rendered_clips", "background_share")
        if self.frames_per_second is not None and not self.frames_per_second > 0:
            raise ValueError(f"`frames_per_second` must be positive, not {self.frames_per_second}")
        not_negative(self, "overfit", "workers", "cache_gb", "folds")
        if self.background_share != BACKGROUND_SHARE and not self.background:
            raise ValueError("`background_share` is of the pieces of `background`: name that, or leave it out")
        for name, what in (
            ("background", "is for segments of videos, and `data={}` has none"),
            ("frames_per_second", "is for segments of videos, and `data={}` has none"),
            ("group", "keeps videos together, and `data={}` never shows one twice"),
            ("folds", "deals videos to parts, and `data={}` never shows one twice"),
        ):
            if self.data in RENDERED_DATA and getattr(self, name):
                raise ValueError(f"`{name}` {what.format(self.data)}: leave it out")
        if self.folds == 1:
            raise ValueError("`folds=1` leaves nothing to train on: folds are 2 or more")
        if self.fold is not None and not 1 <= self.fold <= self.folds:
            raise ValueError(f"`fold={self.fold}` is none of the folds from 1 to `folds={self.folds}`")
        if self.motions and self.data not in ("", RENDERED_PEOPLE):
            raise ValueError(f"`motions` drive people with `data={RENDERED_PEOPLE}`, not {self.data}: leave them out")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"`val_fraction` must lie between 0 and 1, not {self.val_fraction}")
