"""Everything that a training run is told, in one frozen dataclass: the command line's options and the Python API's."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dualformer.datasets.mirror import mirrored_labels, read_flip_map
from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.weights.atomic import atomic_write

RENDERED = "rendered"
"""What ``data`` calls the endless stream of rendered videos."""

#: Class names after which mirroring a video may make it another class.
_SIDED = re.compile(r"(?<![a-z])(left|right|clockwise|counterclockwise|cw|ccw)(?![a-z])", re.IGNORECASE)

Flip = Literal["on", "off", "swap"]

_MIN_AREA = 0.08
_PLAIN: dict[str, Any] = {
    "flip": "off",
    "flip_map": None,
    "min_area": 1.0,
    "scale_jitter": None,
    "colour_jitter": 0.0,
    "randaugment": None,
    "erasing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "mix_prob": 1.0,
    "switch_prob": 0.5,
    "label_smoothing": 0.0,
    "repeats": 1,
}
"""Settings that show every clip as it is."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run. `resolved` fills in what is left open; the result is written beside the run and read again by resume."""

    data: str = ""
    """A folder with one subfolder per class (with train/ and val/ above them, or without), a CSV (path,label,…), a
    benchmark as downloaded (kinetics400:PATH, kinetics600:, kinetics700:, ucf101:, ucf101@2: for split 2, hmdb51:,
    diving48:, ssv2:, list: for files of "path label"), shards (their folder or URL), or "rendered": an endless stream
    of rendered videos, from plain to hard, with the truth about what moves where. Not needed to resume, unless the data
    has moved."""
    out: str = "runs/train"
    """Folder of the run: config.json, clips.png, metrics.jsonl, curves.png, best and last weights, checkpoint."""
    resume: bool = False
    """Go on with the run in --out where it stopped, to the same bits."""
    train_on: str | None = None
    """Rows of a CSV to train on, as in batch=A,C (default: split=train, or all but a validation split). A benchmark has
    the column split, too."""
    val_on: str | None = None
    """Rows of a CSV to validate on, as in batch=B (default: a stratified part of the training rows)."""
    val_fraction: float = 0.2
    """Part of each class to validate on where the data has no split of its own."""
    manifest: str | None = None
    """Manifest that `dualformer check` wrote: files it calls bad are left out."""
    rendered_clips: int = 3200
    """Clips of an epoch with --data rendered."""
    overfit: int = 0
    """Sanity check: train and validate on this many videos, without augmentation; they must be memorised."""

    model: str | None = None
    """Preset: dualformer_nano, _tiny, _small or _base (default: that of --from, else nano)."""
    start: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Weights to start from: a file, a hub id, or "rendered" (nano, trained on rendered videos and shipped with the
    package). Default: random."""
    frames: int | None = None
    """Frames of a clip (default: the starting weights', else 16 for nano and 32 for the others)."""
    stride: int | None = None
    """Frames of the video from one frame of the clip to the next (default: the starting weights', else 2)."""
    fps: float | None = None
    """Count the stride in frames of a video resampled to this rate, instead of in the file's own frames."""
    size: int | None = None
    """Side of the model's square input in pixels (default: the starting weights', else 112 for nano and 224 for the
    others)."""

    epochs: int = 30
    batch_size: int = 16
    accumulate: int = 1
    """Batches whose gradients are added before a step."""
    lr: float = 1e-3
    """Peak learning rate of the classifier at the paper's batch of 64, and of everything when starting at random; it is
    not scaled with the batch."""
    backbone_lr: float | None = None
    """Factor on the learning rate for all but the classifier (default: 0.1, as in the paper, when starting from
    weights, else 1)."""
    layer_decay: float = 1.0
    """Factor on the learning rate from each block to the one before it; 1 leaves all blocks at one rate, 0.75 is usual
    for fine-tuning."""
    weight_decay: float = 0.02
    warmup_epochs: float | None = None
    """Epochs of linear warm-up before the cosine (default: a twelfth of the run, as in the paper)."""
    drop_path: float = 0.1
    dropout: float = 0.5
    clip_grad: float = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    flip: Flip | None = None
    """Mirror half of the training clips. Say off where left and right differ, or swap to give a mirrored clip the label
    that --flip-map says. (default: on, unless class names speak of left and right: then it must be said.)"""
    flip_map: str | None = None
    """For --flip swap: a CSV (class,mirrored) or JSON file that says which class becomes which, as in left,right; an
    empty field where a class becomes none and is not to be mirrored. Classes that are not in it do not change."""
    min_area: float = _MIN_AREA
    """Smallest part of the frame that a random crop may take; 1 trains on centre crops."""
    scale_jitter: str | None = None
    """In place of such crops, square ones out of frames whose short side is resized to a range of pixels, as in
    256-320."""
    colour_jitter: float = 0.0
    """Change brightness, contrast and saturation of each clip by up to this part; 0.4 is usual."""
    randaugment: str | None = None
    """RandAugment, magnitude (0 to 10) x operations, as in 9x2; 7x4x0.5 lets the magnitude vary with a standard
    deviation of 0.5."""
    erasing: float = 0.0
    """Put noise in place of a random box, the same in all frames, in this part of the clips; 0.25 is usual."""
    mixup: float = 0.0
    """Lay two clips of a batch over one another and mix their labels; the parts come from a beta distribution with this
    parameter. 0.8 is usual."""
    cutmix: float = 0.0
    """Put a box of another clip into each and mix the labels by area, with a parameter as that of --mixup; 1 is usual.
    With both, each batch gets one of them."""
    mix_prob: float = 1.0
    """Part of the batches that --mixup and --cutmix mix."""
    switch_prob: float = 0.5
    """Part of the mixed batches that get CutMix, where --mixup is on as well."""
    label_smoothing: float = 0.0
    """Part of every label that is spread over all classes; 0.1 is usual."""
    repeats: int = 1
    """Clips of each video in its batch, each drawn anew. An epoch has that many times the clips: lower --epochs."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto takes bfloat16 where a short measurement finds it faster, and says so."""
    grad_checkpointing: bool = False
    """Keep less of the forward pass and compute it again for the gradients: much less memory, more time."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    licence: str = ""
    """Terms of use to write into the weights, an SPDX identifier where there is one."""
    seed: int = 0
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
    (default: shards with --shard-cache, else samples)."""
    max_steps: int | None = None
    """Stop after this many optimizer steps of the schedule, to try things out."""
    save_minutes: float = 5.0
    """Save a checkpoint this often, besides at the end of every epoch."""

    def __post_init__(self) -> None:
        if not self.data and not self.resume:
            raise ValueError("--data is missing: name a folder with one subfolder per class, or a CSV (path,label,…)")
        positive = (
            "epochs",
            "rendered_clips",
            "batch_size",
            "accumulate",
            "lr",
            "frames",
            "stride",
            "fps",
            "size",
            "max_steps",
            "repeats",
        )
        for name in (*positive, "backbone_lr", "save_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"--{name.replace('_', '-')} must be more than 0, not {value}")
        not_negative = ("overfit", "weight_decay", "warmup_epochs", "clip_grad", "workers", "cache_gb")
        for name in (*not_negative, "mixup", "cutmix"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"--{name.replace('_', '-')} must be 0 or more, not {value}")
        rates = (("drop_path", 0, 1), ("dropout", 0, 1), ("min_area", 0.01, 1.01), ("layer_decay", 0.01, 1.01))
        rates += (("colour_jitter", 0, 1.01), ("erasing", 0, 1.01), ("label_smoothing", 0, 1))
        rates += (("mix_prob", 0.001, 1.01), ("switch_prob", 0, 1.01))
        for name, low, high in rates:
            if not low <= getattr(self, name) < high:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must lie between 0 and 1")
        self._check_augmentation()
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"--val-fraction must lie between 0 and 1, not {self.val_fraction}")
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"--warmup-epochs {self.warmup_epochs} leaves nothing of --epochs {self.epochs}")

    def _check_augmentation(self) -> None:
        if (self.flip == "swap") != (self.flip_map is not None):
            raise ValueError(
                "--flip swap needs a --flip-map that says which class becomes which"
                if self.flip == "swap"
                else "--flip-map does nothing without --flip swap"
            )
        if self.scale_jitter and self.min_area != _MIN_AREA:
            raise ValueError("--scale-jitter takes the place of --min-area: give one of them")
        if not (self.mixup or self.cutmix) and self.mix_prob != 1:
            raise ValueError("--mix-prob does nothing without --mixup or --cutmix")
        if not (self.mixup and self.cutmix) and self.switch_prob != 0.5:
            raise ValueError("--switch-prob chooses between --mixup and --cutmix: give both")
        if self.randaugment:
            _named("--randaugment", RandAugment.parse, self.randaugment)
        if self.scale_jitter:
            _named("--scale-jitter", _pixels, self.scale_jitter)

    def flip_for(self, classes: tuple[str, ...]) -> Flip:
        """The flip setting for these classes; ``ValueError`` where it must be said and was not."""
        if self.flip is not None:
            return self.flip
        if sided := _sided(classes):
            raise ValueError(
                f"class {sided[0]!r} sounds as if left and right differ; say --flip off if they do (a mirrored video "
                "belongs to another class), --flip on if not, --flip swap with a --flip-map to train on mirrored "
                "videos as that other class"
            )
        return "on"

    def augmentation(self, classes: tuple[str, ...]) -> Augmentation:
        """What is drawn for clips and batches. Errors: as `flip_for` and `read_flip_map`, and ``ValueError`` for a map
        that leaves out a class whose name speaks of left and right.
        """
        flip, mirrored = self.flip_for(classes), None
        if flip == "swap":
            assert self.flip_map is not None
            pairs = read_flip_map(self.flip_map, classes)
            if left_out := [name for name in _sided(classes) if name not in pairs]:
                raise ValueError(
                    f"--flip-map {self.flip_map}: class {left_out[0]!r} sounds as if left and right differ: say what "
                    "its mirrored videos are (the class itself, if nothing changes)"
                )
            mirrored = mirrored_labels(pairs, classes)
        return Augmentation(
            flip=0.0 if flip == "off" else 0.5,
            mirrored=mirrored,
            area=(self.min_area, 1.0),
            scale_jitter=_pixels(self.scale_jitter) if self.scale_jitter else None,
            colour_jitter=self.colour_jitter,
            randaugment=RandAugment.parse(self.randaugment) if self.randaugment else None,
            erasing=self.erasing,
            mixup=self.mixup,
            cutmix=self.cutmix,
            mix_prob=self.mix_prob,
            switch_prob=self.switch_prob,
            label_smoothing=self.label_smoothing,
            repeats=self.repeats,
        )

    def without_augmentation(self) -> TrainConfig:
        """The same run on clips as they are."""
        return self.replace(**_PLAIN)

    def replace(self, **changes: Any) -> TrainConfig:
        return dataclasses.replace(self, **changes)

    def save(self, path: Path, **found: str) -> None:
        """Writes the settings down, and besides them what was ``found`` and belongs to the result."""
        text = json.dumps(dataclasses.asdict(self) | found, indent=2) + "\n"
        atomic_write(path, lambda temporary: temporary.write_text(text))

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        data = json.loads(path.read_text())
        if isinstance(data, dict):
            data.pop("decoder", None)  # no setting
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(data, Mapping) or set(data) - known:
            raise ValueError(f"{path} is not the config of a training run of this version; start a new run elsewhere")
        return cls(**data)


def _sided(classes: tuple[str, ...]) -> list[str]:
    return [name for name in classes if _SIDED.search(name.replace("_", " "))]


def _pixels(text: str) -> tuple[int, int]:
    """Two rising numbers of pixels from text such as 256-320."""
    found = re.fullmatch(r"(\d+)-(\d+)", text.strip())
    if not found or not 0 < int(found[1]) <= int(found[2]):
        raise ValueError(f"a range of pixels is two rising numbers, as in 256-320, not {text!r}")
    return int(found[1]), int(found[2])


def _named(option: str, parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
