"""Settings of augmentation: how training clips are varied, one by one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dualformer.datasets.flip_map import mirrored_labels, read_flip_map
from dualformer.training.settings.checks import changed, up_to_one
from dualformer.video.augmentation import Augmentation, RandAugment

#: Class names after which mirroring a video may make it another class.
_SIDED = re.compile(
    r"(?<![a-z])(left|right|(counter|anti)?clockwise|rot(at(e|es|ing|ion))?|turn(s|ing)?|[a-z]*(cc|cw))(?![a-z])",
    re.IGNORECASE,
)

Flip = Literal["on", "off", "swap"]


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """Augmentation of a run."""

    flip: Flip | None = None
    """Mirror half of the training clips. Say off where left and right differ, or swap to give a mirrored clip the label
    that `flip_map` says. (default: on, unless class names speak of left and right: then it must be said.)"""
    flip_map: str | None = None
    """For `flip=swap`: a CSV (class,mirrored) or JSON file that says which class becomes which, as in left,right; an
    empty field where a class becomes none and is not to be mirrored. Classes that are not in it do not change."""
    min_area: float | None = None
    """Smallest part of the frame that a random crop may take; 1 trains on centre crops (default: 0.08, of few videos
    0.5, of padded ones 0.75)."""
    scale_jitter: str | None = None
    """In place of such crops, square ones out of frames whose short side is resized to a range of pixels, as in
    256-320."""
    colour_jitter: float = Augmentation.colour_jitter
    """Change brightness, contrast and saturation of each clip by up to this part; 0.4 is usual."""
    randaugment: str | None = None
    """RandAugment, magnitude (0 to 10) x operations, as in 9x2; 7x4x0.5 lets the magnitude vary with a standard
    deviation of 0.5; off is none (default: off, of few videos 7x2)."""
    randaugment_until: float | None = None
    """RandAugment ends after this part of the epochs; the last ones go without (default: 1, where 7x2 is proposed
    0.6)."""
    erasing: float = Augmentation.erasing
    """Put noise in place of a random box, the same in all frames, in this part of the clips; 0.25 is usual."""

    def check_augment(self) -> None:
        up_to_one(self, "min_area", low=0.01)
        up_to_one(self, "colour_jitter", "erasing")
        up_to_one(self, "randaugment_until", low=0.01)
        if (self.flip == "swap") != (self.flip_map is not None):
            raise ValueError(
                "`flip=swap` needs a `flip_map` that says which class becomes which"
                if self.flip == "swap"
                else "`flip_map` does nothing without `flip=swap`"
            )
        if self.scale_jitter and changed(self, "min_area"):
            raise ValueError("`scale_jitter` takes the place of `min_area`: give one of them")
        if self.randaugment:
            _check_text("randaugment", _randaugment, self.randaugment)
        if self.scale_jitter:
            _check_text("scale_jitter", _pixels, self.scale_jitter)

    def flip_for(self, classes: tuple[str, ...]) -> Flip:
        """The flip setting for these classes; ``ValueError`` where it must be said and was not."""
        if self.flip is not None:
            return self.flip
        if sided := _sided(classes):
            raise ValueError(
                f"class {sided[0]!r} sounds as if left and right differ; say `flip=off` if they do (a mirrored video "
                "belongs to another class), `flip=on` if not, `flip=swap` with a `flip_map` to train on mirrored "
                "videos as that other class"
            )
        return "on"

    def mirrored_labels(self, classes: tuple[str, ...]) -> tuple[int, ...] | None:
        """Returns for each class the label of its mirrored clips, -1 where they are not mirrored; None: its own.

        Errors: as `flip_for` and `read_flip_map`, and ``ValueError`` for a map that leaves out a class whose name
        speaks of left and right.
        """
        if self.flip_for(classes) != "swap":
            return None
        assert self.flip_map is not None
        pairs = read_flip_map(self.flip_map, classes)
        if left_out := [name for name in _sided(classes) if name not in pairs]:
            raise ValueError(
                f"`flip_map={self.flip_map}`: class {left_out[0]!r} sounds as if left and right differ: say what "
                "its mirrored videos are (the class itself, if nothing changes)"
            )
        return mirrored_labels(pairs, classes)

    def augmentation(self, classes: tuple[str, ...], *, epochs: int) -> Augmentation:
        """Returns what is drawn for every clip of a run of so many epochs.

        Errors: as `flip_for`, and ``ValueError`` for an end of RandAugment where there is none.
        """
        randaugment = _randaugment(self.randaugment) if self.randaugment else None
        until = 1.0 if self.randaugment_until is None else self.randaugment_until
        if self.randaugment_until is not None and randaugment is None:
            raise ValueError("`randaugment_until` ends RandAugment, which is off: give `randaugment`, or leave it out")
        return Augmentation(
            flip=0.0 if self.flip_for(classes) == "off" else 0.5,
            area=(Augmentation.area[0] if self.min_area is None else self.min_area, Augmentation.area[1]),
            scale_jitter=_pixels(self.scale_jitter) if self.scale_jitter else None,
            colour_jitter=self.colour_jitter,
            randaugment=randaugment,
            randaugment_epochs=max(1, round(until * epochs)) if until < 1 else None,
            erasing=self.erasing,
        )


def _sided(classes: tuple[str, ...]) -> list[str]:
    return [name for name in classes if _SIDED.search(name.replace("_", " "))]


def _randaugment(text: str) -> RandAugment | None:
    return None if text.strip() == "off" else RandAugment.parse(text)


def _pixels(text: str) -> tuple[int, int]:
    """Two rising numbers of pixels from text such as 256-320."""
    found = re.fullmatch(r"(\d+)-(\d+)", text.strip())
    if not found or not 0 < int(found[1]) <= int(found[2]):
        raise ValueError(f"a range of pixels is two rising numbers, as in 256-320, not {text!r}")
    return int(found[1]), int(found[2])


def _check_text(name: str, parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from error
