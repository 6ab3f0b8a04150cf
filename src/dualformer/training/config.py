"""Everything that a training run is told, in one frozen dataclass: the command line's options and the Python API's."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dualformer.weights.atomic import atomic_write

RENDERED = "rendered"
"""What ``data`` calls the endless stream of rendered videos."""

#: Class names after which mirroring a video may make it another class.
_SIDED = re.compile(r"(?<![a-z])(left|right|clockwise|counterclockwise|cw|ccw)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run. `resolved` fills in what is left open; the result is written beside the run and read again by resume."""

    data: str = ""
    """A folder with one subfolder per class (with train/ and val/ above them, or without), a CSV (path,label,…), or
    "rendered": an endless stream of rendered videos, from plain to hard, with the truth about what moves where.
    Not needed to resume, unless the data has moved."""
    out: str = "runs/train"
    """Folder of the run: config.json, metrics.jsonl, curves.png, best and last weights, checkpoint."""
    resume: bool = False
    """Go on with the run in --out where it stopped, to the same bits."""
    train_on: str | None = None
    """Rows of a CSV to train on, as in batch=A,C (default: split=train, or all but a validation split)."""
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
    flip: Literal["on", "off"] | None = None
    """Mirror half of the training clips. Say off where left and right differ. (default: on, unless class names speak of
    left and right: then it must be said.)"""
    min_area: float = 0.08
    """Smallest part of the frame that a random crop may take; 1 trains on centre crops."""
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
        )
        for name in (*positive, "backbone_lr", "save_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"--{name.replace('_', '-')} must be more than 0, not {value}")
        for name in ("overfit", "weight_decay", "warmup_epochs", "clip_grad", "workers", "cache_gb"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"--{name.replace('_', '-')} must be 0 or more, not {value}")
        rates = (("drop_path", 0, 1), ("dropout", 0, 1), ("min_area", 0.01, 1.01), ("layer_decay", 0.01, 1.01))
        for name, low, high in rates:
            if not low <= getattr(self, name) < high:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must lie between 0 and 1")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"--val-fraction must lie between 0 and 1, not {self.val_fraction}")
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"--warmup-epochs {self.warmup_epochs} leaves nothing of --epochs {self.epochs}")

    def flip_for(self, classes: tuple[str, ...]) -> Literal["on", "off"]:
        """The flip setting for these classes; ``ValueError`` where it must be said and was not."""
        if self.flip is not None:
            return self.flip
        if sided := [name for name in classes if _SIDED.search(name.replace("_", " "))]:
            raise ValueError(
                f"class {sided[0]!r} sounds as if left and right differ; say --flip off if they do (a mirrored video "
                "belongs to another class), --flip on if not"
            )
        return "on"

    def replace(self, **changes: Any) -> TrainConfig:
        return dataclasses.replace(self, **changes)

    def save(self, path: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        atomic_write(path, lambda temporary: temporary.write_text(text))

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        data = json.loads(path.read_text())
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(data, Mapping) or set(data) - known:
            raise ValueError(f"{path} is not the config of a training run of this version; start a new run elsewhere")
        return cls(**data)
