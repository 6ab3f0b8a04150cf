"""The settings of augmentation, which ``pixel_augment`` and ``transforms`` carry out.

By default only the paper's are on: random resized crops, and mirroring.
"""

import re
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """``number`` operations a clip, each drawn from fifteen and done with probability one half.

    ``magnitude`` is 0 to 10, on timm's and SlowFast's scale. With ``std`` it is drawn anew for each operation, from a
    normal distribution with this standard deviation, and cut off at 0 and 10.
    """

    magnitude: float
    number: int
    std: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.magnitude <= 10:
            raise ValueError(f"the magnitude of RandAugment lies between 0 and 10, not at {self.magnitude:g}")
        if self.number < 1:
            raise ValueError(f"RandAugment takes at least 1 operation, not {self.number}")
        if self.std < 0:
            raise ValueError(f"the standard deviation of RandAugment must not be negative, as {self.std:g} is")

    @classmethod
    def parse(cls, text: str) -> "RandAugment":
        """Parses ``9x2`` (magnitude and number) or ``9x2x0.5`` (and standard deviation); else ``ValueError``."""
        number = r"(\d+(?:\.\d+)?)"
        found = re.fullmatch(rf"{number}x(\d+)(?:x{number})?", text.strip())
        if not found:
            raise ValueError(f"RandAugment is magnitude x number, as in 9x2, or with a spread 9x2x0.5, not {text!r}")
        return cls(magnitude=float(found[1]), number=int(found[2]), std=float(found[3] or 0))

    def __str__(self) -> str:
        return f"{self.magnitude:g}x{self.number}" + (f"x{self.std:g}" if self.std else "")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation, drawn for every clip, the same for all its frames.

    Raises ``ValueError`` where a value is out of range.
    """

    flip: float
    """Probability of mirroring a clip."""
    area: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the frame's area in a random crop."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Narrowest and widest crop, width over height."""
    scale_jitter: tuple[int, int] | None = None
    """In place of random resized crops: squares of frames whose short side is resized to this range of pixels."""
    colour_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation."""
    randaugment: RandAugment | None = None
    randaugment_epochs: int | None = None
    """The first so many epochs have RandAugment, the others none; None: all have it."""
    erasing: float = 0.0
    """Probability of replacing a box, the same in all frames, by noise."""

    def __post_init__(self) -> None:
        for name in ("flip", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability, not {getattr(self, name)}")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must be two rising shares within 0..1, not {self.area}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be two rising positive numbers, not {self.ratio}")
        if self.scale_jitter and not 0 < self.scale_jitter[0] <= self.scale_jitter[1]:
            raise ValueError(f"scale_jitter must be two rising numbers of pixels, not {self.scale_jitter}")
        if not 0 <= self.colour_jitter <= 1:
            raise ValueError(f"colour_jitter is a share, not {self.colour_jitter}")

    def of_epoch(self, epoch: int) -> "Augmentation":
        """Returns what clips of an epoch, counted from 0, are augmented by."""
        ended = self.randaugment_epochs is not None and epoch >= self.randaugment_epochs
        return replace(self, randaugment=None, randaugment_epochs=None) if ended else self

    def describe(self, mirroring: str = "") -> str:
        """Returns the augmentation in words, for people; ``mirroring`` is put behind the share of mirrored clips."""
        crops = f"random crops of {_percent(*self.area)} of the frame"
        if self.scale_jitter:
            crops = f"random crops of frames with a short side of {_range(*self.scale_jitter)} pixels"
        parts = [crops, f"{self.flip:.0%} of the clips mirrored{mirroring}" if self.flip else "not mirrored"]
        if self.colour_jitter:
            parts.append(f"brightness, contrast and saturation changed by up to {self.colour_jitter:.0%}")
        if self.randaugment:
            spread = f" ± {self.randaugment.std:g}" if self.randaugment.std else ""
            until = "" if self.randaugment_epochs is None else f" in the first {self.randaugment_epochs} epochs"
            parts.append(
                f"RandAugment with {self.randaugment.number} operations of magnitude "
                f"{self.randaugment.magnitude:g}{spread}{until}"
            )
        if self.erasing:
            parts.append(f"a box erased in {self.erasing:.0%} of the clips")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers and lists, ready for JSON; without ``randaugment_epochs`` where that is None."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("randaugment_epochs", None)}


def _percent(low: float, high: float) -> str:
    return f"{high:.0%}" if low == high else f"{100 * low:g} to {high:.0%}"


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
